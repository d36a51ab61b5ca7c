"""Prompts that say nearly the same: questions that several sets or categories have, in a little different words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._splits import Split

IN_A_ROW: Final = 12
"""Words that alike prompts share in a row; a shorter prompt has one row, of all its words."""
# Rows that more prompts share are of a template, and say nothing of what is asked.
_MOST_SHARING: Final = 6


def rare_rows_of_words(texts: Sequence[str]) -> list[set[int]]:
    """Of each text, the rows of words that it shares with few others; each row has a number."""
    rows = [_rows_of_words(text) for text in texts]
    _, number, count = np.unique(np.concatenate([np.empty(0, np.int64), *rows]), return_inverse=True, return_counts=True)
    is_rare = ((count > 1) & (count <= _MOST_SHARING))[number]
    text_of = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    found: list[set[int]] = [set() for _ in texts]
    for text, row in zip(text_of[is_rare].tolist(), number[is_rare].tolist(), strict=True):
        found[text].add(row)
    return found


def _rows_of_words(text: str) -> npt.NDArray[np.int64]:
    words = re.findall(r"\w+", text.lower())
    starts = range(max(1, len(words) - IN_A_ROW + 1))
    return np.unique(np.array([hash(tuple(words[start : start + IN_A_ROW])) for start in starts], np.int64))


def like_learned(texts: Sequence[str], parts: Sequence[Split]) -> npt.NDArray[np.bool_]:
    """(n,) whether a text shares rare words with one that is learned from when its part is held out."""
    rare = rare_rows_of_words(texts)
    found = np.zeros(len(texts), np.bool_)
    for rest, part in parts:
        learned = set().union(*(rare[row] for row in rest))
        found[part] = [not rare[row].isdisjoint(learned) for row in part]
    return found
