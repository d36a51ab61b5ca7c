"""The errors of a page, and the page as it should be."""

from __future__ import annotations

import difflib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from archroute_edge.config import parse_config
from archroute_edge.errors import ConfigError
from tools.docs.commands_page import commands_page
from tools.docs.console import ROOT, NotRunnable, Shell, commands
from tools.docs.outputs import matches
from tools.docs.pages import Block, Page

GENERATED: Final = {ROOT / "docs" / "commands.md": commands_page}
"""Pages that are made from the code, as a whole."""

PAGES: Final = (ROOT / "README.md", *sorted({*GENERATED, *(ROOT / "docs").glob("*.md")}))
INERT: Final = frozenset({"dockerfile", "js", "make", "mermaid", "swift", "text"})
"""Kinds of block in which nothing is checked."""

_DIFFERING_LINES: Final = 30


@dataclass
class Findings:
    """The errors of a page.

    Args:
        differences: outputs that differ from the commands' present ones; ``text`` corrects them.
        problems: everything else, to be corrected by hand.
        text: the page with the commands' present outputs.
    """

    differences: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    text: str = ""


def check_page(path: Path) -> Findings:
    """Check one page of the repository by running its blocks; a generated page is compared."""
    if path in GENERATED:
        made, there = GENERATED[path](), path.read_text(encoding="utf-8") if path.exists() else ""
        differs = [f"{path.relative_to(ROOT)}: made now, it would be another:\n{_difference(there, made)}"]
        return Findings(differs if made != there else [], text=made)
    try:
        page = Page.read(path)
    except ValueError as exc:
        return Findings(problems=[f"{path.relative_to(ROOT)}: {exc}"], text=path.read_text(encoding="utf-8"))
    return _Check(page).run()


class _Check:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._lines: list[str] = page.text.split("\n")
        self._added = 0
        self._found = Findings()

    def run(self) -> Findings:
        blocks = self._page.blocks
        self._links()
        with tempfile.TemporaryDirectory() as name, Shell(Path(name)) as shell:
            _write_files(Path(name), self._page)
            for block in blocks:
                if block.not_run is None:
                    self._block(block, shell)
            if failure := shell.run_python(self._name, [block for block in blocks if _is_run_as_python(block)]):
                self._found.problems.append(f"{self._name}: its blocks of Python, run one after another: {failure.strip()}")
        self._found.text = "\n".join(self._lines)
        return self._found

    @property
    def _name(self) -> str:
        return self._page.path.relative_to(ROOT).as_posix()

    def _problem(self, line: int, message: str) -> None:
        self._found.problems.append(f"{self._name}:{line}: {message}")

    def _block(self, block: Block, shell: Shell) -> None:
        if block.kind == "console":
            self._console(block, shell)
        elif block.kind == "yaml":
            try:
                parse_config(block.text)
            except ConfigError as exc:
                self._problem(block.line + (exc.line or 0), f"archroute check says: {exc}")
        elif block.kind == "json":
            self._json(block)
        elif block.kind not in INERT | {"python"}:
            self._problem(block.line, f"nothing is known about blocks of the kind {block.kind!r}; is it 'text'?")

    def _console(self, block: Block, shell: Shell) -> None:
        line = block.line + 1
        try:
            for command in commands(block.lines):
                given = shell.run(command.text)
                line += command.n_lines
                if not matches(command.shown, given):
                    difference = _difference(command.shown, given)
                    self._found.differences.append(
                        f"{self._name}:{line}: {command.text}\n  prints something else:\n{difference}"
                    )
                    self._replace(line, command.shown, given)
                line += command.shown.count("\n")
        except NotRunnable as exc:
            self._problem(line, f"cannot be run: {exc}. Say why it is not: <!-- not run: ... --> above the block")

    def _replace(self, line: int, shown: str, given: str) -> None:
        start = line - 1 + self._added
        n_lines = shown.count("\n")
        fresh = [text.rstrip() for text in given.splitlines()]
        self._lines[start : start + n_lines] = fresh
        self._added += len(fresh) - n_lines

    def _json(self, block: Block) -> None:
        try:
            json.loads(block.text)
        except ValueError:
            for number, line in enumerate(block.lines, block.line + 1):
                try:
                    json.loads(line)
                except ValueError as exc:
                    self._problem(number, f"neither JSON nor a line of JSON: {exc}")
                    return

    def _links(self) -> None:
        for line, target in self._page.links():
            name, _, anchor = target.partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            path = self._page.path.parent / name if name else self._page.path
            if not path.exists():
                self._problem(line, f"a link to {target}, which is not there")
            elif anchor and path.suffix == ".md" and anchor not in Page.read(path).anchors():
                self._problem(line, f"a link to {target}: {path.name} has no such heading")


def _is_run_as_python(block: Block) -> bool:
    return block.kind == "python" and block.not_run is None


def _write_files(folder: Path, page: Page) -> None:
    """Provide the files that a page's commands may read: examples and models, those shown in README.md, and the page's own."""
    for name in ("examples", "models"):
        (folder / name).symlink_to(ROOT / name)
    for source in (Page.read(PAGES[0]), page):
        for block in source.blocks:
            if block.file is not None:
                (folder / block.file).write_text(block.text, encoding="utf-8")


def _difference(shown: str, given: str) -> str:
    lines = list(difflib.unified_diff(shown.splitlines(), given.splitlines(), "shown", "printed", lineterm="", n=1))
    return "\n".join(f"    {line}" for line in lines[:_DIFFERING_LINES])
