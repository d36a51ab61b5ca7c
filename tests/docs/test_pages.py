"""Pages taken apart, run, and put right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.docs import checking
from tools.docs.checking import Findings, check_page
from tools.docs.console import NotRunnable, commands
from tools.docs.pages import Page

Check = Callable[[str], Findings]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Checks a text as a page of a repository that has little else."""
    readme = tmp_path / "README.md"
    readme.write_text("```text\n# shared.txt: a file of every page\n```\n", encoding="utf-8")
    (tmp_path / "other.md").write_text("# A heading, with a comma\n", encoding="utf-8")
    monkeypatch.setattr(checking, "ROOT", tmp_path)
    monkeypatch.setattr(checking, "PAGES", (readme,))

    def call(text: str) -> Findings:
        page = tmp_path / "page.md"
        page.write_text(text, encoding="utf-8")
        return check_page(page)

    return call


def test_a_page_that_is_current(check: Check) -> None:
    text = "See [it](other.md).\n\n```console\n$ echo one\none\n$ echo two  # a comment\ntwo\n```\n"
    assert check(text) == Findings(text=text)


def test_an_output_that_differs_is_shown_and_put_right(check: Check) -> None:
    found = check("```console\n$ echo one\n1\nmore\n$ echo two\n$ echo three\nthree\n```\nafter\n")
    assert not found.problems
    assert [text.splitlines()[0] for text in found.differences] == ["page.md:3: echo one", "page.md:6: echo two"]
    assert found.text == "```console\n$ echo one\none\n$ echo two\ntwo\n$ echo three\nthree\n```\nafter\n"


def test_standard_error_is_part_of_the_output(check: Check) -> None:
    assert not check("```console\n$ echo one && echo two >&2 && echo three\none\ntwo\nthree\n```\n").differences


def test_what_is_put_right_is_current(check: Check) -> None:
    assert not check(check("```console\n$ echo one\n1\n```\n").text).differences


@pytest.mark.parametrize("command", ["pip install archroute-edge", "make model", "rm -r examples", "echo 'one"])
def test_a_command_that_is_not_run_needs_a_reason(check: Check, command: str) -> None:
    (problem,) = check(f"```console\n$ {command}\n```\n").problems
    assert problem.startswith("page.md:2: cannot be run: ")
    assert not check(f"<!-- not run: it is a test -->\n```console\n$ {command}\n```\n").problems


def test_a_block_of_an_unknown_kind_is_a_problem(check: Check) -> None:
    for kind in ("", "shell", "bash"):
        assert len(check(f"```{kind}\n$ echo one\n```\n").problems) == 1


def test_files_that_a_page_shows_are_there(check: Check) -> None:
    text = "```yaml\n# routes.yaml\nrouting_preferences: [{name: a, description: b}]\n```\n"
    command = "```console\n$ cat routes.yaml\n# routes.yaml\nrouting_preferences: [{name: a, description: b}]\n```\n"
    assert check(text + command) == Findings(text=text + command)
    command = "```console\n$ cat cases.jsonl shared.txt\n{}\n# shared.txt: a file of every page\n```\n"
    text = "<!-- file: cases.jsonl -->\n```json\n{}\n```\n"
    assert check(text + command) == Findings(text=text + command)


def test_blocks_of_python_are_one_program(check: Check) -> None:
    blocks = "```python\nfound = 1\n```\n```python\nimport asyncio\nawait asyncio.sleep(0)\nassert found == {}\n```\n"
    assert not check(blocks.format(1)).problems
    (problem,) = check(blocks.format(2)).problems
    assert 'File "page.md", line 7' in problem
    assert "AssertionError" in problem


def test_configurations_are_checked(check: Check) -> None:
    (problem,) = check("```yaml\nroutes: []\n```\n").problems
    assert problem.startswith("page.md:2: archroute check says: ")


def test_json_is_read_as_one_value_or_line_by_line(check: Check) -> None:
    assert not check('```json\n{\n  "a": 1\n}\n```\n```json\n{"a": 1}\n{"b": 2}\n```\n').problems
    (problem,) = check('```json\n{"a": 1}\n{"b": ...}\n```\n').problems
    assert problem.startswith("page.md:3: ")


def test_links_lead_somewhere(check: Check) -> None:
    sound = "[a](other.md) [b](other.md#a-heading-with-a-comma) [c](#here) [d](https://example.com/x)\n\n# Here\n"
    assert not check(sound + "```text\n[not](a-link.md)\n```\n").problems
    for target in ("missing.md", "missing.png", "other.md#nothing", "#nothing"):
        assert len(check(f"[a]({target})\n").problems) == 1
    assert len(check('<source srcset="missing.svg">\n').problems) == 1


def test_a_block_without_an_end_is_a_problem(check: Check) -> None:
    assert len(check("```text\nfor ever\n").problems) == 1


def test_a_backslash_continues_a_command() -> None:
    found = list(commands(["$ echo one \\", "    two", "one two", "$ echo three"]))
    assert [(each.text, each.shown, each.n_lines) for each in found] == [
        ("echo one \\\n    two", "one two\n", 2),
        ("echo three", "", 1),
    ]
    with pytest.raises(NotRunnable):
        list(commands(["one two"]))


def test_indented_blocks_are_read_without_their_indent(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("- a\n\n  ```text\n  one\n    two\n  ```\n", encoding="utf-8")
    (block,) = Page.read(path).blocks
    assert (block.kind, block.line, block.text) == ("text", 3, "one\n  two\n")


def test_a_server_runs_while_its_page_is_checked(check: Check) -> None:
    routes = "```yaml\n# routes.yaml\nrouting_preferences: [{name: travel, description: trips and hotels}]\n```\n"
    text = (
        "```console\n$ archroute serve --config routes.yaml --model mini --threads 1\n"
        "listening on http://127.0.0.1:8642, model mini, 1 route of routes.yaml\n```\n"
        "```console\n$ curl -s localhost:8642/readyz\n{...}\n```\n"
    )
    assert check(routes + text) == Findings(text=routes + text)
