"""The texts that a sentence encoder reads, and the numbers that turn its cosines into probabilities.

An encoder is trained on texts made here and must be asked with texts made here, so a GGUF says which version of them it
knows (``archroute.encoder.text_format``). A change to what is made here is a new version.

Hubness: among many texts, a few are near to nearly everything and would be the nearest to too many messages. Cross-domain
similarity local scaling (Conneau et al. 2018, "Word translation without parallel data", section 2.3) lowers the similarity to a
point by the mean of its similarities to its nearest neighbours on the other side. The neighbours are sought among messages that
the encoder's training chose, whose vectors come with the model, in its GGUF. The method also
subtracts a term for each message; it changes no order of routes, so it is left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.conversation import TrimmedConversation, Turn
from archroute_edge.engine import GGUFHeader, MetadataArray, Vectors, inner_products
from archroute_edge.errors import ModelFileError
from archroute_edge.routes import Route

logger = logging.getLogger(__name__)

TEXT_FORMAT_KEY: Final = "archroute.encoder.text_format"
SCALE_KEY: Final = "archroute.encoder.scale"
OTHER_COSINE_KEY: Final = "archroute.encoder.other_cosine"
OTHER_ROUTES_KEY: Final = "archroute.encoder.other_routes"
OTHER_NEARNESS_KEY: Final = "archroute.encoder.other_nearness"
OTHER_KNOWN_KEY: Final = "archroute.encoder.other_known"
TOPICS_KEY: Final = "archroute.encoder.other_topics"
TOPIC_SHIFT_KEY: Final = "archroute.encoder.topic_shift"
SWITCH_OVER_KEY: Final = "archroute.encoder.switch_over"
HUBNESS_WEIGHT_KEY: Final = "archroute.encoder.hubness_weight"
HUBNESS_NEIGHBOURS_KEY: Final = "archroute.encoder.hubness_neighbours"
REFERENCES_KEY: Final = "archroute.encoder.references"

INT8: Final = 1
FLOAT32: Final = 6
"""Types of an array's elements in GGUF."""

USUAL_ROUTES: Final = 8
"""The number of routes at which ``other_routes`` changes nothing."""

TEXT_FORMAT: Final = 1
"""The version of the texts that this module makes."""

EARLIER_MESSAGES: Final = 3
"""How many user messages before the last one are read along with it. Of the replies only the last one is read: older
ones hide that the talk has come to another subject, or to its end."""

EARLIER: Final = "earlier: "
"""Stands before each of those: an encoder's tokenizer drops line breaks, and would not see where a message begins."""

EARLIER_WORDS: Final = 32
"""Words of each of those; the middle of a longer one is left out."""

LAST_WORDS: Final = 200
"""Words of the last user message; the middle of a longer one is left out."""

_HEAD_SHARE: Final = 0.6
# Cosines, what is added to them, and products with topics are of the size of 1.
_FAR: Final = 100.0
_ELLIPSIS: Final = " … "
# A character of a script that is written without spaces between words counts as a word, and so does every further 16
# characters of a run that no space ends: what is kept is then bounded in tokens, whatever was written.
_WORD: Final = re.compile(
    "[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
    "|[^\\s\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]{1,16}"
)
# Nothing further from a text's ends than this many characters a word is looked at, so that megabytes cost nothing.
_CHARACTERS_A_WORD: Final = 64
_SEPARATOR: Final = re.compile(r"(?<=\w)[-/:]+(?=\w)|(?<=\w\w)\.(?=\w\w)|_+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")


def route_text(route: Route) -> str:
    """The text of a route: its name in words, and its description, if any, behind a colon."""
    words, description = name_in_words(route.name), route.description.strip()
    return f"{words}: {description}" if description else words


def name_in_words(name: str) -> str:
    """``bug_fixing``, ``bug-fixing`` and ``bugFixing`` as ``bug fixing`` and ``bug Fixing``.

    Capitals within words stay if the name has spaces or other separators.
    """
    words = _SEPARATOR.sub(" ", name)
    if not re.search(r"\s", words.strip()):
        words = _CAMEL.sub(" ", words)
    return " ".join(words.split()) or name.strip()


def conversation_window(turns: Sequence[Turn]) -> TrimmedConversation:
    """The turns that an encoder reads, each shortened: the last user turn, up to three before it, and the last reply.

    Args:
        turns: the conversation, oldest first, with at least one user turn. Turns behind the last user turn are not read.
    """
    last = max(index for index, turn in enumerate(turns) if turn.role == "user")
    asked = [index for index in range(last) if turns[index].role == "user"][-EARLIER_MESSAGES:]
    answered = [index for index in range(last) if turns[index].role != "user"][-1:]
    read = [turns[index] for index in sorted((*asked, *answered, last))]
    kept = [replace(turn, content=shorten(turn.content, EARLIER_WORDS)) for turn in read[:-1]]
    kept.append(replace(read[-1], content=shorten(read[-1].content, LAST_WORDS)))
    cut = sum(one.content is not other.content for one, other in zip(kept, read, strict=True))
    return TrimmedConversation(tuple(kept), len(turns) - len(kept), cut)


def conversation_text(turns: Sequence[Turn]) -> str:
    """The text of a conversation: that of its :func:`conversation_window`."""
    return window_text(conversation_window(turns))


def window_text(window: TrimmedConversation) -> str:
    """What an encoder reads: a message a line, the newest first, the others marked as earlier ones.

    An encoder knows a word's place from the beginning of a text. So the message to route stands there, and what is cut off
    at the end of a long text is the oldest. A message all in capitals is read in small letters: the words of a vocabulary
    that tells them apart have few tokens for it.
    """
    *earlier, last = (turn.content.lower() if turn.content.isupper() else turn.content for turn in window.turns)
    return "\n".join([last, *(EARLIER + text for text in reversed(earlier))])


def shorten(text: str, n_words: int) -> str:
    """``text`` in at most ``n_words`` words, with an ellipsis for the middle of a longer one; else ``text`` itself."""
    reach = n_words * _CHARACTERS_A_WORD
    beginning = ending = text
    if len(text) > 2 * reach:
        beginning, ending = text[:reach], text[-reach:]
    elif sum(1 for _ in _WORD.finditer(text)) <= n_words:
        return text
    n_head = int(n_words * _HEAD_SHARE)
    ends = [match.end() for match in islice(_WORD.finditer(beginning), n_head)]
    starts = [match.start() for match in _WORD.finditer(ending)][n_head - n_words :]
    # Long white space alone has no words.
    return beginning[: ends[-1] if ends else 0] + _ELLIPSIS + ending[starts[0] if starts else len(ending) :]


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
        topics=_read_topics(header),
    )


def _read_topics(header: GGUFHeader) -> Vectors | None:
    entry = header.metadata.get(TOPICS_KEY)
    if entry is None:
        return None
    width = header.integer(f"{header.architecture}.embedding_length") or 1
    if not isinstance(entry, MetadataArray) or entry.element_type != FLOAT32 or entry.length % width or not entry.length:
        raise ModelFileError(f"{header.path}: {TOPICS_KEY} has no rows of {width} numbers of type float32; get the file again")
    # The header's check has seen that they are in the file.
    topics = np.fromfile(header.path, "<f4", entry.length, offset=entry.offset).astype(np.float32).reshape(-1, width)
    if not (np.abs(topics) <= _FAR).all():
        raise ModelFileError(f"{header.path}: {TOPICS_KEY} has a number beyond {_FAR:g}; get the file again")
    return topics


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
