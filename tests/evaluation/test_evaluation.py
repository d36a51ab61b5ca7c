"""Running a router over cases: every case once, in an order that reuses prompts, kept as soon as it is there."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge import Router
from archroute_edge.errors import CaseError
from archroute_edge.evaluation import (
    Case,
    Journal,
    compare,
    evaluate,
    evaluation_order,
    finished_results,
    largest_table,
    read_cases,
    report_on,
)
from archroute_edge.routes import Route, RouteTable
from tests.evaluation.labelled_cases import MIXED, case, write_cases, write_shuffled

TABLES = [RouteTable([Route("a"), Route(f"b{number}")]) for number in range(3)]


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    return read_cases(write_cases(tmp_path / "cases.jsonl"))


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([None, "c", "d"]), st.integers(0, 3)), max_size=20))
def test_the_order_keeps_tables_and_conversations_together(drawn: list[tuple[int, str | None, int]]) -> None:
    """A conversation whose turns are far apart is evaluated from its beginning at each of them."""
    cases = [
        Case(line, "hello", TABLES[table], "a", conversation, turn) for line, (table, conversation, turn) in enumerate(drawn)
    ]
    order = evaluation_order(cases)
    assert sorted(order) == list(range(len(cases)))
    tables = [cases[place].table for place in order]
    assert sum(one != two for one, two in itertools.pairwise(tables)) == max(len(set(tables)) - 1, 0)
    for table in set(tables):
        for conversation in ("c", "d"):
            places = [
                (position, cases[place].turn)
                for position, place in enumerate(order)
                if cases[place].table == table and cases[place].conversation_id == conversation
            ]
            assert [turn for _, turn in places] == sorted(turn for _, turn in places)
            assert not places or places[-1][0] - places[0][0] == len(places) - 1


def test_results_are_the_routers_own_in_the_order_of_the_file(random_model: Path, cases: list[Case]) -> None:
    progress: list[tuple[int, int]] = []
    with Router(largest_table(cases), model=random_model) as router:
        results = evaluate(router, cases, on_progress=lambda done, total: progress.append((done, total)))
        decisions = [router.route(case.messages, routes=case.table, scores=True) for case in cases]
    assert [each.line for each in results] == [case.line for case in cases]
    assert [each.expected for each in results] == [case.route for case in cases]
    assert progress == [(done, len(cases)) for done in range(len(cases) + 1)]
    for result, decision in zip(results, decisions, strict=True):
        assert result.decided == decision.route
        assert result.scores == pytest.approx(decision.scores, abs=2e-3)
        assert result.confidence == result.scores[result.decided]
        assert result.scores[result.most_probable] == max(result.scores.values())
        assert (result.tokens, result.trimmed) == (decision.tokens.prompt, decision.trimmed)
    # Later turns reuse what the earlier ones evaluated.
    assert results[3].reused > results[1].tokens // 2


def test_an_interrupt_keeps_what_is_finished(random_model: Path, cases: list[Case], tmp_path: Path) -> None:
    """A run that goes on runs no case twice, and gives what an uninterrupted one gives."""
    run = {"what": "test"}

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with Router(largest_table(cases), model=random_model, prefix_cache=False) as router:
        with Journal(run, resume=False, folder=tmp_path) as journal, pytest.raises(KeyboardInterrupt):
            evaluate(router, cases, journal=journal, on_progress=interrupt)
        seen: list[int] = []
        with Journal(run, resume=True, folder=tmp_path) as journal:
            kept = finished_results(cases, journal)
            resumed = evaluate(router, cases, journal=journal, on_progress=lambda done, _: seen.append(done))
        whole = evaluate(router, cases)
    assert len(kept) == 4
    assert seen == list(range(4, len(cases) + 1))
    assert all(resumed[place] == result for place, result in kept.items())
    for one, two in zip(resumed, whole, strict=True):
        assert (one.line, one.decided, one.tokens) == (two.line, two.decided, two.tokens)
        assert one.scores == pytest.approx(two.scores, abs=2e-3)


def test_a_case_that_cannot_be_decided_is_named(random_model: Path, tmp_path: Path) -> None:
    routes = [{"name": f"route {number}", "description": "words " * 200} for number in range(100)]
    path = write_cases(tmp_path / "cases.jsonl", [*MIXED[:1], case("hello", "other", routes)])
    with (
        Router(TABLES[0], model=random_model) as router,
        pytest.raises(CaseError, match=r"cases\.jsonl:2: the table of 100 routes does not fit"),
    ):
        evaluate(router, read_cases(path), source=str(path))


def test_a_broken_model_shows_and_an_equal_one_does_not(bundled_model: Path, tmp_path: Path) -> None:
    messages = [
        ("my test fails with an IndexError", "bug_fixing"),
        ("why does this function crash with a null pointer?", "bug_fixing"),
        ("write a function that sorts a list", "code_generation"),
        ("generate a script that renames files", "code_generation"),
        ("this loop over a million rows takes ten minutes, how can I make it faster", "performance_optimization"),
        ("thanks, that is all for today", "other"),
    ]
    cases = read_cases(write_cases(tmp_path / "cases.jsonl", [case(*each) for each in messages]))
    files = {
        "whole": bundled_model,
        "equal": Path(shutil.copy(bundled_model, tmp_path / "equal.gguf")),
        "broken": write_shuffled(bundled_model, tmp_path / "broken.gguf"),
    }
    reports: dict[str, Any] = {}
    for name, file in files.items():
        with Router(largest_table(cases), model=file, prefix_cache=False) as router:
            reports[name] = report_on(name, "card", cases, dict(enumerate(evaluate(router, cases))))
    equal = compare(reports["whole"], reports["equal"])
    assert equal.agreement.share == 1
    assert equal.mean_kl == pytest.approx(0, abs=1e-6)
    assert equal.test.p_value == 1
    broken = compare(reports["whole"], reports["broken"])
    assert broken.agreement.right <= 4
    assert broken.mean_kl is not None
    assert broken.mean_kl > 0.5
    assert reports["broken"].accuracy.right < reports["whole"].accuracy.right
