"""Figures of a record that is known, on the terminal, as JSON and as a page."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.record import Entry, Grade, Recorder, Try, Usage, Wanted, grade, open_record
from archroute_edge.record._report import bucket_edges
from archroute_edge.record._traffic import read_traffic
from tests.cli.conftest import Run, run
from tests.record.entries import entry

__all__ = ["run"]

ONE, TWO = "openai/one", "openai/two"


def traffic() -> Iterator[Entry]:
    """200 requests drawn between two targets, of which one fails often and answers slowly; some shadows; 10 decisions."""
    draw = random.Random(1)
    for number in range(200):
        first, second = (ONE, TWO) if number % 4 else (TWO, ONE)
        fails = first == TWO and number % 8 == 0
        slow = 1.5 if first == TWO else 1.0
        tries = [
            Try(first, "openai", 500 if fails else 200, "server_error" if fails else None, slow * draw.uniform(90, 110), 200.0)
        ]
        if fails:
            tries.append(Try(second, "openai", 200, None, 100.0, 200.0))
        answered = tries[-1].model
        yield entry(
            number,
            tries=tuple(tries),
            model=answered,
            first_byte_ms=100.0 + number,
            cost=0.01 if answered == ONE else 0.02,
            default_cost=0.03,
            session=None,
            confidence=number / 200,
            content=None,
        )
        if first == ONE and number < 100:
            copy = Try("ollama/small", "ollama", 200, None, tries[0].first_byte_ms or 0.0 + 50, 300.0)
            yield entry(
                1000 + number, tries=(copy,), model="ollama/small", shadow_of=f"{number:032x}", cost=0.001, content=None
            )
    for number in range(300, 310):
        yield replace(
            Entry(f"{number:032x}", entry(number).time, "route", "completed", 200),
            route="translation",
            confidence=0.5,
            model=TWO,
        )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("record") / "requests.sqlite"
    with closing(Recorder(file)) as recorder:
        for each in traffic():
            recorder.add(each)
        recorder.add(
            entry(400, outcome="failed", status=502, model=None, tries=(), route=None, usage=Usage(), cost=None, content=None)
        )
    grade(file, f"{5:032x}", Grade(0.5, "other", None))
    return file


@pytest.fixture
def report(run: Run, file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("report", "--json", "--record-file", str(file)).stdout)
    return found


def test_the_totals_are_those_of_the_record(report: dict[str, Any]) -> None:
    assert (report["requests"], report["forwarded"], report["aborted"], report["corrected"]) == (211, 201, 0, 1)
    assert report["failed"]["right"] == 1
    assert report["tries"] == 225
    by_one = 175
    spent = by_one * 0.01 + 25 * 0.02
    assert report["money"]["spent"] == pytest.approx(spent)
    assert report["money"]["shadows"] == pytest.approx(75 * 0.001)
    assert report["money"]["default"] == pytest.approx(200 * 0.03)
    assert report["money"]["saved"] == pytest.approx(200 * 0.03 - spent - 0.075)
    assert sum(report["confidence"]) == 211


def test_routes_models_and_targets_are_counted(report: dict[str, Any]) -> None:
    routes = {each["name"]: each for each in report["routes"]}
    assert {name: each["requests"] for name, each in routes.items()} == {"bug_fixing": 200, "translation": 10, "(none)": 1}
    assert routes["bug_fixing"]["tried_again"]["right"] == 25
    assert routes["bug_fixing"]["first_byte_ms"]["p50"] == pytest.approx(199.5)
    assert routes["bug_fixing"]["input_tokens"] == 20_000
    assert routes["bug_fixing"]["cached"] == pytest.approx(0.6)
    assert (routes["bug_fixing"]["score"], routes["bug_fixing"]["graded"]) == (0.5, 1)
    assert routes["translation"]["failed"] is None
    assert {each["name"]: each["requests"] for each in report["models"]} == {ONE: 175, TWO: 35, "(none)": 1}
    targets = {each["model"]: each for each in report["targets"]}
    assert (targets[TWO]["tries"], targets[TWO]["errors"]) == (50, {"server_error": 25})
    assert (targets[ONE]["tries"], targets[ONE]["failed"]["right"]) == (175, 0)


def test_sides_are_compared_by_their_first_tries(report: dict[str, Any]) -> None:
    [sides] = report["sides"]
    assert (sides["place"], sides["incumbent"], sides["model"]) == ("bug_fixing", ONE, TWO)
    assert (sides["incumbent_requests"], sides["requests"]) == (150, 50)
    figures = {each["figure"]: each for each in sides["figures"]}
    assert (figures["failed"]["model"], figures["failed"]["incumbent"]) == (0.5, 0.0)
    assert figures["failed"]["verdict"] == "fails more often"
    assert figures["first_byte_ms"]["verdict"] == "slower"
    low, high = figures["first_byte_ms"]["difference"]["interval"]
    assert low < 50 < high
    assert figures["cost"]["verdict"] == "dearer"
    assert "score" not in figures


def test_a_first_try_fails_only_if_its_target_is_to_blame(tmp_path: Path) -> None:
    """Would break if a side whose clients send nonsense or go away failed more often than the other."""
    answered = Try(TWO, "openai", 200, None, 100.0, 200.0)
    requests: list[tuple[str, list[tuple[int | None, str]], bool]] = [
        ("completed", [(500, "server_error")], True),
        ("failed", [(409, "refused")], False),
        ("failed", [(200, "refused")], False),
        ("failed", [(None, "overloaded")], False),
        ("failed", [(400, "timeout")], True),
        ("aborted", [(None, "aborted")], False),
        ("aborted", [(500, "server_error"), (None, "aborted")], True),
    ]
    with closing(Recorder(tmp_path / "requests.sqlite")) as recorder:
        for number, (outcome, failures, _) in enumerate(requests):
            tries = [Try(ONE, "openai", status, word, None, 1.0) for status, word in failures]
            recorder.add(entry(number, outcome=outcome, tries=(*tries, *[answered] * (outcome == "completed")), content=None))
    with open_record(tmp_path / "requests.sqlite") as record:
        assert read_traffic(record, Wanted()).first_try_failed.tolist() == [failed for _, _, failed in requests]


def test_shadows_stand_beside_what_they_repeat(report: dict[str, Any]) -> None:
    [pairs] = report["shadows"]
    assert (pairs["model"], pairs["shadow"], pairs["pairs"]) == (ONE, "ollama/small", 75)
    assert (pairs["only_model_failed"], pairs["only_shadow_failed"], pairs["failed_p"]) == (0, 0, 1.0)
    assert pairs["cost"]["value"] == pytest.approx(-0.009)
    assert pairs["verdict"] == "cheaper"


def test_every_request_is_in_a_bucket(report: dict[str, Any]) -> None:
    over_time = report["over_time"]
    assert over_time["unit"] == "hour"
    assert sum(map(sum, over_time["routes"].values())) == sum(map(sum, over_time["models"].values())) == 211
    assert sum(over_time["failed"]) == 1
    assert len(over_time["starts"]) == len(over_time["spent"]) == len(over_time["first_byte_ms"])


def test_the_terminal_and_the_page_say_the_same(run: Run, file: Path, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    shown = run("report", "--record-file", str(file)).stdout
    assert run("report", "--record-file", str(file), "--html", str(html)).exit_code == 0
    page = html.read_text(encoding="utf-8")
    for part in (
        "211 requests",
        "$2.25 spent",
        f"{TWO} (50) against {ONE} (150)",
        "fails more often",
        "ollama/small as a shadow",
    ):
        assert part in shown
        assert part in page
    assert page.count("<svg") >= 7
    assert "src=" not in page and "@import" not in page and "<link" not in page


def test_what_was_saved_is_counted_on_answers_with_both_costs(run: Run, tmp_path: Path) -> None:
    """Would break if a price that is stated for one model alone, or later, turned savings into a loss."""
    file = tmp_path / "requests.sqlite"
    costs = [(1.0, None)] * 25 + [(0.5, 1.0)] * 25 + [(None, 4.0)] * 10
    with closing(Recorder(file)) as recorder:
        for number, (cost, default_cost) in enumerate(costs):
            recorder.add(entry(number, cost=cost, default_cost=default_cost, content=None))
    shown = run("report", "--record-file", str(file)).stdout
    report = json.loads(run("report", "--record-file", str(file), "--json").stdout)
    money = {"spent": 37.5, "priced": 25, "priced_spent": 12.5, "default": 25.0, "saved": 12.5, "unpriced": 35}
    assert {name: report["money"][name] for name in money} == money
    assert [(each["cost"], each["default_cost"]) for each in report["models"]] == [(37.5, 25.0)]
    assert "$37.50 spent; $12.50 for the answers whose cost with the default model is known; all" in shown
    assert "$12.50 saved" in shown


@pytest.mark.parametrize("options", [("--since", "1s"), ("--route", "none")])
def test_a_record_without_such_requests_is_an_error(run: Run, file: Path, options: tuple[str, ...]) -> None:
    until = ("--until", "2001-02-03") if options[0] == "--since" else ()
    result = run("report", "--record-file", str(file), *options, *until)
    assert (result.exit_code, "no such requests" in result.stderr) == (2, True)


@pytest.mark.parametrize("minutes", [0, 8])
def test_few_requests_make_a_page(run: Run, tmp_path: Path, minutes: int) -> None:
    """Of one bucket no curve can be drawn; two are the fewest."""
    file, html = tmp_path / "requests.sqlite", tmp_path / "report.html"
    with closing(Recorder(file)) as recorder:
        recorder.add(Entry("a", 1.0, "route", "completed", 200, route="one"))
        recorder.add(entry(1, time=1.0 + 60 * minutes, content=None))
    found = json.loads(run("report", "--json", "--html", str(html), "--record-file", str(file)).stdout)
    assert (found["requests"], found["forwarded"], found["money"]["spent"]) == (2, 1, 0.0125)
    # It would be the slowest one.
    assert found["routes"][-1]["total_ms"]["p95"] is None
    assert " / –" in run("report", "--record-file", str(file)).stdout
    page = html.read_text(encoding="utf-8")
    assert page.count("<svg") == (2 if minutes == 0 else 6)
    assert "<th>five minutes from" in page


@pytest.mark.parametrize(("span", "unit"), [(60, "minute"), (86_400, "hour"), (40 * 86_400, "day"), (300 * 86_400, "week")])
def test_buckets_cover_the_span(span: float, unit: str) -> None:
    first = datetime.datetime(2026, 3, 20, 13, 37).timestamp()
    found, edges = bucket_edges(first, first + span)
    assert found == unit
    assert edges[0] <= first
    assert edges[-2] <= first + span < edges[-1]
    assert edges == sorted(set(edges))
