"""Kinds that could pass for one another, so that neither is ever a wrong answer by mistake."""

from __future__ import annotations

import random

import torch

from training.mini.catalogue import Catalogue, tells_difficulty
from training.mini.embedding import Encoder
from training.tiny.conversations import of_dialogue
from training.tiny.kinds_bank import Kind

_SEED, _PHRASINGS = 23, 6
# Of all-MiniLM-L6-v2's cosines between two kinds' mean vectors; chosen by reading the pairs around it.
_CLOSE = 0.58
_MAX_TOKENS = 32


def _texts(kind: Kind, rng: random.Random) -> list[str]:
    if kind.dialogues:
        return [of_dialogue(kind, rng, held=False)[-1]["content"] for _ in range(_PHRASINGS)]
    return [kind.request(rng, held=False) for _ in range(_PHRASINGS)]


def related_kinds(catalogue: Catalogue, encoder: Encoder) -> dict[str, frozenset[str]]:
    """For every kind those that are near by definition, and those whose phrasings the encoder puts close to its own."""
    rng = random.Random(_SEED)
    every = catalogue.kinds.values()
    kinds = [kind for kind in every if (kind.train or kind.dialogues) and not tells_difficulty(kind.id)]
    texts = [text for kind in kinds for text in _texts(kind, rng)]
    vectors = encoder.embed(texts, _MAX_TOKENS).view(len(kinds), _PHRASINGS, -1).mean(1)
    cosines = torch.nn.functional.normalize(vectors, dim=-1)
    close = (cosines @ cosines.T) > _CLOSE
    return {
        kind.id: frozenset(kinds[int(n)].id for n in close[row].nonzero()) - {kind.id} | frozenset(kind.near)
        for row, kind in enumerate(kinds)
    }
