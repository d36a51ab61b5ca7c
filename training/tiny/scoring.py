"""Decisions of a checkpoint in PyTorch: the whole prompt once, every possible answer as a branch of it."""

# Without PyTorch its decorators have no types.
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from training.tiny import card_prompt
from training.tiny.losses import attention_mask
from training.tiny.model import Qwen2
from training.tiny.packing import IGNORED, Packer
from training.tiny.questions import Question
from training.tiny.tokenizer import token_id

_TOKENS_AT_ONCE = 8192


def decide(model: Qwen2, tokenizer: Tokenizer, questions: Sequence[Question]) -> list[str]:
    """The answer to each question, a route's name or `other`, as greedy decoding under a grammar finds it."""
    packer = Packer(tokenizer)
    rows = [_row(packer, tokenizer, question) for question in questions]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    decisions = [""] * len(rows)
    while order:
        take = max(1, _TOKENS_AT_ONCE // len(rows[order[-1]][0]))
        chunk, order = order[-take:], order[:-take]
        for number, decision in zip(chunk, _decide_chunk(model, [rows[i] for i in chunk]), strict=True):
            names = [route["name"] for route in questions[number].routes]
            decisions[number] = [*names, card_prompt.OTHER][decision]
    return decisions


_Row = tuple[list[int], list[int], list[int], int]


def _row(packer: Packer, tokenizer: Tokenizer, question: Question) -> _Row:
    tokens = packer.prompt(question.routes, question.messages)
    start = len(tokens)
    positions, segments = list(range(start)), [0] * start
    for number, name in enumerate([*(r["name"] for r in question.routes), card_prompt.OTHER], start=1):
        reply = [*packer.encode(card_prompt.answer(name)), token_id(tokenizer, "<|im_end|>")]
        tokens = tokens + reply
        positions += range(start, start + len(reply))
        segments += [number] * len(reply)
    return tokens, positions, segments, start


@torch.inference_mode()
def _decide_chunk(model: Qwen2, rows: Sequence[_Row]) -> list[int]:
    length = max(len(row[0]) for row in rows)

    def stack(column: int, fill: int) -> torch.Tensor:
        return torch.from_numpy(np.array([row[column] + [fill] * (length - len(row[0])) for row in rows]))  # type: ignore

    tokens, positions, segments = stack(0, 0), stack(1, 0), stack(2, IGNORED)
    states, _, _ = model(tokens, positions, attention_mask(segments))
    return [_walk(model, states[number], row) for number, row in enumerate(rows)]


def _walk(model: Qwen2, states: torch.Tensor, row: _Row) -> int:
    """The answer that is reached by always taking the best of the tokens that some answer goes on with."""
    ids, _, parts, start = row
    where = {part: parts.index(part) for part in range(1, max(parts) + 1)}
    alive = list(where)
    depth = 0
    while len(alive) > 1:
        at = where[alive[0]] + depth - 1 if depth else start - 1
        scores = model.logits(states[at])
        best = max(alive, key=lambda part: (float(scores[ids[where[part] + depth]]), -part))
        alive = [part for part in alive if ids[where[part] + depth] == ids[where[best] + depth]]
        depth += 1
    return alive[0] - 1
