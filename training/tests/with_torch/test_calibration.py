"""The calibration finds the numbers by which the answers were drawn."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
import torch

from archroute_edge.routes import OTHER
from training.mini.harness import Question
from training.mini.scoring import Calibration, Scored, calibrate, carried_over, loss, other_logits, switch_over, tally

TRUE = Calibration(16.0, 0.22, 0.06, 0.25, -0.15, 0.05)


@pytest.fixture(scope="module")
def scored() -> Scored:
    """Questions on tables of all sizes, whose right answers are drawn with the probabilities of TRUE."""
    torch.manual_seed(7)
    sizes = torch.randint(2, 20, (4000,)).tolist()
    cosines = [0.5 * torch.rand(size) for size in sizes]
    n = len(sizes)
    facts = Scored(
        [],
        cosines,
        [torch.zeros(size) for size in sizes],
        [],
        torch.rand(n),
        torch.rand(n),
        0.6 * torch.rand(n, 4) - 0.3,
        [torch.zeros(size).bool() for size in sizes],
    )
    others = other_logits(facts, TRUE)
    drawn = [
        int(torch.multinomial(torch.cat([TRUE.scale * row, other[None]]).softmax(0), 1))
        for row, other in zip(cosines, others, strict=True)
    ]
    right = [index if index < size else -1 for index, size in zip(drawn, sizes, strict=True)]
    questions = [
        Question({str(route): "" for route in range(size)}, "", str(index) if index >= 0 else OTHER, "one set")
        for index, size in zip(right, sizes, strict=True)
    ]
    return replace(facts, questions=questions, right=right)


def test_it_recovers_them(scored: Scored) -> None:
    found = calibrate(scored)
    assert astuple(found) == pytest.approx(astuple(TRUE), rel=0.15, abs=0.05)
    assert loss(scored, found) < loss(scored, Calibration())
    assert loss(scored, found) < loss(scored, TRUE) + 0.002


def test_numbers_that_are_not_fitted_stay(scored: Scored) -> None:
    found = calibrate(scored, (True, True, False, False, False, False))
    assert astuple(found)[2:] == astuple(Calibration())[2:]
    assert astuple(found)[:2] != astuple(Calibration())[:2]


def test_above_the_switch_over_that_share_is_right(scored: Scored) -> None:
    bound = switch_over(scored, TRUE, 0.8)
    others = other_logits(scored, TRUE)
    rows = [torch.cat([TRUE.scale * row, other[None]]) for row, other in zip(scored.cosines, others, strict=True)]
    sure = [
        int(row.argmax()) == right % len(row)
        for row, right in zip(rows, scored.right, strict=True)
        if row.softmax(0).max() >= bound
    ]
    assert 0.3 < bound < 0.99 and sum(sure) >= 0.8 * len(sure) > 0


def test_the_bound_is_carried_over_to_an_encoder_with_larger_cosines(scored: Scored) -> None:
    named = [replace(q, group="nothing fits" if q.label == OTHER else "routes") for q in scored.questions]
    before = replace(scored, questions=named)
    after = replace(before, cosines=[row + 0.1 for row in before.cosines], topics=before.topics + 0.1)
    found = carried_over(TRUE, before, after)
    assert astuple(found) == (16.0, pytest.approx(0.32, abs=0.006), *astuple(TRUE)[2:])
    assert tally(after, TRUE)["nothing fits"][1] < tally(before, TRUE)["nothing fits"][1] - 0.1
    assert tally(after, found)["nothing fits"][1] == pytest.approx(tally(before, TRUE)["nothing fits"][1], abs=0.02)
    assert carried_over(TRUE, before, before) == TRUE
