"""Batches of a training, a function of the seed and the step alone, so that a resumed run continues identically."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from archroute_edge.conversation import read_messages
from archroute_edge.deciders import conversation_text
from training.mini.catalogue import tells_difficulty
from training.mini.languages import LanguageSampler
from training.mini.pairs import Pairs, draw_pairs, open_pairs
from training.mini.tables import Table, TableSampler

# How often the pairs of a step are requests in many languages.
_FOREIGN_PAIRS = 0.3


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
    """One batch of some tables; a kind that could pass for a conversation's own is no wrong answer for it.

    Every request is easy or hard, so the routes that tell these apart are never wrong for one of another table.
    """
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
            fits_one = bool(kind) and not tells_difficulty(kind)
            foreign.append([fits_one and not (s.kinds & could_be) and not tells_difficulty(s.id) for s in subjects])
        start += len(table.routes)
    of_route = np.repeat(np.arange(len(tables)), [len(table.routes) for table in tables])
    own = np.array(owner)[:, None] == of_route[None, :]
    return Batch(texts, routes, np.array(target), own, np.array(foreign) & ~own)


@dataclass(frozen=True)
class Shape:
    """How many tables a step has in English and in many languages, conversations in each, pairs and translations."""

    tables: int
    conversations: int
    foreign_tables: int
    foreign_conversations: int
    pairs: int
    translations: int


@dataclass
class Step:
    """What one worker computes in one step: tables and pairs in English, and the same in many languages."""

    tables: Batch
    foreign: list[Batch]
    pairs: Pairs
    pairs_are_english: bool
    translations: tuple[list[str], list[str]]


def batches(
    sampler: TableSampler, languages: LanguageSampler, shape: Shape, seed: int, span: tuple[int, int], part: int
) -> Iterator[Step]:
    """The steps of `span` (first, behind the last), each made while the one before is trained on.

    `part` tells the streams of several workers apart.
    """

    def make(step: int) -> Step:
        rng = random.Random((seed * 1_000_003 + step) * 16 + part)
        tables = collate([sampler.draw(rng, shape.conversations) for _ in range(shape.tables)], sampler.related)
        foreign = []
        for _ in range(shape.foreign_tables):
            sample = languages.table(rng, shape.foreign_conversations)
            own = np.ones((len(sample.conversations), len(sample.routes)), dtype=bool)
            foreign.append(Batch(sample.conversations, sample.routes, np.array(sample.labels), own, ~own))
        are_english = rng.random() >= _FOREIGN_PAIRS
        if not are_english:
            requests, routes, kinds = languages.pairs(rng, shape.pairs)
            known = [sampler.catalogue.kinds[kind] for kind in kinds]
            pairs = Pairs(requests, routes, open_pairs(known, routes, sampler.related))
        else:
            pairs = draw_pairs(sampler, shape.pairs, rng)
        return Step(tables, foreign, pairs, are_english, languages.parallel(rng, shape.translations))

    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(make, span[0])
        for step in range(*span):
            batch = upcoming.result()
            if step + 1 < span[1]:
                upcoming = pool.submit(make, step + 1)
            yield batch
