"""The line that says how far a long step is."""

from __future__ import annotations

import io

import pytest

from archroute_edge.cli.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def line(self) -> str:
        """What stands on the line now."""
        return self.getvalue().split("\r")[-1].strip()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved on."""
    now = [1000.0]
    monkeypatch.setattr("archroute_edge.cli.progress.time.monotonic", lambda: now[0])
    return now


def test_time_left_counts_from_where_the_step_began(now: list[float]) -> None:
    """A download that goes on at 90 % would otherwise promise to be done at once."""
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        line("downloading x", 900, 1000)
        now[0] += 10
        line("downloading x", 950, 1000)
        assert terminal.line == "downloading x  95%  0:10 left"
    assert terminal.line == ""


def test_a_step_says_how_long_it_took(now: list[float]) -> None:
    """After a quarter in 30 seconds, 90 are left."""
    terminal = Terminal()
    with ProgressLine(terminal) as line, line.step("converting x") as progress:
        now[0] += 30
        progress(25, 100)
        assert terminal.line == "converting x  25%  1:30 left"
        now[0] += 1
    assert terminal.getvalue().endswith("\rconverting x  done in 0:31\n")


def test_a_step_that_failed_is_not_done() -> None:
    """Nobody should read that a failed conversion was done."""
    terminal = Terminal()
    with pytest.raises(ZeroDivisionError), ProgressLine(terminal) as line, line.step("converting x"):
        raise ZeroDivisionError
    assert "done" not in terminal.getvalue()


def test_elsewhere_a_line_now_and_then(now: list[float]) -> None:
    """A log must not fill with thousands of redrawn lines."""
    log = io.StringIO()
    with ProgressLine(log) as line:
        for done in range(0, 3000, 10):
            line("downloading x", done, 8000)
            now[0] += 0.125
    assert log.getvalue().splitlines() == [
        "downloading x  10%  1:30 left",
        "downloading x  20%  1:20 left",
        "downloading x  30%  1:10 left",
    ]
