"""XLM-RoBERTa's tokenizer: text to the ids of its likeliest pieces (a unigram model), exactly as the models were trained.

llama.cpp has a tokenizer of this kind, but it replaces other runs of characters than Hugging Face's, and a damaged table of
replacements ends the process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from archroute_edge.engine._charsmap import CharsMap
from archroute_edge.engine._gguf_header import GGUFHeader, read_array, read_numbers
from archroute_edge.engine._model_check import CHARSMAP_KEY, NORMAL, control_tokens
from archroute_edge.engine._tokens import read_tokens
from archroute_edge.errors import ModelFileError

SPACE: Final = "▁"
"""Stands for a space, so before every word, in a piece."""
_UNKNOWN_PENALTY: Final = 10.0
"""By how much a character without a piece is less likely than the least likely piece."""
_WHITE_SPACE: Final = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_BEFORE_A_WORD: Final = re.compile(" (?=[!-~])")
_PART: Final = 4096
"""Letters that are normalised at once, or more up to the next space."""
_FIRST_LOOK: Final = 1024
"""Letters of a word after which its first pieces may be certain."""
_LONGEST_PIECE: Final = 64
"""Letters; published vocabularies have 16 at most, and time grows with them."""
_LONGEST_WORD: Final = 1 << 17
"""Letters; the rest of a longer word is left out, so that no text takes seconds."""


class UnigramTokenizer:
    """Cuts text into the pieces of a vocabulary. Safe to use from several threads.

    Args:
        pieces: the ids of all pieces that text can become, by piece.
        scores: the logarithm of each piece's probability, by id; 0 for what is no piece.
        unknown: the id of characters without a piece; a run of them in a word becomes one token.
        charsmap: the table of replacements; None replaces nothing.
    """

    def __init__(
        self, pieces: Mapping[str, int], scores: Sequence[float], *, unknown: int, charsmap: CharsMap | None = None
    ) -> None:
        self._pieces = pieces
        self._scores = scores
        self._unknown = unknown
        self._unknown_score = min(scores, default=0.0) - _UNKNOWN_PENALTY
        self._longest = max(map(len, pieces), default=1)
        self._charsmap = charsmap

    def tokenize(self, text: str) -> Iterator[int]:
        """The ids of ``text``, one by one, without those that stand around every text; no text becomes a control token.

        No more of a long text is read than they need.
        """
        for part in _parts(text):
            normal = part if self._charsmap is None else self._charsmap.normalise(part)
            for word in _WHITE_SPACE.split(normal):
                if word:
                    yield from self._word((word if word[0] == SPACE else SPACE + word)[:_LONGEST_WORD])

    def _word(self, word: str) -> Iterator[int]:
        # A space's stand-in within begins a word, too.
        if word.find(SPACE, 1) < 0:
            return self._likeliest(word)
        starts = [place for place, character in enumerate(word) if character == SPACE]
        spans = pairwise([*starts, len(word)])
        return (token for begin, end in spans for token in self._likeliest(word[begin:end]))

    def _likeliest(self, word: str) -> Iterator[int]:
        """The pieces of a word whose probabilities have the largest product: Viterbi's algorithm."""
        find, scores, longest = self._pieces.get, self._scores, self._longest
        n_letters = len(word)
        # For each place the best way to it: its score, where its last piece begins, and that piece.
        best = [0.0] + [-math.inf] * n_letters
        begins, tokens = [0] * (n_letters + 1), [self._unknown] * (n_letters + 1)
        look, certain, last = _FIRST_LOOK, 0, -1
        for begin in range(n_letters):
            score = best[begin]
            known = False
            for end in range(begin + 1, min(begin + longest, n_letters) + 1):
                token = find(word[begin:end])
                if token is not None:
                    found = score + scores[token]
                    if found > best[end]:
                        best[end], begins[end], tokens[end] = found, begin, token
                    known = known or end == begin + 1
            end = begin + 1
            if not known and score + self._unknown_score > best[end]:
                best[end], begins[end], tokens[end] = score + self._unknown_score, begin, self._unknown
            if end == look:
                # Every way on leads through one of the last places, which a piece cannot pass over.
                first, certain = certain, _shared_place(range(max(end - longest + 1, certain), end + 1), begins)
                way = self._way(first, certain, begins, tokens, last)
                yield from way
                look, last = 2 * look, way[-1] if way else last
        yield from self._way(certain, n_letters, begins, tokens, last)

    def _way(self, first: int, end: int, begins: Sequence[int], tokens: Sequence[int], last: int) -> list[int]:
        """The tokens between two places, from the end back along ``begins``; ``last`` is the token before them."""
        way = []
        while end > first:
            way.append(tokens[end])
            end = begins[end]
        way.reverse()
        if self._unknown in way:
            before = [last, *way]
            way = [token for place, token in enumerate(way) if token != self._unknown or before[place] != self._unknown]
        return way


def read_unigram(header: GGUFHeader) -> UnigramTokenizer:
    """The tokenizer of a checked GGUF of an XLM-R encoder.

    Raises:
        ModelFileError: its tokens are not distinct, or longer than any that a training makes.
    """
    pieces = read_tokens(header)
    texts = list(pieces)
    beside = np.asarray(read_numbers(header, "tokenizer.ggml.token_type")) != NORMAL
    scores = np.asarray(read_numbers(header, "tokenizer.ggml.scores"), np.float64)
    scores[beside] = 0
    for number in np.flatnonzero(beside).tolist():
        del pieces[texts[number]]
    if max(map(len, pieces), default=0) > _LONGEST_PIECE:
        raise ModelFileError(f"{header.path}: has tokens of more than {_LONGEST_PIECE} letters; the file is damaged")
    charsmap = read_array(header, CHARSMAP_KEY)
    return UnigramTokenizer(
        pieces,
        scores.tolist(),
        unknown=control_tokens(header)[2],
        charsmap=CharsMap(charsmap) if charsmap else None,
    )


def _shared_place(places: Iterable[int], begins: Sequence[int]) -> int:
    """The last place through which the best ways to all of ``places`` lead."""
    reached = set(places)
    while len(reached) > 1:
        last = max(reached)
        reached.remove(last)
        reached.add(begins[last])
    return reached.pop()


def _parts(text: str) -> Iterator[str]:
    """``text`` in parts that can be normalised one by one: each but the first begins with a space before a plain letter."""
    begin = 0
    while (place := _BEFORE_A_WORD.search(text, begin + _PART)) is not None:
        yield text[begin : place.start()]
        begin = place.start()
    yield text[begin:]
