"""The record on the command line: list, show, grade, export, clear."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from archroute_edge.evaluation import read_cases
from archroute_edge.record import Content, Recorder, Try
from tests.cli.conftest import Run
from tests.record.entries import entry, kept

CHAT = '{"messages": [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "my loop fails"}]}'
RESPONSES = '{"input": [{"type": "reasoning"}, {"role": "user", "content": [{"type": "input_text", "text": "hola"}]}]}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three requests: two tries, a failure, a decision alone; and a shadow of the first."""
    failed = {
        "tries": (Try("openai/one", "openai", None, "timeout", None, 60_000.0),),
        "model": None,
        "status": 504,
        "outcome": "failed",
    }
    shadow = {"tries": (Try("ollama/small", "ollama", 200, None, 5.0, 50.0),), "model": "ollama/small", "cost": 0.0}
    file = tmp_path / "requests.sqlite"
    with closing(Recorder(file, keep_content=True)) as recorder:
        recorder.add(entry(1, id="aa" * 16, content=Content(CHAT, "its answer")))
        recorder.add(entry(2, id="bb" * 16, operation="responses", session=None, content=Content(RESPONSES, None), **failed))
        recorder.add(entry(3, id="cc" * 16, operation="route", route="traducción", tries=(), session=None, content=None))
        recorder.add(entry(4, id="dd" * 16, shadow_of="aa" * 16, content=None, **shadow))
    return file


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_list_has_the_newest_last_and_says_what_failed(run: Run, file: Path) -> None:
    heads, *rows = run("log", "--record-file", str(file)).stdout.splitlines()
    assert heads.split()[:5] == ["time", "id", "route", "conf.", "model"]
    assert [row.split()[2] for row in rows] == ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"]
    assert "openai/one: server_error, 500" in rows[0]
    assert "504 failed" in rows[1] and "timeout" in rows[1]
    assert rows[3].endswith("shadow of aaaaaaaa; weights")


def test_the_list_is_filtered(run: Run, file: Path) -> None:
    def ids(*options: str) -> list[str]:
        found = run("log", "--record-file", str(file), "--json", *options).stdout.splitlines()
        return [json.loads(line)["id"][:1] for line in found]

    assert ids("--failed") == ["a", "b"]
    assert ids("--route", "traducción") == ["c"]
    assert ids("--model", "ollama/small", "--status", "200") == ["d"]
    assert ids("--since", "2027-01-15T08:02:30Z", "--until", "2027-01-15T10:03:30+02:00") == ["c"]
    assert ids("--limit", "1") == ["d"]
    assert ids("--until", "1s") == ids("--until", "2001-02-03") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("log", "--record-file", "no/such"), "no such record"),
        (("log", "--since", "yesterday"), "is no time"),
        (("log", "clear", "--before", "999999d"), "'999999d' is no time"),
        (("log", "--failed", "clear"), "put the options of clear behind it"),
        (("log", "grade", "aa"), "nothing to keep"),
        (("log", "grade", "aa", "nan"), "SCORE must be a number"),
        (("log", "export"), "nothing to write"),
        (("log", "export", "--outcomes", "f", "--config", "c"), "--config c is for cases"),
        (("serve", "--record-file", "f"), "add --record"),
        (("serve", "--record-max", "1000"), "--record-max bounds the record; add --record"),
        (("serve", "--stdio", "--record"), "--record is for HTTP"),
    ],
)
def test_mistakes_are_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, message in result.stderr, result.stderr.count("\n")) == (2, True, 1)


def test_one_request_is_shown_with_its_grade_and_texts(run: Run, file: Path) -> None:
    assert run("log", "grade", "aa", "0.5", "--note", "too long", "--record-file", str(file)).exit_code == 0
    assert run("log", "grade", "aa", "--route", "other", "--record-file", str(file)).exit_code == 0
    shown = run("log", "show", "aa", "--record-file", str(file)).stdout
    for part in ("scores.bug_fixing    0.75", "try 2                openai/two: 200", "dddddddd ollama/small", "its answer"):
        assert part in shown
    known = json.loads(run("log", "show", "aa", "--json", "--record-file", str(file)).stdout)
    assert known["grade"] == {"score": 0.5, "right_route": "other", "note": "too long"}
    assert run("log", "show", "ee", "--record-file", str(file)).exit_code == 2


def test_cases_can_be_read_by_eval(run: Run, file: Path, routes: str, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    run("log", "grade", "bb", "--route", "traducción", "--record-file", str(file))
    result = run("log", "export", "--cases", str(cases), "--config", routes, "--record-file", str(file))
    assert "2 cases (left out: 1 without texts)" in result.stderr
    first, second = lines(cases)
    assert first["messages"] == [{"role": "user", "content": "my loop fails"}]
    assert (first["route"], first["tags"], first["conversation_id"], first["turn"]) == (
        "bug_fixing",
        ["unverified"],
        "ab" * 16,
        1,
    )
    assert (second["messages"], second["route"]) == ([{"role": "user", "content": "hola"}], "traducción")
    assert second["tags"] == ["verified"]
    assert [each.table.names for each in read_cases(cases)] == [("bug_fixing", "traducción")] * 2


def test_cases_need_texts(run: Run, file: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    result = run("log", "export", "--cases", str(cases), "--route", "traducción", "--record-file", str(file))
    assert "no texts were recorded" in result.stderr
    assert not cases.exists()


def test_outcomes_stand_side_by_side(run: Run, file: Path, tmp_path: Path) -> None:
    run("log", "grade", "dd", "0.9", "--record-file", str(file))
    path = tmp_path / "outcomes.jsonl"
    assert run("log", "export", "--outcomes", str(path), "--record-file", str(file)).exit_code == 0
    first, second = lines(path)
    outcomes = first["outcomes"]
    assert isinstance(outcomes, list)
    assert [(each["model"], each["outcome"], each["shadow"]) for each in outcomes] == [
        ("openai/one", "failed", False),
        ("openai/two", "completed", False),
        ("ollama/small", "completed", True),
    ]
    assert [each.get("score") for each in outcomes] == [None, None, 0.9]
    assert [each.get("cost") for each in outcomes] == [None, 0.0125, 0.0]
    assert [each["error"] for each in second["outcomes"]] == ["timeout"]  # type: ignore[attr-defined]


def test_what_is_cleared_is_gone_from_the_file(run: Run, file: Path) -> None:
    assert b"its answer" in file.read_bytes()
    assert "add --yes" in run("log", "clear", "--record-file", str(file)).stderr
    assert (
        "1 request deleted"
        in run("log", "clear", "--before", "2027-01-15T08:01:30Z", "--yes", "--record-file", str(file)).stderr
    )
    assert not any(b"its answer" in each.read_bytes() for each in file.parent.glob("requests*"))
    run("log", "clear", "--yes", "--record-file", str(file))
    assert kept(file) == []
    assert "no such requests" in run("log", "--record-file", str(file)).stderr
