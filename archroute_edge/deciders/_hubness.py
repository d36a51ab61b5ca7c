"""How near a route is to messages of any kind, which is taken off its cosines.

Among many texts a few are near to nearly everything, and would be the nearest to too many messages. Cross-domain similarity
local scaling (Conneau et al. 2018, "Word translation without parallel data", section 2.3) lowers the similarity to a point by
the mean of its similarities to its nearest neighbours on the other side. The neighbours are sought among messages that the
encoder's training chose, whose vectors come with the model, in its GGUF. What the method takes off for a message would change
nothing about which route is the nearest, so that is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.engine import GGUFHeader, MetadataArray, Vectors
from archroute_edge.errors import ModelFileError

HUBNESS_WEIGHT_KEY: Final = "archroute.encoder.hubness_weight"
HUBNESS_NEIGHBOURS_KEY: Final = "archroute.encoder.hubness_neighbours"
REFERENCES_KEY: Final = "archroute.encoder.references"

INT8: Final = 1
"""The type of an array's elements in GGUF."""


@dataclass(frozen=True, eq=False)
class Hubness:
    """What to take off the cosines of routes.

    Args:
        weight: times the mean cosine to the nearest reference messages; 0 to 2.
        neighbours: how many of those count as the nearest.
        references: (messages, width), rows of length 1.
    """

    weight: float
    neighbours: int
    references: Vectors

    def of(self, routes: Vectors) -> npt.NDArray[np.float64]:
        """For each row of ``routes`` (routes, width) what is taken off: (routes,)."""
        cosines = routes.astype(np.float64) @ self.references.astype(np.float64).T
        first = cosines.shape[1] - self.neighbours
        nearest = np.partition(cosines, first, axis=1)[:, first:]
        off: npt.NDArray[np.float64] = self.weight * nearest.mean(axis=1)
        return off


def read_hubness(header: GGUFHeader) -> Hubness | None:
    """What a GGUF says about it; None where it says nothing. The references are whole numbers of 8 bits, row by row.

    Raises:
        ModelFileError: the references are none for vectors of the model's width, or a number is out of its range.
    """
    entry = header.metadata.get(REFERENCES_KEY)
    if entry is None:
        return None
    width = header.integer(f"{header.architecture}.embedding_length") or 1
    if not isinstance(entry, MetadataArray) or entry.element_type != INT8 or entry.length % width or not entry.length:
        raise ModelFileError(f"{header.path}: {REFERENCES_KEY} has no rows of {width} numbers of 8 bits; get the file again")
    # The header's check has seen that they are in the file.
    rows = np.fromfile(header.path, np.int8, entry.length, offset=entry.offset).astype(np.float32).reshape(-1, width)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ModelFileError(f"{header.path}: {REFERENCES_KEY} has a row of zeros; get the file again")
    weight, neighbours = header.metadata.get(HUBNESS_WEIGHT_KEY), header.integer(HUBNESS_NEIGHBOURS_KEY)
    if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 <= weight <= 2:
        raise ModelFileError(f"{header.path}: {HUBNESS_WEIGHT_KEY} is {weight!r}; it must be a number from 0 to 2")
    if neighbours is None or not 1 <= neighbours <= len(rows):
        raise ModelFileError(
            f"{header.path}: {HUBNESS_NEIGHBOURS_KEY} is {neighbours!r}; it must be a whole number from 1 to {len(rows)}"
        )
    return Hubness(float(weight), neighbours, rows / lengths)
