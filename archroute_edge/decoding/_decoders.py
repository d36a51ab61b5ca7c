"""Two ways to pick an answer that give the same one: llama.cpp's grammar sampler, and a fast one of our own.

Greedy decoding under the grammar takes, at each step, the best-scored token that the grammar allows (the lowest id on a
tie). :class:`GrammarDecoder` does that a token at a time. :class:`SpeculativeDecoder` appends the tokens that all
answers share to the prompt, evaluates them together with it, and checks at each position whether they were the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from archroute_edge.decoding._kv_cache import WorkingSequence
from archroute_edge.engine import N_SEQUENCES, GrammarSampler, Logits, Vocabulary
from archroute_edge.errors import EngineError
from archroute_edge.prompts import Answer, common_prefix, to_gbnf

Path = tuple[int, ...]
"""Tokens of an answer from its first on; the empty path stands for the end of the prompt."""

# Each guessed token asks for a row of logits, and an evaluation has room for this many.
_LONGEST_GUESS = N_SEQUENCES - 8
_MOST_STATES = 4096


class AnswerSet:
    """The answers for one route table, as a model's tokens see them.

    Args:
        vocabulary: of the model.
        answers: all texts the model may answer with; none begins another.

    ``canonical`` holds for each answer its tokens as the tokenizer writes it.
    """

    def __init__(self, vocabulary: Vocabulary, answers: Sequence[Answer]) -> None:
        self.answers = tuple(answers)
        self._vocabulary = vocabulary
        self.canonical: tuple[Path, ...] = tuple(self._canonical(answer) for answer in answers)
        self._raw = tuple(answer.raw for answer in answers)
        self._allowed: dict[bytes, tuple[npt.NDArray[np.int32], dict[int, bytes]]] = {}

    def _canonical(self, answer: Answer) -> Path:
        """The answer as the tokenizer writes it; by longest pieces if that is another text (a space put in front)."""
        tokens = tuple(self._vocabulary.tokenize(answer.text))
        rest = answer.raw
        if b"".join(map(self._vocabulary.piece, tokens)) == rest:
            return tokens
        path: list[int] = []
        while rest:
            length = next((n for n in range(len(rest), 0, -1) if rest[:n] in self._vocabulary.tokens_by_piece), 0)
            if not length:
                raise EngineError(f"no token continues the answer {answer.text!r} at {rest!r}; the vocabulary lacks bytes")
            path.append(self._vocabulary.tokens_by_piece[rest[:length]][0])
            rest = rest[length:]
        return tuple(path)

    def alive(self, consumed: bytes) -> list[int]:
        """Indices of the answers that begin with ``consumed``."""
        return [index for index, raw in enumerate(self._raw) if raw.startswith(consumed)]

    def allowed(self, consumed: bytes) -> tuple[npt.NDArray[np.int32], dict[int, bytes]]:
        """The tokens that the grammar allows after ``consumed``: sorted ids, and the piece of each.

        Those are all tokens but end-of-generation whose piece is a non-empty beginning of what is left of an answer.
        """
        known = self._allowed.get(consumed)
        if known is None:
            rests = {self._raw[index][len(consumed) :] for index in self.alive(consumed)}
            beginnings = {rest[:length] for rest in rests for length in range(1, len(rest) + 1)}
            pieces = {token: piece for piece in beginnings for token in self._vocabulary.tokens_by_piece.get(piece, ())}
            known = np.array(sorted(pieces), np.int32), pieces
            if len(self._allowed) < _MOST_STATES:
                self._allowed[consumed] = known
        return known

    def accepts(self, consumed: bytes, token: int) -> bytes | None:
        """The piece of ``token`` if the grammar allows it after ``consumed``, else None.

        Unlike :meth:`allowed` it does not look at the whole vocabulary, which takes a third of a second the first time.
        """
        piece = self._vocabulary.piece(token)
        if not piece or self._vocabulary.is_end_of_generation(token):
            return None
        return piece if any(raw.startswith(consumed + piece) for raw in self._raw) else None

    def guess(self, path: Path, consumed: bytes) -> Path:
        """The tokens that most probably follow ``path``: what all answers that are still possible share."""
        alive = self.alive(consumed)
        rests = [self.canonical[index][len(path) :] for index in alive if self.canonical[index][: len(path)] == path]
        if rests:
            return tuple(common_prefix(rests))[:_LONGEST_GUESS]
        shared = bytes(common_prefix([self._raw[index][len(consumed) :] for index in alive]))
        return tuple(self._vocabulary.tokenize(shared.decode("utf-8", "ignore")))[:_LONGEST_GUESS]

    def shared(self, consumed: bytes) -> bytes:
        """What all answers begin with that begin with ``consumed``."""
        return bytes(common_prefix([self._raw[index] for index in self.alive(consumed)]))

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for."""
        return self._vocabulary.piece(token)

    def routes(self, alive: Sequence[int]) -> set[str]:
        """The routes that the answers at these indices mean."""
        return {self.answers[index].route for index in alive}


@dataclass
class Decoded:
    """What a decoder found: the route, and the logits it saw on the way, (vocabulary size,) after each path."""

    route: str
    path: Path
    observed: dict[Path, Logits] = field(default_factory=dict)


class Decoder(Protocol):
    """Picks the answer that greedy decoding under the grammar gives."""

    def decode(self, work: WorkingSequence, rest: Sequence[int], answers: AnswerSet) -> Decoded:
        """Evaluate ``rest`` of the prompt (at least one token) on ``work`` and pick an answer.

        ``work`` may afterwards hold tokens of the answer behind the prompt's.

        Raises:
            ContextOverflowError: prompt and answer do not fit into the context.
            EngineError: llama.cpp failed.
        """


class SpeculativeDecoder:
    """Guesses the tokens that the answers share, and verifies them in the evaluation that reads the prompt."""

    def decode(self, work: WorkingSequence, rest: Sequence[int], answers: AnswerSet) -> Decoded:
        """See :meth:`Decoder.decode`."""
        n_prompt = work.n_tokens + len(rest)
        observed: dict[Path, Logits] = {}
        path: Path = ()
        consumed = b""
        pending = list(rest)
        while True:
            guess = answers.guess(path, consumed)
            first = len(pending) - 1
            rows = work.extend([*pending, *guess], range(first, first + len(guess) + 1))
            for index, row in enumerate(rows):
                observed[path] = row
                token, piece = _best(answers, consumed, row)
                path, consumed = (*path, token), consumed + piece
                routes = answers.routes(answers.alive(consumed))
                if len(routes) == 1:
                    return Decoded(routes.pop(), path, observed)
                if index == len(guess) or token != guess[index]:
                    # The choice is not what was guessed, or nothing was: go on from it.
                    work.truncate(n_prompt + len(path) - 1)
                    pending = [token]
                    break


class GrammarDecoder:
    """llama.cpp's own grammar sampler at temperature 0, one token a step: the reference.

    Args:
        vocabulary: of the model.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def decode(self, work: WorkingSequence, rest: Sequence[int], answers: AnswerSet) -> Decoded:
        """See :meth:`Decoder.decode`."""
        texts = {answer.raw: answer.route for answer in answers.answers}
        observed: dict[Path, Logits] = {}
        path: Path = ()
        consumed = b""
        pending = list(rest)
        with GrammarSampler(self._vocabulary, to_gbnf(answers.answers)) as sampler:
            while consumed not in texts:
                (row,) = work.extend(pending, [len(pending) - 1])
                observed[path] = row
                allowed = np.flatnonzero(sampler.allowed(row))
                if not len(allowed):
                    raise EngineError(f"the grammar allows no token after {consumed!r}; the vocabulary lacks bytes")
                token = int(allowed[row[allowed].argmax()])
                sampler.accept(token)
                path, consumed = (*path, token), consumed + self._vocabulary.piece(token)
                pending = [token]
        return Decoded(texts[consumed], path, observed)


def _best(answers: AnswerSet, consumed: bytes, row: Logits) -> tuple[int, bytes]:
    # If the best of all tokens is allowed, it is the best of the allowed ones, the lowest id on a tie.
    favourite = int(row.argmax())
    piece = answers.accepts(consumed, favourite)
    if piece is not None:
        return favourite, piece
    tokens, pieces = answers.allowed(consumed)
    if not len(tokens):
        raise EngineError(f"no token continues the answer after {consumed!r}; the vocabulary lacks bytes")
    # argmax takes the first of equals, and the ids are sorted.
    token = int(tokens[row[tokens].argmax()])
    return token, pieces[token]
