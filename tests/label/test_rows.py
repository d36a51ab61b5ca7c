"""Rows of files, and what is wrong with them in their places."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archroute_edge.conversation import read_messages
from archroute_edge.errors import LabelError
from archroute_edge.label import Fields, Row, read_rows
from archroute_edge.label import _rows as rows_module
from tests.label.conftest import line


def read(path: Path, fields: Fields | None = None, at_once: int = 3) -> list[Row]:
    pieces = [*read_rows(path, fields or Fields(), is_parquet=path.suffix == ".parquet", at_once=at_once)]
    assert all(len(piece.rows) <= at_once for piece in pieces)
    shares = [piece.share for piece in pieces]
    assert shares == sorted(shares)
    return [row for piece in pieces for row in piece.rows]


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    texts = [line("one", id="a"), "", line("two"), "  \t", line("three", id=[3])]
    rows = read(write(tmp_path / "a.jsonl", "\r\n".join(texts).encode()))
    assert [(row.number, row.id) for row in rows] == [(1, "a"), (3, None), (5, [3])]
    assert rows[0].messages == [{"role": "user", "content": "one"}]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"nonsense", "line 2:1: not JSON"),
        (b"\xff\xfe{}", "line 2: not UTF-8"),
        (b"[" * 100_000, "line 2: JSON that cannot be used"),
        (b"[]", 'line 2: expected an object with "messages"'),
        (b'{"message": "x"}', 'line 2: no "messages"'),
    ],
)
def test_a_bad_line_is_an_error_in_its_place(tmp_path: Path, raw: bytes, said: str) -> None:
    good = line("hello").encode()
    rows = read(write(tmp_path / "a.jsonl", b"\n".join([good, raw, good])))
    assert [row.error is None for row in rows] == [True, False, True]
    assert rows[1].error is not None and rows[1].error.startswith(said)


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "LONGEST_LINE", 1 << 10)
    long = b"x" * 5000
    path = write(tmp_path / "a.jsonl", b"\n".join([line("a").encode(), long, line("b").encode(), long]))
    assert [(row.number, row.error) for row in read(path)] == [
        (1, None),
        (2, "line 2: longer than 0 MiB"),
        (3, None),
        (4, "line 4: longer than 0 MiB"),
    ]


def test_a_piece_of_long_rows_has_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four lines of 64 MiB at once would take the memory that the model needs."""
    monkeypatch.setattr(rows_module, "PIECE_BYTES", 1000)
    texts = ["x" * length for length in (600, 600, 600, 2000, 1, 1)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(line, texts)).encode())
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"messages": texts}), table)
    for file, lengths in ((path, [2, 2, 2]), (table, [1] * 6)):
        pieces = [*read_rows(file, Fields(), is_parquet=file is table, at_once=64)]
        assert [len(piece.rows) for piece in pieces] == lengths
        assert [row.number for piece in pieces for row in piece.rows] == [1, 2, 3, 4, 5, 6]
        assert pieces[-1].share == 1.0


def test_fields_inside_objects(tmp_path: Path) -> None:
    """A line of OpenAI's batches, for instance."""
    first = {"custom_id": "a", "body": {"messages": "hello"}}
    second = {"custom_id": "b", "body.messages": "a name with a dot", "body": {"messages": "not this"}}
    third = {"custom_id": "c", "body": "text"}
    raw = "\n".join(map(json.dumps, (first, second, third))).encode()
    rows = read(write(tmp_path / "a.jsonl", raw), Fields("body.messages", "custom_id"))
    assert [(row.id, row.messages) for row in rows] == [("a", "hello"), ("b", "a name with a dot"), ("c", None)]
    assert rows[2].error == 'line 3: no "body.messages"'


def test_nothing_in_a_file(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl", b"")) == []
    pq.write_table(pa.table({"messages": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == []


CONVERSATIONS: list[Any] = [
    [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "ça va"}],
    None,
    [],
    [{"role": "user", "content": None}],
]


def test_parquet_has_texts_or_lists_of_messages(tmp_path: Path) -> None:
    pq.write_table(pa.table({"messages": ["one", "two"], "id": [7, 8]}), tmp_path / "texts.parquet")
    assert [(row.number, row.id, row.messages) for row in read(tmp_path / "texts.parquet")] == [(1, 7, "one"), (2, 8, "two")]
    table = pa.table({"request": [{"messages": each} for each in CONVERSATIONS]})
    pq.write_table(table, tmp_path / "lists.parquet", row_group_size=3)
    rows = read(tmp_path / "lists.parquet", Fields("request.messages"), at_once=2)
    assert [row.messages for row in rows] == CONVERSATIONS
    assert [row.error for row in rows] == [None, "row 2: no 'request.messages'", None, None]


def test_a_value_of_parquet_that_is_none_costs_its_row(tmp_path: Path) -> None:
    """A text that is not UTF-8. It cost the whole file."""
    texts = pa.StringArray.from_buffers(4, pa.py_buffer(struct.pack("<5i", 0, 1, 2, 3, 4)), pa.py_buffer(b"a\xffbc"))
    table = pa.table({"messages": texts, "id": texts.take(pa.array([0, 2, 1, 3]))})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", at_once=2)
    assert [(row.number, row.id, row.messages) for row in rows] == [
        (1, "a", "a"),
        (2, None, None),
        (3, None, None),
        (4, "c", "c"),
    ]
    said = "cannot be read ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"
    assert [row.error for row in rows] == [None, f"row 2: 'messages' {said}", f"row 3: 'id' {said}", None]


@pytest.mark.parametrize(
    "kind", [pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.time64("ns"), pa.duration("ns"), pa.date32()], ids=str
)
def test_a_time_of_parquet_that_python_cannot_hold_costs_nothing(tmp_path: Path, kind: pa.DataType) -> None:
    """Nanoseconds, or a year beyond 9999: the number that stands for it is as good a name, and nobody reads the others."""
    times = pa.array([1_000_000_001, None, 1000], kind)
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("at", kind), ("all", pa.map_(pa.string(), kind))])
    messages = [[{"role": "user", "content": "hello", "at": time, "all": [("a", time)]}] for time in times]
    table = pa.table({"messages": pa.array(messages, pa.list_(message)), "id": times})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", at_once=2)
    assert [row.error for row in rows] == [None] * 3
    assert [read_messages(row.messages)[0].content for row in rows] == ["hello"] * 3
    assert pa.array([row.id for row in rows], kind).equals(times), "as a column of labels"


def test_parquet_that_is_none_is_one_error_of_the_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"messages": ["text " * 50] * 20_000, "x": range(20_000)}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for number, raw in enumerate([b"", b"PAR1", whole[:-100], whole[:4] + bytes(2000) + whole[2004:], b"{}"]):
        with pytest.raises(LabelError, match=rf"{number}.parquet: cannot be read as Parquet") as caught:
            read(write(tmp_path / f"{number}.parquet", raw))
        assert "\n" not in str(caught.value)
    with pytest.raises(LabelError, match=r"a.parquet: no column 'text'; it has messages, x: name one with --field"):
        read(tmp_path / "a.parquet", Fields("text"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"a.jsonl: cannot be read \(No such file"):
        read(tmp_path / "a.jsonl")
