"""Packs: one route table followed by many conversations that all see it and do not see one another.

The instructions around table and conversation are the same in every prompt. A short pack leaves them out but keeps
their positions empty, which makes a sample several times cheaper; a full pack is the prompt as the router sends it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from training.tiny import card_prompt
from training.tiny.sampling import Case
from training.tiny.tokenizer import token_id

IGNORED = -1


@dataclass
class Pack:
    """Token ids with rotary position and segment (0 the table, 1.. a conversation) each, and the training targets.

    `targets` holds (index, token after it, weight); `pointers` (index where the name starts, index of the last token
    of the right route's description, or 0 for `other`); `senses` (index, row of what an encoder makes of it): at a route's
    end of its description, where a name starts of the request.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    targets: list[tuple[int, int, float]] = field(default_factory=list)
    pointers: list[tuple[int, int]] = field(default_factory=list)
    senses: list[tuple[int, int]] = field(default_factory=list)


class Packer:
    """Turns cases into packs with one tokenizer; `rows` are those of the texts that an encoder was asked about."""

    def __init__(self, tokenizer: Tokenizer, rows: Mapping[str, int] | None = None) -> None:
        self._tokenizer = tokenizer
        self._rows = rows or {}
        self._start = token_id(tokenizer, "<|im_start|>")
        self._end = token_id(tokenizer, "<|im_end|>")
        self._tail = self.encode(card_prompt.TAIL)
        self._instructions = len(self.encode(card_prompt.head([])[0].split("[", 1)[0]))
        self._assistant = [self._end, *self.encode("\n"), self._start]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text (no control token can come of it here: the data holds none of their strings)."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def prompt(self, routes: Sequence[dict[str, str]], messages: Sequence[dict[str, str]]) -> list[int]:
        """The ids of a whole prompt up to the assistant's turn."""
        text, _ = card_prompt.head(routes)
        conversation = self.encode(card_prompt.conversation(messages))
        head = [self._start, *self.encode(text), *conversation, *self._tail]
        return [*head, *self._assistant, *self.encode("assistant\n")]

    def pack(self, case: Case, full: bool, limit: int, rng: random.Random) -> Pack | None:
        """Pack as many conversations as fit in `limit` tokens; None where not one does."""
        text, ends = card_prompt.head(case.routes)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        skipped = 0 if full else self._instructions
        # One more than the token's index in the text: the pack begins with a control token.
        last = [index + 1 - skipped for end in ends if (index := encoding.char_to_token(end)) is not None]
        pack = Pack([self._start, *encoding.ids[skipped:]])
        pack.positions = [0, *range(skipped + 1, len(encoding.ids) + 1)]
        pack.segments = [0] * len(pack.tokens)
        abouts = [route.get("about", "") for route in case.routes]
        pack.senses = [(end, self._rows[about]) for end, about in zip(last, abouts, strict=True) if about in self._rows]
        names = [route["name"] for route in case.routes]
        answers = {name: self.encode("assistant\n" + card_prompt.answer(name)) for name in [*names, card_prompt.OTHER]}
        opening = len(self.encode("assistant\n"))
        weights = {name: _weights(ids, list(answers.values()), opening) for name, ids in answers.items()}
        for number, (messages, label) in enumerate(zip(case.conversations, case.labels, strict=True), start=1):
            said = self.encode(card_prompt.conversation(messages))
            closing = [*(self._tail if full else self._tail[:2]), *self._assistant]
            gap = 0 if full else len(self._tail) - 2
            reply = [*answers[label], self._end]
            if len(pack.tokens) + len(said) + len(closing) + len(reply) > limit:
                if number == 1:
                    return None
                break
            # Now and then the conversation seems longer than it is, so that later positions are known too.
            shift = rng.randrange(600) if rng.random() < 0.1 else 0
            position = len(encoding.ids) + 1 + shift
            positions = list(range(position, position + len(said) + (len(self._tail) if full else 2)))
            last_position = positions[-1] + 1 + gap
            positions += range(last_position, last_position + len(self._assistant) + len(reply))
            base = len(pack.tokens) + len(said) + len(closing)
            pack.tokens += [*said, *closing, *reply]
            pack.positions += positions
            pack.segments += [number] * len(positions)
            for index, weight in enumerate(weights[label], start=0):
                if weight:
                    pack.targets.append((base + index - 1, reply[index], weight))
            branch = weights[label].index(max(weights[label]))
            target = last[names.index(label)] if label != card_prompt.OTHER else 0
            pack.pointers.append((base + branch - 1, target))
            row = self._rows.get(messages[-1].get("phrasing", ""))
            if row is not None:
                pack.senses.append((base + branch - 1, row))
        return pack


def _weights(answer: list[int], answers: list[list[int]], opening: int) -> list[float]:
    """How much each token of an answer (and the end after it) counts: most where other answers part from it.

    The first `opening` tokens belong to the chat template.
    """
    weights = []
    for index, token in enumerate(answer):
        rivals = {other[index] for other in answers if len(other) > index and other[:index] == answer[:index]}
        weights.append(0.0 if index < opening else 1.0 if len(rivals - {token}) else 0.1)
    return [*weights, 0.05]


@dataclass
class Batch:
    """Packs side by side: arrays (B, T) and flat lists of the targets, as indices into B * T."""

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    target_index: np.ndarray
    target_token: np.ndarray
    target_weight: np.ndarray
    pointer_index: np.ndarray
    pointer_target: np.ndarray
    sense_index: np.ndarray
    sense_row: np.ndarray


def collate(packs: Sequence[Pack], length: int) -> Batch:
    """Pad packs to `length` tokens and stack them."""

    def stack(rows: list[list[int]], fill: int) -> np.ndarray:
        return np.array([row + [fill] * (length - len(row)) for row in rows], dtype=np.int64)

    targets = [(number * length + i, t, w) for number, p in enumerate(packs) for i, t, w in p.targets]
    pointers = [(number * length + i, t) for number, p in enumerate(packs) for i, t in p.pointers]
    senses = [(number * length + i, row) for number, p in enumerate(packs) for i, row in p.senses]
    return Batch(
        tokens=stack([p.tokens for p in packs], 0),
        positions=stack([p.positions for p in packs], 0),
        segments=stack([p.segments for p in packs], IGNORED),
        target_index=np.array([t[0] for t in targets]),
        target_token=np.array([t[1] for t in targets]),
        target_weight=np.array([t[2] for t in targets], dtype=np.float32),
        pointer_index=np.array([p[0] for p in pointers]),
        pointer_target=np.array([p[1] for p in pointers]),
        sense_index=np.array([s[0] for s in senses], dtype=np.int64),
        sense_row=np.array([s[1] for s in senses], dtype=np.int64),
    )
