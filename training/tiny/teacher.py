"""A sentence encoder's vectors of phrasings and descriptions, for the model to reproduce.

A label says only which route a phrasing belongs to, and a few thousand phrasings can be learned by heart. To reproduce the
encoder's vectors, the model has to read the words.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from archroute_edge.engine import EmbeddingEngine, LoadedModel
from training.tiny.kinds_bank import Kind

ENCODER = Path(__file__).resolve().parents[1] / "mini" / "teacher-Q8_0.gguf"
_THREADS = 2
_AT_ONCE = 1024
_MOST_TOKENS = 96


@dataclass(frozen=True)
class Lessons:
    """Unit vectors (N, 384), around their common mean, and the row of each text that has one."""

    rows: dict[str, int]
    vectors: Tensor


def lessons_of(kinds: Sequence[Kind], encoder: Path, seed: int) -> Lessons:
    """The encoder's vectors of every phrasing that the training sees, its slots filled once, and of every description."""
    rng = random.Random(seed)
    texts: dict[str, str] = {}
    for kind in kinds:
        texts |= {template: kind.fill(template, rng) for template in kind.train}
        texts |= {description: description for description in kind.descriptions}
    model = LoadedModel(encoder, n_gpu_layers=0, wanted="encoder")
    engine = EmbeddingEngine(model, _THREADS, _MOST_TOKENS)
    try:
        encoded = [engine.encode(text) for text in texts.values()]
        # Texts of like length fill an evaluation best.
        order = sorted(range(len(encoded)), key=lambda n: len(encoded[n].tokens))
        found: list[Tensor] = []
        for first in range(0, len(order), _AT_ONCE):
            found.append(torch.from_numpy(engine.embed([encoded[n] for n in order[first : first + _AT_ONCE]])))
            done = min(first + _AT_ONCE, len(order))
            print(f"\rreading phrasings with {encoder.name}: {done}/{len(order)} ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    finally:
        engine.close()
        model.close()
    vectors = torch.cat(found)[torch.tensor(order).argsort()]
    return Lessons({text: row for row, text in enumerate(texts)}, functional.normalize(vectors - vectors.mean(0), dim=-1))
