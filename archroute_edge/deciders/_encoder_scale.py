"""The numbers in an encoder's GGUF that turn its cosines into probabilities.

Hubness: among many texts, a few are near to nearly everything and would be the nearest to too many messages. Cross-domain
similarity local scaling (Conneau et al. 2018, "Word translation without parallel data", section 2.3) lowers the similarity to a
point by the mean of its similarities to its nearest neighbours on the other side. The neighbours are sought among messages that
the encoder's training chose, whose vectors come with the model, in its GGUF. The method also
subtracts a term for each message; it changes no order of routes, so it is left out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.deciders._encoder_text import TEXT_FORMAT
from archroute_edge.engine import GGUFHeader, MetadataArray, Vectors, inner_products
from archroute_edge.errors import ModelFileError

logger = logging.getLogger(__name__)

TEXT_FORMAT_KEY: Final = "archroute.encoder.text_format"
SCALE_KEY: Final = "archroute.encoder.scale"
OTHER_COSINE_KEY: Final = "archroute.encoder.other_cosine"
OTHER_ROUTES_KEY: Final = "archroute.encoder.other_routes"
OTHER_NEARNESS_KEY: Final = "archroute.encoder.other_nearness"
OTHER_KNOWN_KEY: Final = "archroute.encoder.other_known"
TOPICS_KEY: Final = "archroute.encoder.other_topics"
TOPIC_SHIFT_KEY: Final = "archroute.encoder.topic_shift"
CATCH_ALL_KEY: Final = "archroute.encoder.catch_all"
CATCH_ALL_BOUND_KEY: Final = "archroute.encoder.catch_all_bound"
SWITCH_OVER_KEY: Final = "archroute.encoder.switch_over"
HUBNESS_WEIGHT_KEY: Final = "archroute.encoder.hubness_weight"
HUBNESS_NEIGHBOURS_KEY: Final = "archroute.encoder.hubness_neighbours"
REFERENCES_KEY: Final = "archroute.encoder.references"

INT8: Final = 1
FLOAT32: Final = 6
UINT64: Final = 10
"""Types of an array's elements in GGUF."""
_ROWS: Final = (INT8, UINT64)

USUAL_ROUTES: Final = 8
"""The number of routes at which ``other_routes`` changes nothing."""

# Cosines, what is added to them, and products with topics are of the size of 1.
_FAR: Final = 100.0


@dataclass(frozen=True)
class EncoderScale:
    """The probability of a route is proportional to exp(scale * its cosine), that of ``other`` to exp(:meth:`other`).

    If the model has hubness, that of a route is subtracted from its cosine first.

    Args:
        scale: how much a difference of cosines says; positive.
        other_cosine: the cosine at which ``other`` is as probable as a route, in a table of :data:`USUAL_ROUTES`.
        other_routes: what is added to it, times the natural logarithm of the number of routes over the usual one.
        other_nearness: the same, times the :func:`route_nearness` of the table.
        other_known: the same, times the hubness of the conversation: how near it is to what the encoder was trained on.
        topics: (topics, width), what belongs to no route, such as thanks at the end: ``other`` is more probable the larger the
            product of the conversation's vector with one of them.
        topic_shift: added to these products.
        catch_all: (directions, width), rows of length 1: a route is a catch-all if its cosine with one of them is
            `catch_all_bound` or more. The likeliest catch-all of a table gets the probability of ``other``. None if no route is
            one.
        catch_all_bound: see `catch_all`.
        switch_over: the confidence, 0 to 1, from which a cascade leaves the decision to the encoder.
    """

    scale: float = 20.0
    other_cosine: float = 0.2
    switch_over: float = 0.8
    other_routes: float = 0.0
    other_nearness: float = 0.0
    other_known: float = 0.0
    topic_shift: float = 0.0
    topics: Vectors | None = None
    catch_all: Vectors | None = None
    catch_all_bound: float = 1.0

    def catches_all(self, routes: Vectors) -> npt.NDArray[np.bool_]:
        """Which rows of ``routes`` (routes, width) are vectors of a catch-all: (routes,)."""
        if self.catch_all is None:
            return np.zeros(len(routes), dtype=np.bool_)
        cosines = inner_products(routes.astype(np.float64), self.catch_all.astype(np.float64)).max(axis=1)
        found: npt.NDArray[np.bool_] = cosines >= self.catch_all_bound
        return found

    def other(
        self, conversations: Vectors, n_routes: int, nearness: float, known: npt.NDArray[np.float64] | float
    ) -> npt.NDArray[np.float64]:
        """The logits of ``other`` for the vectors of conversations (conversations, width): (conversations,).

        Args:
            conversations: rows of length 1.
            n_routes: the number of routes in the table.
            nearness: how near they stand to one another.
            known: the hubness of each conversation.
        """
        bound = self.other_cosine + self.other_routes * np.log(n_routes / USUAL_ROUTES) + self.other_nearness * nearness
        logits = np.broadcast_to(self.scale * (bound + self.other_known * known), len(conversations)).astype(np.float64)
        if self.topics is not None:
            products = inner_products(conversations.astype(np.float64), self.topics.astype(np.float64)) + self.topic_shift
            logits = np.logaddexp.reduce(np.column_stack([logits, self.scale * products]), axis=1)
        return logits


def read_encoder_scale(header: GGUFHeader) -> EncoderScale:
    """The scale in a GGUF; the defaults, with a warning in the log, for an encoder that was not made for routing.

    Raises:
        ModelFileError: a number is out of its range, or the encoder was trained on texts of another version.
    """
    version = header.metadata.get(TEXT_FORMAT_KEY, TEXT_FORMAT)
    if version != TEXT_FORMAT or isinstance(version, bool):
        raise ModelFileError(
            f"{header.path}: was trained on texts of version {version!r}, and this archroute-edge makes version {TEXT_FORMAT}; "
            "use the archroute-edge that it was made for"
        )
    usual = EncoderScale()
    if SCALE_KEY not in header.metadata or OTHER_COSINE_KEY not in header.metadata:
        logger.warning(
            "%s: is not calibrated for routing, so how sure it is of a route is a guess and 'other' may come too often or "
            "too seldom",
            header.path,
        )
    return EncoderScale(
        scale=_number(header, SCALE_KEY, usual.scale, 1e-3, 1e4),
        other_cosine=_number(header, OTHER_COSINE_KEY, usual.other_cosine, -_FAR, _FAR),
        switch_over=_number(header, SWITCH_OVER_KEY, usual.switch_over, 0.0, 1.0),
        other_routes=_number(header, OTHER_ROUTES_KEY, 0.0, -_FAR, _FAR),
        other_nearness=_number(header, OTHER_NEARNESS_KEY, 0.0, -_FAR, _FAR),
        other_known=_number(header, OTHER_KNOWN_KEY, 0.0, -_FAR, _FAR),
        topic_shift=_number(header, TOPIC_SHIFT_KEY, 0.0, -_FAR, _FAR),
        topics=_read_rows(header, TOPICS_KEY),
        catch_all=_read_rows(header, CATCH_ALL_KEY),
        catch_all_bound=_number(header, CATCH_ALL_BOUND_KEY, 1.0, -_FAR, _FAR),
    )


def _read_rows(header: GGUFHeader, key: str) -> Vectors | None:
    entry = header.metadata.get(key)
    if entry is None:
        return None
    width = header.integer(f"{header.architecture}.embedding_length") or 1
    if not isinstance(entry, MetadataArray) or entry.element_type != FLOAT32 or entry.length % width or not entry.length:
        raise ModelFileError(f"{header.path}: {key} has no rows of {width} numbers of type float32; get the file again")
    # The header's check has seen that they are in the file.
    rows = np.fromfile(header.path, "<f4", entry.length, offset=entry.offset).astype(np.float32).reshape(-1, width)
    if not (np.abs(rows) <= _FAR).all():
        raise ModelFileError(f"{header.path}: {key} has a number beyond {_FAR:g}; get the file again")
    return rows


def _number(header: GGUFHeader, key: str, default: float, least: float, most: float) -> float:
    value = header.metadata.get(key, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise ModelFileError(f"{header.path}: {key} is {value!r}; it must be a number from {least:g} to {most:g}")
    return float(value)


@dataclass(frozen=True, eq=False)
class Hubness:
    """What to subtract from the cosines of routes.

    Args:
        weight: times the mean cosine to the nearest reference messages; 0 to 2.
        neighbours: how many of those count as the nearest.
        references: (messages, width), rows of length 1.
    """

    weight: float
    neighbours: int
    references: Vectors

    def of(self, routes: Vectors) -> npt.NDArray[np.float64]:
        """What to subtract for each row of ``routes`` (routes, width): (routes,)."""
        return self.weight * self.plain(routes)

    def plain(self, texts: Vectors) -> npt.NDArray[np.float64]:
        """The mean cosine of each row of ``texts`` (texts, width) to its nearest reference messages: (texts,)."""
        # In float32: the rows are in 8 bits, and converting all of them for each conversation would take longer than this.
        cosines = inner_products(texts, self.references)
        first = cosines.shape[1] - self.neighbours
        nearest = np.partition(cosines, first, axis=1)[:, first:]
        mean: npt.NDArray[np.float64] = nearest.mean(axis=1, dtype=np.float64)
        return mean


def route_nearness(routes: Vectors) -> float:
    """How near the routes of a table (routes, width) stand to one another: the mean cosine to the nearest, 0 for one route."""
    if len(routes) < 2:
        return 0.0
    rows = routes.astype(np.float64)
    cosines = inner_products(rows, rows)
    np.fill_diagonal(cosines, -1.0)
    return float(cosines.max(axis=1).mean())


def read_hubness(header: GGUFHeader) -> Hubness | None:
    """The hubness in a GGUF; None if it has none. The references are whole numbers of 8 bits, row by row.

    They may stand by eights in numbers of 64 bits: llama.cpp reads and prints arrays number by number at each load, which took
    longer for a million small numbers than all the rest.

    Raises:
        ModelFileError: the references are none for vectors of the model's width, or a number is out of its range.
    """
    entry = header.metadata.get(REFERENCES_KEY)
    if entry is None:
        return None
    width = header.integer(f"{header.architecture}.embedding_length") or 1
    if not isinstance(entry, MetadataArray) or entry.element_type not in _ROWS or entry.n_bytes % width or not entry.length:
        raise ModelFileError(f"{header.path}: {REFERENCES_KEY} has no rows of {width} numbers of 8 bits; get the file again")
    # The header's check has seen that they are in the file.
    rows = np.fromfile(header.path, np.int8, entry.n_bytes, offset=entry.offset).astype(np.float32).reshape(-1, width)
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
