"""Fitting a calibration: it finds what is there, and its figures are of cases that it was not fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.deciders import TEMPERATURE_LIMITS, tempered
from archroute_edge.errors import CalibrationError
from archroute_edge.evaluation import Case, CaseResult, cross_validate, fit
from archroute_edge.evaluation._calibration_fit import (
    RIGHT_WHERE_SURE,
    assign_folds,
    fit_other_bound,
    fit_switch_over,
    fit_temperature,
)
from archroute_edge.routes import Route, RouteTable

NAMES = ("a", "b", "c", "other")


def drawn(n_cases: int, temperature: float, seed: int = 0) -> tuple[list[dict[str, float]], list[str]]:
    """Scores, and right routes drawn from them made true by ``temperature``."""
    rng = np.random.default_rng(seed)
    scores, expected = [], []
    for row in rng.dirichlet(np.full(len(NAMES), 0.3), n_cases):
        scores.append({name: float(value) for name, value in zip(NAMES, row, strict=True)})
        truth = tempered(scores[-1], temperature)
        expected.append(str(rng.choice(NAMES, p=list(truth.values()))))
    return scores, expected


def results(n_cases: int, temperature: float, seed: int = 0) -> list[CaseResult]:
    found = []
    for line, (scores, expected) in enumerate(zip(*drawn(n_cases, temperature, seed), strict=True), start=1):
        best = max(scores, key=scores.__getitem__)
        found.append(CaseResult(line, expected, best, scores[best], scores, best, None, 1.0, 9, 0, 9, False))
    return found


def cases_of(found: list[CaseResult], n_tables: int, turns: int = 1) -> list[Case]:
    """A case for each result: ``n_tables`` tables in turn, conversations of ``turns`` turns."""
    tables = [RouteTable([*(Route(name) for name in "abc"), Route(f"only in {number}")]) for number in range(n_tables)]
    return [
        Case(each.line, "hello", tables[place // turns % n_tables], each.expected, f"talk {place // turns}", place % turns)
        for place, each in enumerate(found)
    ]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(4000, temperature)) == pytest.approx(temperature, rel=0.08)


def test_a_temperature_stays_within_its_limits() -> None:
    """All right, or all wrong, would send it to 0 or to infinity."""
    least, most = TEMPERATURE_LIMITS
    assert fit_temperature([{"a": 0.6, "other": 0.4}] * 5, ["a"] * 5) == least
    assert fit_temperature([{"a": 0.6, "other": 0.4}] * 5, ["other"] * 5) == most
    assert least <= fit_temperature([{"a": 1.0, "other": 0.0}, {"a": 1.0, "b": 0.0, "other": 0.0}], ["a", "b"]) <= most


def test_the_bound_is_where_other_is_the_better_answer() -> None:
    confidence = [0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.4, 0.6, 0.8, 0.9]
    expected = ["other"] * 7 + ["a"] * 3
    assert fit_other_bound(confidence, ["a"] * 10, expected) == pytest.approx(0.5)
    # What is other already cannot become it.
    assert fit_other_bound(confidence, ["other"] * 10, expected) == 0


def test_there_is_no_bound_where_chance_would_explain_it() -> None:
    assert fit_other_bound([0.1, 0.2, 0.9], ["a"] * 3, ["other", "other", "a"]) == 0
    assert fit_other_bound([0.1, 0.2, 0.9], ["a"] * 3, ["a", "a", "other"]) == 0
    assert fit_other_bound([], [], []) == 0


@pytest.mark.parametrize(("n_tables", "by"), [(1, "conversation"), (2, "conversation"), (7, "route table")])
def test_what_is_alike_is_in_one_fold(n_tables: int, by: str) -> None:
    """A conversation on both sides would be measured with what was fitted to its other turns."""
    found = results(84, 2.0)
    cases = cases_of(found, n_tables, turns=3)
    validated = cross_validate(cases, found, 5)
    assert (validated.by, len(validated.fits)) == (by, 5)
    folds: dict[object, set[int]] = {}
    for case, fold in zip(cases, validated.folds, strict=True):
        folds.setdefault(case.conversation_id, set()).add(fold)
        if by == "route table":
            folds.setdefault(case.table, set()).add(fold)
    assert all(len(each) == 1 for each in folds.values())


def test_a_fold_is_measured_with_what_the_others_gave() -> None:
    """Whatever happens to the cases of a fold, its own calibration stays; the others' moves."""
    found = results(200, 2.0)
    cases = cases_of(found, 1)
    before = cross_validate(cases, found, 4)
    spoiled = [replace(each, expected="other") if fold == 2 else each for each, fold in zip(found, before.folds, strict=True)]
    after = cross_validate(cases, spoiled, 4)
    assert after.folds == before.folds
    assert [one == two for one, two in zip(before.fits, after.fits, strict=True)] == [False, False, True, False]
    assert before.fits[2] == fit([each for each, fold in zip(found, before.folds, strict=True) if fold != 2])


def test_calibration_mends_a_model_that_is_too_sure() -> None:
    found = results(600, 3.0)
    validated = cross_validate(cases_of(found, 1), found)
    assert validated.temperature.nll < validated.before.nll
    assert validated.temperature.ece < validated.before.ece / 2
    assert validated.temperature.accuracy == validated.before.accuracy
    assert validated.to_dict()["before"]["accuracy"] == pytest.approx(validated.before.accuracy.share, abs=1e-6)


def test_one_conversation_cannot_be_held_out_of_itself() -> None:
    found = results(5, 1.0)
    with pytest.raises(CalibrationError, match="5 cases of one conversation"):
        cross_validate(cases_of(found, 1, turns=5), found)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(2, 6))
def test_folds_keep_groups_whole_and_leave_none_empty(groups: list[int], n_folds: int) -> None:
    folds = assign_folds(groups, n_folds)
    assert len(set(zip(groups, folds, strict=True))) == len(set(groups))
    assert set(folds) == set(range(min(n_folds, len(set(groups)))))


def test_a_switch_over_keeps_its_promise_and_gives_nothing_away() -> None:
    """Would break if a cascade relied on an encoder that is wrong too often, or asked the language model for nothing."""
    rng = np.random.default_rng(3)
    confidence = rng.random(2000)
    right = rng.random(2000) < confidence
    found = fit_switch_over(list(confidence), list(right))
    assert found is not None
    assert right[confidence >= found].mean() >= RIGHT_WHERE_SURE
    # Right as often as it is sure: above c the share is (1 + c) / 2.
    assert found == pytest.approx(2 * RIGHT_WHERE_SURE - 1, abs=0.1)
    assert fit_switch_over([0.9, 0.8], [False, True]) is None
    assert fit_switch_over([0.9, 0.8], [True, True]) == 0.8
    # Of one confidence all or none.
    assert fit_switch_over([0.9, 0.9, 0.5], [True, False, True]) is None


def test_held_out_decisions_above_the_switch_over() -> None:
    """The figure that is printed is of cases that the switch-over was not fitted on."""
    found = results(600, 1.0)
    validated = cross_validate(cases_of(found, 4), found)
    assert 0 < validated.sure.share.right < 600
    assert validated.sure.share.right == validated.sure.accuracy.total
    assert (validated.sure.accuracy.share or 0) > 0.9


@pytest.mark.parametrize("probability", [0.9, 0.7, 0.52])
def test_a_switch_over_lets_the_decisions_pass_that_set_it(probability: float) -> None:
    """All are right, at 1, at 1 - 4e-8 and at 0.83: would break if 1 stood for none, or if rounding lifted the bound."""
    scores = {"a": probability, "other": 1 - probability}
    found = [CaseResult(line, "a", "a", probability, scores, "a", None, 1.0, 9, 0, 9, False) for line in range(40)]
    fitted = fit(found)
    assert fitted.switch_over == tempered(scores, fitted.temperature)["a"]
    sure = cross_validate(cases_of(found, 1), found).sure
    assert (sure.share.right, sure.accuracy.right) == (40, 40)
