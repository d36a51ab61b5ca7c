"""Tables on a terminal: no name and no head is broken, whatever the width."""

from __future__ import annotations

import pytest

from archroute_edge.cli.tables import print_tables
from archroute_edge.report import Table

HEADERS = ["level", "size", "bits/weight", *(f"{turn} p50, ms" for turn in ("first", "later", "next", "last", "sixth", "7th"))]
ROWS = [["tiny-Q4_0", "7.2 MB", "5.51", *["1,234.5"] * 6], ["tiny-Q8_0", "10.5 MB", "8.58", *["987.6"] * 6]]


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_a_wide_table_is_drawn_in_parts(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if columns were called "bits…", or a name stood on two lines."""
    monkeypatch.setattr("archroute_edge.cli.tables._WIDTH_ELSEWHERE", columns)
    print_tables([Table("Decisions", HEADERS, ROWS, note="A note.")])
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    words = shown.split()
    assert {word for head in HEADERS for word in head.split()} <= {*words}
    n_parts = sum(line.split()[:1] == ["level"] for line in lines)
    assert n_parts == shown.count("tiny-Q4_0") == shown.count("tiny-Q8_0")
    assert (n_parts == 1) == (columns == 140)
    assert shown.count("1,234.5") == 6
    assert "…" not in shown


def test_a_table_of_words_is_folded_and_a_name_wider_than_the_terminal_is_not_lost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archroute_edge.cli.tables._WIDTH_ELSEWHERE", 30)
    words = Table("The machine", ["what", "value"], [["CPU", "[bold] " + "feature " * 20]], text_columns=2)
    print_tables([words, None, Table("Long", ["level", "size"], [["/" + "x" * 50, "1.0 MB"]])])
    shown = capsys.readouterr().out
    assert shown.count("feature") == 20
    assert "[bold]" in shown
    assert shown.partition("Long")[2].count("x") == 50
    assert "1.0 MB" in shown
