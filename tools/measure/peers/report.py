"""The figures as tables for people and as plain values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tools.measure.peers.figures import quartiles
from tools.measure.peers.question import Reply
from tools.measure.peers.scenarios import Outcome


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """The outcome as plain values for ``json.dumps``, every single time among them."""
    sides = {}
    for name, replies in outcome.replies.items():
        middle = quartiles([reply.seconds for reply in replies])
        sides[name] = {
            "median_s": middle.median,
            "quartiles_s": [middle.lower, middle.upper],
            "seconds": [reply.seconds for reply in replies],
            "prompt": [reply.n_prompt for reply in replies],
            "reused": [reply.n_reused for reply in replies],
            "evaluated": [reply.n_evaluated for reply in replies],
            "answers": [reply.answer for reply in replies],
        }
    comparisons = [
        {
            "quantity": each.quantity,
            "ratio_of_medians": each.ratio,
            "interval_95": list(each.interval),
            "bar": str(each.bar) if each.bar else None,
            "verdict": each.verdict or None,
            "same_answers": each.same_answers,
        }
        for each in outcome.comparisons.values()
    ]
    return {"scenario": outcome.scenario, "sides": sides, "comparisons": comparisons, "notes": outcome.notes}


def show(outcome: Outcome, console: Console) -> None:
    """Print the outcome as two tables."""
    times = _table(outcome.scenario, "side", "median", "quartiles", "prompt", "reused", "evaluated", "canonical answers")
    for name, replies in outcome.replies.items():
        middle = quartiles([reply.seconds for reply in replies])
        times.add_row(
            name,
            _seconds(middle.median),
            f"{_seconds(middle.lower)} to {_seconds(middle.upper)}",
            *(_span([getattr(reply, count) for reply in replies]) for count in ("n_prompt", "n_reused", "n_evaluated")),
            _answers(replies, outcome.answers),
        )
    ratios = _table(None, "ratio of medians", "found", "95 % of runs", "bar", "verdict")
    for each in outcome.comparisons.values():
        low, high = each.interval
        ratios.add_row(
            each.quantity,
            f"{each.ratio:.3g}",
            f"{low:.3g} to {high:.3g}",
            str(each.bar) if each.bar else "-",
            each.verdict or "-",
        )
    console.print(times)
    console.print(ratios)
    for note in outcome.notes:
        console.print(note, highlight=False)
    console.print()


def _table(title: str | None, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _answers(replies: Sequence[Reply], expected: Sequence[str]) -> str:
    if any(reply.answer is None for reply in replies):
        return "-"
    same = sum(reply.answer == answer for reply, answer in zip(replies, expected, strict=False))
    return f"{same} of {len(replies)}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
