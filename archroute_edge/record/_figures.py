"""The figures of a report on traffic, each listed once: for the terminal, for pages and for JSON."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from archroute_edge.record._intervals import Difference
from archroute_edge.record._report import Buckets, Group, Spread, TrafficReport
from archroute_edge.record._sides import Compared, ShadowPairs, Sides
from archroute_edge.report import (
    NONE,
    Column,
    Share,
    Table,
    counted,
    named,
    number,
    percent,
    plain,
    printable,
    table,
    three_digits,
    values,
)

_NAME: Final = 32
_MOST_NAMES: Final = 5
_LAST_BUCKETS: Final = 21


def _name(text: str) -> str:
    return printable(text, _NAME)


def money(dollars: float) -> str:
    """US dollars, of small amounts as many digits as say something."""
    sign, dollars = "-" * (dollars < 0), abs(dollars)
    digits = 2 if dollars >= 1 or dollars == 0 else 4 if dollars >= 0.01 else 6
    return f"{sign}${dollars:,.{digits}f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _spread(found: Spread) -> str:
    return f"{three_digits(found.p50)} / {three_digits(found.p95)}"


def _milliseconds(value: float) -> str:
    return f"{'-' * (value < 0)}{three_digits(abs(value))}"


def _share(found: Share) -> str:
    return f"{percent(found.share)} ({found.interval_text})" if found.total else NONE


def _tokens(group: Group) -> tuple[int, int] | None:
    return (group.input, group.output) if group.input or group.output else None


GROUP: Final = (
    Column("name", "", lambda group: group.name, _name),
    Column("requests", "requests", lambda group: group.requests, _count),
    Column("share", "share", lambda group: group.share, percent),
    Column("confidence", "confidence, median", lambda group: group.confidence, number),
    Column("failed", "failed (95 % interval)", lambda group: group.failed if group.failed.total else None, _share),
    Column("tried_again", "several tries", lambda group: group.tried_again if group.tried_again.total else None,
           lambda share: percent(share.share)),
    Column("first_byte_ms", "first byte, p50 / p95, ms", lambda group: group.first_byte_ms, _spread),
    Column("total_ms", "to the end, p50 / p95, ms", lambda group: group.total_ms, _spread),
    Column("input_tokens", "", lambda group: group.input),
    Column("output_tokens", "", lambda group: group.output),
    Column("cached", "cached", lambda group: group.cached, percent),
    Column("cost", "cost", lambda group: group.cost, money),
    Column("default_cost", "with the default", lambda group: group.default_cost, money),
    Column("score", "grade, mean", lambda group: group.score, number),
    Column("graded", "", lambda group: group.scored),
)  # fmt: skip
_TRAFFIC: Final = "name requests share confidence failed tried_again first_byte_ms total_ms"
_TOKENS: Final = Column("", "tokens in / out", _tokens, lambda tokens: f"{tokens[0]:,} / {tokens[1]:,}")
TARGET: Final = (
    Column("model", "target", lambda target: target.model, _name),
    Column("tries", "tries", lambda target: target.tries, _count),
    Column("failed", "failed (95 % interval)", lambda target: target.failed, _share),
    Column("errors", "", lambda target: dict(target.errors)),
    Column("first_byte_ms", "first byte, p50 / p95, ms", lambda target: target.first_byte_ms, _spread),
    Column("", "why", lambda target: target.errors or None,
           lambda errors: ", ".join(f"{printable(word, 24)} {count:,}" for word, count in errors[:4])),
)  # fmt: skip
_FIGURES: Final = {
    "failed": ("first try failed", percent),
    "first_byte_ms": ("first byte, median, ms", _milliseconds),
    "cost": ("cost, mean", money),
    "score": ("grade, mean", number),
}


def _difference(compared: Compared) -> str:
    show = _points if compared.figure == "failed" else _FIGURES[compared.figure][1]
    return _interval(compared.difference, show)


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _interval(difference: Difference, show: Any) -> str:
    value = f"{'+' * (difference.value > 0)}{show(difference.value)}"
    if difference.low is None or difference.high is None:
        return f"{value} (too few)"
    return f"{value} ({show(difference.low)} to {show(difference.high)})"


def _shown(value: Callable[[Compared], float]) -> Callable[[Compared], str]:
    return lambda compared: _FIGURES[compared.figure][1](value(compared))


COMPARED: Final = (
    Column("figure", "", lambda compared: compared.figure),
    Column("", "figure", lambda compared: _FIGURES[compared.figure][0]),
    Column("verdict", "verdict", lambda compared: compared.verdict),
    Column("model", "", lambda compared: compared.one),
    Column("", "model", _shown(lambda compared: compared.one)),
    Column("incumbent", "", lambda compared: compared.other),
    Column("", "incumbent", _shown(lambda compared: compared.other)),
    Column("difference", "", lambda compared: compared.difference),
    Column("", "difference (95 % interval)", _difference),
)
SIDES: Final = (
    Column("place", "route or alias", lambda sides: sides.place, _name),
    Column("model", "model", lambda sides: sides.model, _name),
    Column("incumbent", "incumbent", lambda sides: sides.incumbent, _name),
    Column("requests", "", lambda sides: sides.requests[1]),
    Column("incumbent_requests", "", lambda sides: sides.requests[0]),
    Column("figures", "", lambda sides: [values(COMPARED, each) for each in sides.figures]),
)
SHADOWS: Final = (
    Column("model", "", lambda pairs: pairs.model),
    Column("shadow", "", lambda pairs: pairs.shadow),
    Column("verdict", "the shadow", lambda pairs: pairs.verdict),
    Column("pairs", "pairs", lambda pairs: pairs.pairs, _count),
    Column("only_model_failed", "only the model failed", lambda pairs: pairs.only_model_failed, _count),
    Column("only_shadow_failed", "only the shadow failed", lambda pairs: pairs.only_shadow_failed, _count),
    Column("failed_p", "McNemar's p", lambda pairs: pairs.failed_p, lambda p: f"{p:.3g}"),
    Column("first_byte_ms", "first byte, ms, median difference", lambda pairs: pairs.first_byte_ms,
           lambda found: _interval(found, _milliseconds)),
    Column("cost", "cost, mean difference", lambda pairs: pairs.cost, lambda found: _interval(found, money)),
    Column("score", "grade, mean difference", lambda pairs: pairs.score, lambda found: _interval(found, number)),
)  # fmt: skip
REPORT: Final = (
    Column("first", "first request", lambda report: report.first, lambda seconds: moment(seconds)),
    Column("last", "last request", lambda report: report.last, lambda seconds: moment(seconds)),
    Column("requests", "requests", lambda report: report.requests, _count),
    Column("forwarded", "sent on to a model", lambda report: report.forwarded, _count),
    Column("failed", "failed", lambda report: report.failed if report.failed.total else None, _share),
    Column("aborted", "client went away", lambda report: report.aborted, _count),
    Column("tries", "tries", lambda report: report.tries, _count),
    Column("corrected", "decisions graded as wrong", lambda report: report.corrected, _count),
    Column("decision_ms", "decision, p50 / p95, ms", lambda report: report.decision_ms, _spread),
    Column("money.spent", "spent", lambda report: _priced(report).spent, money),
    Column("money.shadows", "spent on shadows", lambda report: _priced(report).shadows, money),
    Column("money.default", "all to the default model", lambda report: _priced(report).default, money),
    Column("money.saved", "saved", lambda report: _priced(report).saved, money),
    Column("money.priced", "", lambda report: report.money.priced),
    Column("money.priced_spent", "", lambda report: _priced(report).priced_spent),
    Column("money.unpriced", "answers without a known price", lambda report: report.money.unpriced, _count),
    Column("routes", "", lambda report: [values(GROUP, group) for group in report.routes]),
    Column("models", "", lambda report: [values(GROUP, group) for group in report.models]),
    Column("targets", "", lambda report: [values(TARGET, target) for target in report.targets]),
    Column("confidence", "", lambda report: report.confidence),
    Column("over_time", "", lambda report: report.over_time),
    Column("sides", "", lambda report: [values(SIDES, sides) for sides in report.sides]),
    Column("shadows", "", lambda report: [values(SHADOWS, pairs) for pairs in report.shadows]),
)
"""Every figure of a report; those with a title are a row of the summary."""


class _NoMoney:
    spent = shadows = default = saved = priced_spent = None


def _priced(report: TrafficReport) -> Any:
    """Its money; no figures where no price is known."""
    return report.money if report.money.priced or report.money.shadows else _NoMoney


def to_json(report: TrafficReport) -> dict[str, Any]:
    """The report as plain values for ``json.dumps``; shares are from 0 to 1, times in milliseconds, costs in US dollars."""
    return {name: plain(value) for name, value in values(REPORT, report).items()}


def moment(seconds: float) -> str:
    """A time here, to the minute."""
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def conclusion(report: TrafficReport) -> list[str]:
    """What the reader came for."""
    models = [f"{percent(group.share)} to {_name(group.name)}" for group in report.models[:3]]
    lines = [f"{counted(report.requests, 'request')}, {', '.join(models)}"]
    known = report.money
    if known.priced:
        spent = f"{money(known.spent)} spent"
        if known.shadows:
            spent += f" and {money(known.shadows)} on shadows"
        if money(known.priced_spent) != money(known.spent):
            spent += f"; {money(known.priced_spent)} for the answers whose cost with the default model is known"
        saved = known.saved or 0.0
        what = f"{money(abs(saved))} {'saved' if saved >= 0 else 'more than that'}"
        part = f" ({percent(abs(saved) / known.default)})" if known.default else ""
        lines.append(f"{spent}; all to the default model: {money(known.default)}; {what}{part}")
    if report.forwarded:
        lines.append(f"failed: {report.failed}")
    for sides in report.sides:
        found = [each.verdict for each in sides.figures if each.difference.is_one] or ["no difference shown"]
        lines.append(f"{_name(sides.place)}: {_name(sides.model)} against {_name(sides.incumbent)}: {', '.join(found)}")
    lines += [f"shadow {_name(pairs.shadow)} of {_name(pairs.model)}: {pairs.verdict}" for pairs in report.shadows]
    return lines


def terminal_tables(report: TrafficReport) -> Iterator[Table | None]:
    """The tables to show on a terminal, in their order."""
    yield summary_table(report)
    yield group_table("Routes", report.routes)
    yield group_table("Models that answered", report.models)
    yield money_table("Tokens and money, by route", report.routes)
    yield money_table("Tokens and money, by model", report.models)
    yield target_table(report)
    yield from map(sides_table, report.sides)
    yield from map(shadow_table, report.shadows)
    yield time_table("Routes over time", report.over_time, report.over_time.routes, _LAST_BUCKETS)
    yield time_table("Models over time", report.over_time, report.over_time.models, _LAST_BUCKETS)


def summary_table(report: TrafficReport) -> Table:
    """A row a figure."""
    # A count of none says nothing.
    shown = [column for column in REPORT if column.title and column.get(report) not in (None, 0)]
    return Table("Figures", ("", "value"), [[column.title, *column.cells(report)] for column in shown])


def group_table(title: str, groups: Sequence[Group]) -> Table:
    """How requests of each route or model went."""
    return table(title, _with_figures(named(GROUP, _TRAFFIC), groups), groups)


def money_table(title: str, groups: Sequence[Group]) -> Table | None:
    """What they took and cost, a row each."""
    columns = _with_figures([GROUP[0], _TOKENS, *named(GROUP, "cached cost default_cost score")], groups)
    return table(title, columns, groups) if len(columns) > 1 else None


def _with_figures(columns: Sequence[Column], groups: Sequence[Group]) -> list[Column]:
    return [column for column in columns if any(column.get(group) is not None for group in groups)]


def target_table(report: TrafficReport) -> Table | None:
    """What was tried, and how it failed."""
    if not report.targets:
        return None
    return table("Targets that were tried", [column for column in TARGET if column.title], report.targets)


def sides_table(sides: Sides) -> Table:
    """Two models that shared traffic by chance, a row a figure."""
    note = (
        "Requests whose first target was drawn by weights or a ramp, by that target; in brackets how many. Conversations are "
        "clusters. One in twenty such intervals does not hold the true difference."
    )
    incumbent, model = sides.requests
    title = f"{_name(sides.place)}: {_name(sides.model)} ({model:,}) against {_name(sides.incumbent)} ({incumbent:,})"
    return table(title, [column for column in COMPARED if column.title], sides.figures, text_columns=2, note=note)


def shadow_table(pairs: ShadowPairs) -> Table:
    """A shadow against what it repeats, a row a figure."""
    rows = [[column.title, *column.cells(pairs)] for column in SHADOWS if column.title and column.get(pairs) is not None]
    title = f"{_name(pairs.shadow)} as a shadow of {_name(pairs.model)}"
    note = "Differences are of the shadow less the model that answered, with 95 % intervals over pairs."
    return Table(title, ("", "value"), rows, note=note)


def time_table(title: str, over_time: Buckets, counts: dict[str, list[int]], most: int | None = None) -> Table:
    """Requests of each bucket by name, the last ``most`` of them; the rarest names are one column."""
    names = [*counts][:_MOST_NAMES]
    others = [*counts][_MOST_NAMES:]
    rows = [
        [
            bucket_name(over_time.unit, start),
            *(_count(counts[name][place]) for name in names),
            *([_count(sum(counts[name][place] for name in others))] if others else []),
            _count(over_time.failed[place]),
            money(over_time.spent[place]),
            money(over_time.default[place]),
        ]
        for place, start in enumerate(over_time.starts)
    ]
    heads = [f"{unit_name(over_time.unit)} from", *map(_name, names), *(["others"] if others else [])]
    return Table(title, [*heads, "failed", "cost", "with the default"], rows[-most:] if most else rows)


def unit_name(unit: str) -> str:
    """How long a bucket is."""
    return "five minutes" if unit == "minute" else unit


def bucket_name(unit: str, start: float) -> str:
    """When a bucket begins."""
    return datetime.datetime.fromtimestamp(start).strftime("%Y-%m-%d" if unit in ("day", "week") else "%Y-%m-%d %H:%M")
