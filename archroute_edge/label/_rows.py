"""Reading the rows of a file, in pieces, with what is wrong with a row in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from archroute_edge.config import parse_json
from archroute_edge.errors import ConversationError, LabelError, SettingsError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

LONGEST_LINE: Final = 64 << 20
"""Bytes of a line of JSON; a longer one is an error in its place and is not held in memory."""
PIECE_BYTES: Final = 4 << 20
"""A piece ends with the row that makes it this long, in bytes of the file; in Parquet, of the rows as they are read."""
_MISSING: Final = object()


@dataclass(frozen=True)
class Fields:
    """Which fields of a row are read; a name with dots that is no field itself leads into objects.

    Attributes:
        messages: the conversation: a text, or a list of messages.
        id: what names the row; may be missing.
    """

    messages: str = "messages"
    id: str = "id"


@dataclass(frozen=True)
class Row:
    """One conversation of a file, or what is wrong with it.

    Attributes:
        number: of its line, or of its row in Parquet, counted from 1.
        id: what the file calls it, if it does.
        messages: as they stand there.
        error: why there are none.
    """

    number: int
    id: Any = None
    messages: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Piece:
    """Rows that follow each other, and how much of the file has been read with them, from 0 to 1."""

    rows: list[Row]
    share: float


def read_rows(path: Path, fields: Fields, *, is_parquet: bool, at_once: int) -> Iterator[Piece]:
    """The rows of a file, ``at_once`` in a piece at most, and fewer if they are long. Blank lines are none.

    Raises:
        LabelError: the file cannot be read.
    """
    return _read_parquet(path, fields, at_once) if is_parquet else _read_lines(path, fields, at_once)


def _read_lines(path: Path, fields: Fields, at_once: int) -> Iterator[Piece]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size or 1
            rows: list[Row] = []
            n_bytes = 0
            for number, line in _lines(file):
                if line is None:
                    rows.append(Row(number, error=f"line {number}: longer than {LONGEST_LINE >> 20} MiB"))
                elif line.strip():
                    rows.append(_row_of_line(line, number, fields))
                    n_bytes += len(line)
                if len(rows) == at_once or n_bytes >= PIECE_BYTES:
                    yield Piece(rows, min(1.0, file.tell() / size))
                    rows, n_bytes = [], 0
            yield Piece(rows, 1.0)
    except OSError as exc:
        raise LabelError(f"{path}: cannot be read ({exc.strerror or exc})") from exc


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines by number; None in the place of one that is too long."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) <= LONGEST_LINE:
            yield number, line
            continue
        while not line.endswith(b"\n") and (line := file.readline(LONGEST_LINE)):
            pass
        yield number, None


def _row_of_line(line: bytes, number: int, fields: Fields) -> Row:
    place = f"line {number}"
    try:
        value = parse_json(line, place)
    except ConversationError as exc:
        return Row(number, error=str(exc))
    if not isinstance(value, dict):
        return Row(number, error=f'{place}: expected an object with "{fields.messages}"')
    name = _look_up(value, fields.id)
    messages = _look_up(value, fields.messages)
    problem = f'{place}: no "{fields.messages}"' if messages is _MISSING else None
    return Row(number, None if name is _MISSING else name, None if problem else messages, problem)


def _look_up(value: Mapping[str, Any], field: str) -> Any:
    if field in value:
        return value[field]
    first, dot, rest = field.partition(".")
    inside = value.get(first) if dot else None
    return _look_up(inside, rest) if isinstance(inside, Mapping) else _MISSING


def need_pyarrow(what: str) -> None:
    """Go on only if pyarrow is installed.

    Raises:
        SettingsError: it is not; the message begins with ``what`` needs it.
    """
    if find_spec("pyarrow") is None:
        raise SettingsError(f"{what}: Parquet needs pyarrow, which is not installed: pip install 'archroute-edge[parquet]'")


def _read_parquet(path: Path, fields: Fields, at_once: int) -> Iterator[Piece]:
    import pyarrow as pa

    # pyarrow's errors are ValueErrors, OSErrors, NotImplementedErrors (an encoding that it cannot read) and its own.
    try:
        with open_parquet(path) as file:
            columns = [column_of(file.schema_arrow.names, name) for name in (fields.messages, fields.id)]
            if columns[0] is None:
                names = ", ".join(file.schema_arrow.names[:20])
                raise LabelError(f"{path}: no column {fields.messages!r}; it has {names}: name one with --field")
            number, n_rows = 0, file.metadata.num_rows or 1
            batches = file.iter_batches(batch_size=at_once, columns=[each for each in columns if each])
            for batch in chain.from_iterable(map(_short_batches, batches)):
                rows = [_row_of_values(values, each, fields) for each, values in enumerate(_values(batch), number + 1)]
                number += len(rows)
                yield Piece(rows, number / n_rows)
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as exc:
        raise LabelError(f"{path}: cannot be read as Parquet ({' '.join(str(exc).split())[:200]})") from exc


def _row_of_values(values: Mapping[str, Any] | str, number: int, fields: Fields) -> Row:
    if isinstance(values, str):
        return Row(number, error=f"row {number}: {values}")
    messages, name = _look_up(values, fields.messages), _look_up(values, fields.id)
    problem = f"row {number}: no {fields.messages!r}" if messages in (None, _MISSING) else None
    return Row(number, None if name is _MISSING else name, messages if not problem else None, problem)


def _values(batch: pa.RecordBatch) -> list[Mapping[str, Any] | str]:
    """The rows of a batch as Python's values; of a row that has none, what is wrong with it."""
    try:
        found: list[Mapping[str, Any] | str] = batch.to_pylist()
    except (ValueError, OverflowError):
        # One value spoils it for all.
        found = [_values_of_row(batch, number) for number in range(batch.num_rows)]
    return found


def _values_of_row(batch: pa.RecordBatch, number: int) -> Mapping[str, Any] | str:
    values = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = _value(column[number])
        except (ValueError, OverflowError) as exc:
            return f"{name!r} cannot be read ({' '.join(str(exc).split())[:200]})"
    return values


def _value(scalar: pa.Scalar) -> Any:
    """A value as Python has it; of a time that it cannot hold, such as one with nanoseconds, the number that stands for it."""
    import pyarrow as pa

    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        if isinstance(scalar, pa.StructScalar):
            return {name: _value(each) for name, each in scalar.items()}
        if isinstance(scalar, pa.MapScalar):
            return [(_value(each["key"]), _value(each["value"])) for each in scalar.values]
        if isinstance(scalar, (pa.ListScalar, pa.LargeListScalar)):
            return [_value(each) for each in scalar]
        if pa.types.is_temporal(scalar.type):
            return scalar.value
        raise


def _short_batches(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The rows of a batch in batches of about :data:`PIECE_BYTES`, since Python's objects take many times their bytes."""
    n_rows = max(1, batch.num_rows * PIECE_BYTES // max(1, batch.nbytes))
    return (batch.slice(first, n_rows) for first in range(0, batch.num_rows, n_rows))


def open_parquet(path: Path) -> pq.ParquetFile:
    """The Parquet file at ``path``, which is a context manager."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path)


def column_of(names: list[str], field: str) -> str | None:
    """The column of a field, which may be inside it; None if there is none."""
    first = field.partition(".")[0]
    return field if field in names else first if first in names else None
