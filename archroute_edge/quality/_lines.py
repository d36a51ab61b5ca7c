"""Lines of files from outside: plain or packed with gzip, in UTF-8, within bounds. Each fault is one line with its place."""

from __future__ import annotations

import csv
import gzip
import math
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from archroute_edge.config import parse_json, shorten
from archroute_edge.conversation import replace_surrogates
from archroute_edge.errors import ConversationError, QualityError
from archroute_edge.system import ENOUGH_BYTES, other_kind

STDIN: Final = "-"
"""Stands for standard input where a file is named."""
LONGEST_LINE: Final = 16 << 20
"""Bytes of a line, unpacked."""
LARGEST_FILE: Final = 1 << 30
"""Bytes of a file that is kept in memory or packed, unpacked; a small packed file can hold far more than any disk."""
LARGEST_TABLE: Final = 128 << 20
"""Bytes of a file in CSV, unpacked: a score takes four times as much in memory as it may take there."""

_GZIP: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_RUN: Final = re.compile(r"[+-]?(?:nan|inf|infinity)|n/?a|none|null|-", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A JSON object that is a line of a file.

    Attributes:
        file: the file's name, for messages.
        number: counted from 1.
        fields: the object.
    """

    file: str
    number: int
    fields: dict[str, Any]

    def wrong(self, problem: str) -> QualityError:
        """An error about this line."""
        return wrong(self.file, self.number, problem)

    def name(self, key: str, what: str) -> str:
        """A text that names something; lone surrogates become U+FFFD.

        Raises:
            QualityError: it is missing, no text, blank, or has blanks around it.
        """
        value = self.fields.get(key)
        if not isinstance(value, str):
            raise self.wrong(f"no {key!r}; expected {what}")
        value = replace_surrogates(value)
        problem = problem_of_name(value)
        if problem:
            raise self.wrong(f"{key!r} {problem}; expected {what}")
        return value

    def id(self) -> str | None:
        """What the line is called, a text or a whole number; None if it has no name.

        Raises:
            QualityError: it is called something else.
        """
        value = self.fields.get("id")
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return None if value is None else self.name("id", "a text or a whole number")

    def score(self, value: Any, what: str) -> float:
        """A number from 0 to 1.

        Raises:
            QualityError: it is none.
        """
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(f"no {what}; expected a number from 0 to 1")
        if not 0 <= value <= 1:
            raise self.wrong(f"{what} is {shorten(str(value))[1:-1]}; expected a number from 0 to 1")
        return float(value)


def wrong(file: str, number: int, problem: str) -> QualityError:
    """An error about a line of a file."""
    return QualityError(f"{file} line {number}: {problem}")


def shown(path: Path | str) -> str:
    """A file's name, for messages."""
    return "standard input" if str(path) == STDIN else str(path)


def problem_of_name(name: str) -> str | None:
    """Why something cannot be called this, as the end of a sentence; None if it can."""
    if not name.strip():
        return "is blank"
    return f"is {shorten(name)}, with blanks around it" if name != name.strip() else None


def read_objects(path: Path | str, like: str, largest: int | None = None) -> Iterator[Line]:
    """The JSON objects of a file, one a line. Blank lines are none.

    Args:
        path: of the file; ``-`` is standard input.
        like: how such a line looks, for messages.
        largest: most bytes, unpacked, if the file is kept in memory.

    Raises:
        QualityError: the file cannot be read, or a line is no object.
    """
    file = shown(path)
    for number, line in _lines(path, largest):
        if not line.strip():
            continue
        try:
            value = parse_json(line.rstrip(b"\r\n"), "")
        except ConversationError as exc:
            # Its place is that within the line, which is always line 1.
            problem = str(exc).removeprefix(":1").removeprefix(": ")
            raise wrong(file, number, f"{problem}; expected {like} in UTF-8 on each line") from exc
        if not isinstance(value, dict):
            raise wrong(file, number, f"not a JSON object; expected {like} on each line")
        yield Line(file, number, value)


def read_rows(path: Path | str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file in CSV and the numbers of their first lines. Blank lines are no rows.

    Raises:
        QualityError: the file cannot be read, or is not CSV.
    """
    file = shown(path)
    # Quoted cells may hold line breaks, so rows and lines are counted apart.
    rows = csv.reader(_texts(path, LARGEST_TABLE), strict=True)
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as exc:
            problem = str(exc).partition(" - ")[0]
            raise wrong(file, number, f'not CSV ({problem}); cells are separated by commas, and quoted with ""') from exc
        if row:
            yield number, row


def read_score(file: str, number: int, what: str, cell: str, hint: str = "") -> float:
    """The number from 0 to 1 in a cell of a row.

    Args:
        file: for messages.
        number: the row's line.
        what: whose score it is, for messages.
        cell: its text.
        hint: what to know if it is no number.

    Raises:
        QualityError: it is none.
    """
    if _NOT_RUN.fullmatch(cell.strip()):
        raise wrong(file, number, f"{what}: {shorten(cell)} is written out; leave the cell empty if the model was not run")
    if not _NUMBER.fullmatch(cell):
        raise wrong(file, number, f"{what}: {shorten(cell)} is no number; expected a score from 0 to 1{hint}")
    score = float(cell)
    if not 0 <= score <= 1:
        raise wrong(file, number, f"{what}: {shorten(cell)[1:-1]} is outside 0 to 1; divide scores by the highest possible one")
    # A negative zero is a zero.
    return score + 0.0


def _texts(path: Path | str, largest: int) -> Iterator[str]:
    for number, line in _lines(path, largest):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as exc:
            problem = f"not UTF-8 (byte {exc.start} of the line); save the file as UTF-8"
            raise wrong(shown(path), number, problem) from exc


def _lines(path: Path | str, largest: int | None) -> Iterator[tuple[int, bytes]]:
    """Lines with their ends, by number; a byte order mark is left out."""
    file, number, size = shown(path), 0, 0
    try:
        with ExitStack() as opened:
            source, is_packed = _open(path, opened)
            most = LARGEST_FILE if largest is None and is_packed else largest or math.inf
            while line := source.readline(LONGEST_LINE + 1):
                number += 1
                size += len(line)
                if len(line) > LONGEST_LINE:
                    raise wrong(file, number, f"longer than {LONGEST_LINE >> 20} MiB; expected one prompt or row on each line")
                if size > most:
                    problem = f"beyond the {int(most) >> 20} MiB that are read of such a file"
                    raise wrong(file, number, f"{problem}; split it{', or unpack it' if largest is None else ''}")
                if number == 1:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                    _check_kind(line, file)
                yield number, line
    except EOFError as exc:
        raise wrong(file, number + 1, "the gzip file is cut off here; get it again, whole") from exc
    except (gzip.BadGzipFile, zlib.error) as exc:
        raise wrong(file, number + 1, f"the gzip file is damaged here ({exc}); get it again") from exc
    except OSError as exc:
        raise QualityError(f"{file}: cannot be read ({exc.strerror or exc})") from exc


def _open(path: Path | str, opened: ExitStack) -> tuple[BinaryIO | gzip.GzipFile, bool]:
    """A file to read, and whether it is packed, which its first bytes tell; standard input is not."""
    if str(path) == STDIN:
        return sys.stdin.buffer, False
    file = opened.enter_context(Path(path).open("rb"))  # noqa: SIM115 - the stack closes it
    if file.peek(len(_GZIP))[: len(_GZIP)] == _GZIP:
        return opened.enter_context(gzip.GzipFile(fileobj=file)), True
    return file, False


def _check_kind(first: bytes, file: str) -> None:
    """Refuse a file whose first line belongs to a file of another kind."""
    if first.startswith(_GZIP):
        raise wrong(file, 1, "still packed with gzip; unpack it first, with gzip -dc")
    if first.startswith(_UTF_16) or b"\0" in first[:4]:
        raise wrong(file, 1, "UTF-16 or no text; save the file as UTF-8")
    # An object may begin with any key.
    kind = None if first.lstrip().startswith(b"{") else other_kind(first[:ENOUGH_BYTES])
    if kind is not None:
        raise wrong(file, 1, f"this is {kind}")
