"""The messages from which the hubness of routes is computed: one of every kind that a training may see.

The encoder's decider uses them (`archroute_edge.deciders`). Their vectors are kept beside the checkpoint as 8-bit integers; the
conversion writes them into the GGUF.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from archroute_edge.deciders import Hubness
from tools.convert.sentence_modules import CATCH_ALL, REFERENCES, REFERENCES_FILE, TOPICS
from training.mini.catalogue import Catalogue
from training.mini.embedding import Encoder
from training.mini.tool_tables import AGENTS, TERSE

_SEED = 61
_MAX_TOKENS = 96
# Of all references so many count as the nearest: a kind's own, and those of some kinds around it.
_NEIGHBOURS = 0.025
_LARGEST = 127
# Of these sources one kind in so many: they have so many that the others would count too little.
_THINNED = {"narrow": 2, "tools": 2, "metatool": 2, AGENTS: 6, TERSE: 6}


def reference_texts(catalogue: Catalogue) -> list[str]:
    """A message of each kind that is not held out; of some sources, of one kind in several."""
    rng = random.Random(_SEED)
    kinds = [kind for kind in catalogue.kinds.values() if kind.train and kind.id not in catalogue.held_out]
    thinned = [kind for source, each in _THINNED.items() for kind in [k for k in kinds if k.source == source][::each]]
    kinds = [kind for kind in kinds if kind.source not in _THINNED] + thinned
    return [kind.request(rng, held=False) for kind in kinds]


@dataclass(frozen=True)
class References:
    """Vectors (messages, width) in 8-bit whole numbers, each row in steps of a size of its own."""

    rows: Tensor

    @property
    def neighbours(self) -> int:
        """How many count as the nearest."""
        return max(1, round(_NEIGHBOURS * len(self.rows)))

    def hubness(self, routes: Tensor) -> Tensor:
        """The amount that a weight of 1 subtracts from the cosines of routes (N, width): (N,)."""
        rows = self.rows.numpy().astype(np.float32)
        reckoned = Hubness(1.0, self.neighbours, rows / np.linalg.norm(rows, axis=1, keepdims=True))
        return torch.from_numpy(reckoned.of(routes.numpy())).float()

    def write(self, folder: Path, topics: Tensor, catch_all: Tensor) -> None:
        """Keep them beside a checkpoint; also topics (topics, width) of `other` and the direction (1, width) of catch-alls."""
        beside = {TOPICS: topics.float().contiguous(), CATCH_ALL: catch_all.float().contiguous()}
        save_file({REFERENCES: self.rows.contiguous(), **beside}, folder / REFERENCES_FILE)


def compute_references(encoder: Encoder, texts: list[str]) -> References:
    """An encoder's vectors of the messages."""
    vectors = encoder.embed(texts, _MAX_TOKENS)
    return References((vectors / vectors.abs().amax(1, keepdim=True) * _LARGEST).round().to(torch.int8))


def read_references(folder: Path) -> tuple[References, Tensor]:
    """Those beside a checkpoint, and the direction (1, width) of catch-alls.

    Raises FileNotFoundError if there are none, or the checkpoint was packaged before there was such a direction.
    """
    tensors = load_file(folder / REFERENCES_FILE)
    if CATCH_ALL not in tensors:
        raise FileNotFoundError(f"{folder / REFERENCES_FILE} has no tensor {CATCH_ALL!r}; package the checkpoint again")
    return References(tensors[REFERENCES]), tensors[CATCH_ALL]
