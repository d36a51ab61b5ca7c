"""A figure that is listed once is in tables, in JSON and in CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from archroute_edge.errors import SettingsError
from archroute_edge.report import (
    NONE,
    Column,
    Share,
    counted,
    named,
    p95,
    percent,
    printable,
    size,
    table,
    three_digits,
    values,
    write_csv,
)

COLUMNS = (
    Column("name", "level", lambda row: row["name"]),
    Column("", "shown only", lambda row: row["name"].upper(), csv=""),
    Column("path", "", lambda row: Path("a") / row["name"], csv=""),
    Column("is_made", "", lambda row: True),
    Column("quality.accuracy", "accuracy", lambda row: row.get("share"), csv="accuracy"),
    Column("quality.by_tag", "", lambda row: row.get("share") and {1: row["share"]}, csv=""),
)
ROWS = ({"name": "one", "share": Share(1, 4)}, {"name": "two"})


def test_json_has_keys_groups_and_plain_values() -> None:
    one, two = (values(COLUMNS, row) for row in ROWS)
    share = {"right": 1, "total": 4, "share": 0.25, "interval": list(Share(1, 4).interval)}
    assert one == {"name": "one", "path": "a/one", "is_made": True, "quality": {"accuracy": share, "by_tag": {"1": share}}}
    assert json.loads(json.dumps(one)) == one
    assert two["quality"] is None


def test_a_table_has_titles_and_texts() -> None:
    made = table("Levels", named(COLUMNS[:5], "name quality.accuracy"), ROWS, note="n")
    assert (made.headers, made.rows) == (["level", "accuracy"], [["one", "25.0 % (4.6 to 69.9), 1 of 4"], ["two", NONE]])


def test_csv_has_the_number_of_a_figure_and_rows_of_different_columns(tmp_path: Path) -> None:
    rows = [{name: cell for column in COLUMNS if column.key for name, cell in column.csv_cells(row).items()} for row in ROWS]
    assert rows[0] == {"name": "one", "is_made": 1, "accuracy": 0.25}
    write_csv([*rows, {"name": "three", "more": 1}], tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["more"] for row in found] == ["", "", "1"]
    assert (found[0]["accuracy"], found[1]["accuracy"], found[2]["accuracy"]) == ("0.25", "", "")
    with pytest.raises(SettingsError, match="cannot be written"):
        write_csv(rows, tmp_path / "none" / "a.csv")


def test_how_figures_are_written() -> None:
    assert [three_digits(value) for value in (1.234, 12.34, 123.4, 1234.0, None)] == ["1.23", "12.3", "123", "1,234", NONE]
    assert [size(value) for value in (7_200_000, 1_230_000_000, None)] == ["7.2 MB", "1.23 GB", NONE]
    assert (percent(0.9321), percent(None), str(Share(0, 0))) == ("93.2 %", NONE, NONE)
    assert printable("a\nb \x1b[2J" + "c" * 100, 10) == "a b \ufffd[2Jc…"


def test_a_number_of_things() -> None:
    """One is the only number with a singular."""
    found = [counted(number, "route table") for number in (0, 1, 2, 1000)]
    assert found == ["0 route tables", "1 route table", "2 route tables", "1,000 route tables"]


def test_few_samples_have_no_95th_percentile() -> None:
    """Of two it was the largest, or in some programs larger than any."""
    assert p95([1.0] * 18 + [500.0]) is None
    assert p95([1.0] * 19 + [21.0]) == pytest.approx(2.0)
    assert p95(list(range(2001, 0, -1))) == pytest.approx(1901)
    assert p95([1.23456] * 20, 2) == 1.23
