"""A Markdown page taken apart: its fenced blocks, the comments above them, and its links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(r"( *)```(.*)")
_COMMENT: Final = re.compile(r"<!-- (not run|file): (.+) -->")
_NAMED: Final = re.compile(r"(?:#|//) ([\w.-]+\.\w+)\b")
_LINKS: Final = (
    re.compile(r"\]\(([^()\s]+)\)"),
    re.compile(r"""(?:src|srcset|href)="([^"\s]+)"""),
)
_HEADING: Final = re.compile(r"#+ (.+)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        kind: the word behind the fence.
        line: the number of the fence's line, from 1.
        lines: what stands between the fences.
        not_run: why it is not run, as the comment above it has it; None if it is to be run.
        file: the name of the file whose text it is, from the comment above it or from a comment in its first line.
    """

    kind: str
    line: int
    lines: tuple[str, ...]
    not_run: str | None = None
    file: str | None = None

    @property
    def text(self) -> str:
        """All of it, with line breaks."""
        return "".join(f"{line}\n" for line in self.lines)


@dataclass(frozen=True)
class Page:
    """One file: its text and its blocks."""

    path: Path
    text: str
    blocks: tuple[Block, ...] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Page:
        """Read a page.

        Raises:
            ValueError: a fence that is never closed.
        """
        text = path.read_text(encoding="utf-8")
        return cls(path, text, tuple(_blocks(text.split("\n"))))

    def links(self) -> Iterator[tuple[int, str]]:
        """Line numbers and targets of links and pictures outside the blocks."""
        for number, line in self._outside():
            for pattern in _LINKS:
                yield from ((number, target) for target in pattern.findall(line))

    def anchors(self) -> set[str]:
        """The names that GitHub gives to the headings."""
        headings = (_HEADING.fullmatch(line) for _, line in self._outside())
        return {re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-") for heading in headings if heading}

    def _outside(self) -> Iterator[tuple[int, str]]:
        """The numbered lines that belong to no block."""
        inside = {number for block in self.blocks for number in range(block.line, block.line + len(block.lines) + 2)}
        yield from ((number, line) for number, line in enumerate(self.text.split("\n"), 1) if number not in inside)


def _blocks(lines: list[str]) -> Iterator[Block]:
    numbered = iter(enumerate(lines, 1))
    above = ""
    for number, line in numbered:
        fence = _FENCE.fullmatch(line)
        if fence is None:
            above = line
            continue
        indent, kind = fence.groups()
        body = []
        for _, inner in numbered:
            if inner.strip() == "```":
                break
            body.append(inner.removeprefix(indent))
        else:
            raise ValueError(f"line {number}: a block that is never closed")
        comment = _COMMENT.fullmatch(above.strip())
        says = {comment[1]: comment[2]} if comment else {}
        named = _NAMED.match(body[0]) if body else None
        file = says.get("file") or (named[1] if named else None)
        yield Block(kind, number, tuple(body), says.get("not run"), file)
        above = ""
