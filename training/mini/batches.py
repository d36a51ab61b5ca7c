"""Batches of a training, a function of the seed and the step alone, so that a resumed run continues identically."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from archroute_edge.conversation import read_messages
from archroute_edge.deciders import conversation_text
from training.mini.pairs import Pairs, draw_pairs
from training.mini.tables import Table, TableSampler


@dataclass
class Batch:
    """Texts of C conversations and R routes of several tables, and how they belong together.

    `target` (C) is the index among all R routes of the right one, -1 for `other`. `own` (C, R) marks the routes of the
    conversation's own table; `foreign` (C, R) those of other tables that are certainly wrong for it.
    """

    conversations: list[str]
    routes: list[str]
    target: np.ndarray
    own: np.ndarray
    foreign: np.ndarray


def collate(tables: list[Table], related: Mapping[str, frozenset[str]]) -> Batch:
    """One batch of some tables; a kind that could pass for a conversation's own is no wrong answer for it."""
    routes = [text for table in tables for text in table.routes]
    subjects = [subject for table in tables for subject in table.subjects]
    texts: list[str] = []
    target: list[int] = []
    owner: list[int] = []
    foreign: list[list[bool]] = []
    start = 0
    for number, table in enumerate(tables):
        for messages, kind, label in zip(table.conversations, table.kinds, table.labels, strict=True):
            texts.append(conversation_text(read_messages(messages)))
            target.append(start + label if label < len(table.routes) else -1)
            owner.append(number)
            could_be = related.get(kind, frozenset()) | {kind}
            foreign.append([bool(kind) and not (subject.kinds & could_be) for subject in subjects])
        start += len(table.routes)
    of_route = np.repeat(np.arange(len(tables)), [len(table.routes) for table in tables])
    own = np.array(owner)[:, None] == of_route[None, :]
    return Batch(texts, routes, np.array(target), own, np.array(foreign) & ~own)


def batches(
    sampler: TableSampler, shape: tuple[int, int, int], seed: int, span: tuple[int, int], part: int
) -> Iterator[tuple[Batch, Pairs]]:
    """The batches of the steps of `span` (first, behind the last), each made while the one before is trained on.

    `shape` is (tables, conversations a table, pairs); `part` tells the streams of several workers apart.
    """

    def make(step: int) -> tuple[Batch, Pairs]:
        rng = random.Random((seed * 1_000_003 + step) * 16 + part)
        tables = collate([sampler.draw(rng, shape[1]) for _ in range(shape[0])], sampler.related)
        return tables, draw_pairs(sampler, shape[2], rng)

    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(make, span[0])
        for step in range(*span):
            batch = upcoming.result()
            if step + 1 < span[1]:
                upcoming = pool.submit(make, step + 1)
            yield batch
