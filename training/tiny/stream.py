"""An endless stream of training batches, a function of seed and step alone, so that a resumed run continues identically."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from training.tiny.packing import Batch, Pack, Packer, collate
from training.tiny.sampling import Sampler

# How often a table comes from each source.
SOURCES = {"bank": 0.50, "card": 0.12, "clinc150": 0.12, "banking77": 0.06, "sgd": 0.08, "mixed": 0.12}
_CONVERSATIONS = 16


def make_batch(sampler: Sampler, packer: Packer, seed: int, packs: int, length: int, full: bool) -> Batch:
    """The batch of one step: `packs` short packs of at most `length` tokens, or half as many full ones of twice that."""
    if full:
        packs, length = packs // 2, 2 * length
    rng = random.Random(seed)
    made: list[Pack] = []
    while len(made) < packs:
        source = rng.choices(list(SOURCES), list(SOURCES.values()))[0]
        pack = packer.pack(sampler.case(rng, source, _CONVERSATIONS), full, length, rng)
        if pack is not None:
            made.append(pack)
    return collate(made, length)


def batches(
    sampler: Sampler, packer: Packer, shape: tuple[int, int], seed: int, span: tuple[int, int], full_from: float, part: int
) -> Iterator[tuple[int, Batch]]:
    """The steps of `span` (first, behind the last) with their batches, each made while the one before is trained on.

    `shape` is (packs, tokens a pack) of a batch; `part` tells the streams of several workers apart. Every third
    batch is full until the part `full_from` of all steps is done, then all are.
    """
    first, steps = span

    def make(step: int) -> Batch:
        full = step % 3 == 0 or step / steps >= full_from
        return make_batch(sampler, packer, (seed * 1_000_003 + step) * 16 + part, *shape, full)

    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(make, first)
        for step in range(first, steps):
            batch = upcoming.result()
            if step + 1 < steps:
                upcoming = pool.submit(make, step + 1)
            yield step, batch
