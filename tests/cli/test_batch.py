"""``archroute route --batch``: an answer for each line, in order, whatever the others hold."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.cli.conftest import PROGRAM, Run


def line(text: str, **more: object) -> str:
    return json.dumps({"messages": [{"role": "user", "content": text}], **more})


class Batch:
    """Answers the lines of a file."""

    def __init__(self, run: Run, folder: Path, options: tuple[str, ...]) -> None:
        self._run, self._folder, self._options = run, folder, options

    def __call__(self, content: str | bytes, *more: str) -> tuple[Result, list[dict[str, Any]]]:
        path = self._folder / "batch.jsonl"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        result = self._run("route", "--batch", str(path), *self._options, *more)
        return result, [json.loads(answer) for answer in result.stdout.splitlines()]


@pytest.fixture
def batch(run: Run, tmp_path: Path, model: tuple[str, ...], routes: str) -> Batch:
    return Batch(run, tmp_path, (*model, "--config", routes))


def test_a_decision_a_line_in_order(batch: Batch, run: Run, model: tuple[str, ...], routes: str) -> None:
    texts = ["fix my code", "hola", "x" * 50, "fix my code"]
    result, answers = batch("\n".join(map(line, texts)))
    assert result.exit_code == 0
    assert result.stderr == ""
    alone = [json.loads(run("route", text, "--config", routes, *model, "--json").stdout) for text in texts]
    assert [answer["route"] for answer in answers] == [each["route"] for each in alone]
    assert [answer["tokens"]["prompt"] for answer in answers] == [each["tokens"]["prompt"] for each in alone]
    assert list(answers[0]) == list(alone[0])


def test_other_keys_are_ignored(batch: Batch) -> None:
    result, (plain, labelled) = batch(line("hello") + "\n" + line("hello", label="bug_fixing", id=[1, {}]))
    assert result.exit_code == 0
    assert plain["route"] == labelled["route"]


def test_routes_in_a_line_are_for_that_line(batch: Batch) -> None:
    own = [{"name": "only", "description": "everything", "models": ["a/b", "c/d"]}]
    result, answers = batch("\n".join([line("hi"), line("hi", routes=own), line("hi"), line("hi", routes=None)]), "--scores")
    assert result.exit_code == 0
    assert [set(answer["scores"]) for answer in answers] == [
        {"bug_fixing", "traducción", "other"},
        {"only", "other"},
        {"bug_fixing", "traducción", "other"},
        {"bug_fixing", "traducción", "other"},
    ]
    if answers[1]["matched"]:
        assert answers[1]["models"] == ["a/b", "c/d"]


def test_blank_lines_and_line_ends_of_any_kind(batch: Batch) -> None:
    content = "\n" + line("one") + "\r\n   \n\t\n" + line("two") + "\n\n"
    result, answers = batch(content)
    assert result.exit_code == 0
    assert len(answers) == 2


def test_a_byte_order_mark(batch: Batch) -> None:
    result, answers = batch(b"\xef\xbb\xbf" + line("one").encode())
    assert result.exit_code == 0
    assert "route" in answers[0]


def test_an_empty_file(batch: Batch) -> None:
    result, answers = batch("")
    assert (result.exit_code, answers) == (0, [])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"nonsense", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "JSON that cannot be used"),
        (b"[]", 'expected an object with "messages"'),
        (b'{"message": []}', 'expected an object with "messages"'),
        (b'{"messages": [7.5]}', "message 0 is a float"),
        (line("x", routes="bug_fixing").encode(), "routes must be a list, not text"),
        (line("x", routes=[{"name": "a"}] * 2).encode(), "two routes are called 'a'"),
        (line("x", routes=[{"name": "a", "description": "word " * 30_000}]).encode(), "does not fit"),
    ],
)
def test_a_bad_line_is_answered_in_its_place_and_the_others_all_the_same(batch: Batch, bad: bytes, said: str) -> None:
    good = line("hello").encode()
    result, answers = batch(b"\n".join([good, b"", bad, good]))
    assert result.exit_code == 1
    assert len(answers) == 3
    assert set(answers[1]) == {"error"}
    # Lines are counted as an editor counts them, blank ones included.
    assert answers[1]["error"].startswith("line 3")
    assert said in answers[1]["error"]
    assert "\n" not in answers[1]["error"]
    assert answers[0]["route"] == answers[2]["route"]


def test_lone_surrogates_are_answered(batch: Batch) -> None:
    result, answers = batch('{"messages": [{"role": "user", "content": "\\ud800 fix"}]}')
    assert result.exit_code == 0
    assert "route" in answers[0]


def test_stdin(run: Run, model: tuple[str, ...], routes: str) -> None:
    content = f"{line('one')}\nbroken\n{line('two')}\n"
    result = run("route", "--batch", "-", "--config", routes, *model, stdin=content)
    assert result.exit_code == 1
    assert ["error" in json.loads(answer) for answer in result.stdout.splitlines()] == [False, True, False]


@pytest.mark.usefixtures("tried_kernels")
def test_stdin_that_was_read_in_part(tmp_path: Path, model: tuple[str, ...], routes: str) -> None:
    """As in ``(read -r header; archroute route --batch -) < FILE``."""
    path = tmp_path / "batch.jsonl"
    path.write_text(f"a header\n{line('one')}\n")
    with path.open("rb", buffering=0) as file:
        assert file.readline() == b"a header\n"
        command = [*PROGRAM, "route", "--batch", "-", "--config", routes, *model]
        result = subprocess.run(command, stdin=file, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout
    (answer,) = map(json.loads, result.stdout.splitlines())
    assert "route" in answer


def test_later_lines_reuse_what_the_first_evaluated(batch: Batch) -> None:
    _, (first, second) = batch(line("hello") + "\n" + line("goodbye"))
    assert first["tokens"]["reused"] == 0
    assert second["tokens"]["reused"] > 100
