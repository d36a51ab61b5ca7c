"""The figures of an evaluation, each listed once: for tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from archroute_edge.quality._frontier import Frontier
from archroute_edge.quality._metrics import RECOVERED, Estimate, cpt_name
from archroute_edge.quality._report import (
    ORACLE,
    RANDOM,
    ModelReport,
    PairReport,
    PricedReport,
    QualityReport,
    Row,
)
from archroute_edge.quality._yardstick import NEW_WORDS, WORDS
from archroute_edge.report import NONE, Column, Table, number, printable, table, values

NAME: Final = 40
_POINTS: Final = 101
_CPT: Final = tuple(cpt_name(each) for each in RECOVERED)


def _name(text: str) -> str:
    return printable(text, NAME)


def _figure(key: str) -> Any:
    return lambda row: row.figures.get(key)


def _three(estimate: Estimate) -> str:
    return estimate.text()


def _recovered(row: Row) -> list[float]:
    return [round(float(each), 5) for each in row.curve.recovered]


def _signed(estimate: Estimate) -> str:
    return estimate.text(sign="+")


def _shares(estimate: Estimate) -> str:
    shown = Estimate(estimate.value).text(1, 100)
    if estimate.low is None or estimate.high is None:
        return shown
    return f"{shown} ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"


def _points(estimate: Estimate) -> str:
    return estimate.text(2, 100, "+")


ROW: Final = (
    Column("name", "", lambda row: row.name, _name),
    Column("apgr", "APGR (95 % interval)", _figure("apgr"), _three),
    *(Column(key, f"{key.upper()}, % of calls", _figure(key), _shares) for key in _CPT),
    Column("auc", "AUC", _figure("auc"), _three),
    Column("lead", "lead in APGR", lambda row: row.lead, _signed),
)
PART: Final = (
    Column("name", "prompts of", lambda part: part.name, _name),
    Column("n", "prompts", lambda part: part.n),
    Column("weak_score", "weak", lambda part: part.weak_score, number),
    Column("strong_score", "strong", lambda part: part.strong_score, number),
    Column("rows", "", lambda part: [values(ROW, row) for row in part.rows]),
)
PAIR: Final = (
    Column("weak", "", lambda pair: pair.weak),
    Column("strong", "", lambda pair: pair.strong),
    Column("left_out", "", lambda pair: pair.left_out),
    Column("whole", "", lambda pair: values(PART, pair.whole)),
    Column("curves", "", lambda pair: {row.name: _recovered(row) for row in pair.whole.rows}),
    Column("seen", "", lambda pair: pair.seen and values(PART, pair.seen)),
    Column("unseen", "", lambda pair: pair.unseen and values(PART, pair.unseen)),
    Column("categories", "", lambda pair: [values(PART, part) for part in pair.categories]),
)  # fmt: skip
MODEL: Final = (
    Column("model", "", lambda each: each.model, _name),
    Column("n", "prompts", lambda each: each.predictor.count),
    Column("mean_score", "mean score", lambda each: each.predictor.mean_score, number),
    Column("mean_expected", "mean expected score", lambda each: each.predictor.mean_expected, number),
    Column("brier", "Brier score", lambda each: each.predictor.brier, number),
    Column("brier_words", f"Brier score of the {WORDS}", lambda each: each.words.brier, number),
    Column("brier_constant", "Brier score of the mean score", lambda each: each.predictor.constant_brier, number),
    Column("ece", "calibration error (ECE, 10 bins)", lambda each: each.predictor.ece, number),
    Column("ece_words", f"ECE of the {WORDS}", lambda each: each.words.ece, number),
    Column("reliability", "", lambda each: each.predictor.bins),
)
SINGLE: Final = (
    Column("model", "", lambda each: each.model, _name),
    Column("cost_per_1k", "US dollars for 1,000 requests", lambda each: 1000 * each.cost, lambda cost: f"{cost:.4g}"),
    Column("quality", "mean score", lambda each: each.quality, number),
    Column("is_corner", "in the best mixtures", lambda each: each.is_corner, lambda it: "yes" if it else "no"),
)
GAIN: Final = (
    Column("name", "", lambda row: row.name, _name),
    Column("gain", "quality above the best mixture of two, points (95 % interval)", _figure("gain"), _points),
    Column("gain_at_best", "quality above the best single model at its cost, points", _figure("gain_at_best"), _points),
    Column("cost_at_best", "cost of its quality, % of its cost", _figure("cost_at_best"), _shares),
    Column("lead", "lead of the predictor, points", lambda row: row.lead, _points),
)
PRICED_PART: Final = (
    Column("name", "", lambda part: part.name),
    Column("n", "", lambda part: part.n),
    Column("rows", "", lambda part: [values(GAIN, row) for row in part.rows]),
)


def _level_columns(names: Sequence[str]) -> tuple[Column, ...]:
    def quality(name: str) -> Any:
        return lambda level: level.qualities[name]

    return (
        Column("cost_per_1k", "US dollars for 1,000 requests", lambda level: 1000 * level.budget, lambda cost: f"{cost:.4g}"),
        Column("rate", "rate of the predictor", lambda level: level.rate, lambda rate: f"{rate:.4g}"),
        *(
            Column(f"qualities.{name}", "best mixture" if name == RANDOM else _name(name), quality(name), number)
            for name in names
        ),
    )


def thinned(found: Frontier) -> list[int]:
    """Some hundred of its points, both ends among them."""
    step = max(1, len(found.costs) // _POINTS)
    return sorted({*range(0, len(found.costs), step), len(found.costs) - 1})


def _frontier(found: Frontier) -> dict[str, list[float]]:
    places = thinned(found)
    return {
        "cost_per_1k": [1000 * float(found.costs[place]) for place in places],
        "quality": [float(found.qualities[place]) for place in places],
    }


PRICED: Final = (
    Column("left_out", "", lambda priced: priced.left_out),
    Column("models", "", lambda priced: [values(SINGLE, each) for each in priced.singles]),
    Column("best", "", lambda priced: priced.best),
    Column("budgets", "", lambda priced: [values(_level_columns([*level.qualities]), level) for level in priced.levels]),
    Column("frontiers", "", lambda priced: {name: _frontier(each) for name, each in priced.frontiers.items()}),
    Column("mixtures", "", lambda priced: _frontier(priced.mixtures)),
    Column("whole", "", lambda priced: values(PRICED_PART, priced.whole)),
    Column("categories", "", lambda priced: [values(PRICED_PART, part) for part in priced.categories]),
)


def report_to_dict(report: QualityReport) -> dict[str, Any]:
    """The report as plain values for ``json.dumps``; shares and scores are from 0 to 1, money is in US dollars."""
    return {
        "predictor": report.name,
        "source": report.source,
        "prompts": report.n,
        "resamples": report.n_draws,
        "bag_of_words": report.words,
        "warnings": list(report.warnings),
        "mean_apgr": {name: report.mean_apgr(name) for name in (report.name, WORDS, NEW_WORDS, RANDOM, ORACLE)},
        "pairs": [values(PAIR, pair) for pair in report.pairs],
        "models": [values(MODEL, model) for model in report.models],
        "priced": report.priced and values(PRICED, report.priced),
    }


def quality_tables(report: QualityReport, most: int = 20) -> Iterator[Table | None]:
    """The tables of a report, the most telling first; of categories the ``most`` largest."""
    for pair in report.pairs:
        yield pair_table(pair)
        yield category_table(pair, most)
    if report.priced is not None:
        yield from priced_tables(report.priced)
        yield priced_category_table(report.priced, most)
    yield model_table(report.models)


def pair_table(pair: PairReport) -> Table | None:
    """Every way to choose between two models; None if there is no gap."""
    parts = [part for part in (pair.whole, pair.seen, pair.unseen) if part is not None and part.rows]
    if not pair.whole.rows:
        return None
    columns = [Column("", "prompts of", lambda each: each[0].name, _name)] if len(parts) > 1 else []
    columns += [Column("", column.title, _second(column), column.show) for column in ROW]
    note = (
        f"{pair.whole.n} prompts; mean score of {printable(pair.weak)} {pair.whole.weak_score:.3f}, "
        f"of {printable(pair.strong)} {pair.whole.strong_score:.3f}. The lead is the predictor's over the row."
        f"{left_out_note(pair.left_out, 'one of the two models')}"
    )
    rows = [(part, row) for part in parts for row in part.rows]
    return table(pair_title(pair), columns, rows, text_columns=len(columns) - len(ROW) + 1, note=note)


def _second(column: Column) -> Any:
    return lambda pair: column.get(pair[1])


def pair_title(pair: PairReport) -> str:
    """``weak → strong``."""
    return f"{_name(pair.weak)} → {_name(pair.strong)}"


def left_out_note(count: int, whose: str) -> str:
    """How many prompts were left out, if any, as a sentence."""
    return f" Left out: {count} without an outcome of {whose}." if count else ""


def category_table(pair: PairReport, most: int) -> Table | None:
    """APGR by category; None if there are not several, or none has a gap."""

    def apgr(name: str) -> Any:
        return lambda part: (row := part.row(name)) and row.figures["apgr"]

    first = next((part.rows[0].name for part in pair.categories if part.rows), None)
    if first is None:
        return None
    names = [each for each in (first, WORDS, NEW_WORDS) if any(part.row(each) for part in pair.categories)]
    columns = [
        Column("", "category", lambda part: part.name, _name),
        *(column for column in PART if column.key in ("n", "weak_score", "strong_score")),
        *(Column("", f"APGR of {name}", apgr(name), _three) for name in names),
        Column("", "lead", lambda part: (row := part.row(WORDS)) and row.lead, _signed),
    ]
    note = (
        f"{NONE} where the strong model scores no higher: there is no gap to recover. The lead is over the {WORDS}."
        f"{_not_shown(len(pair.categories) - most)}"
    )
    return table(f"{pair_title(pair)}: by category", columns, pair.categories[:most], note=note)


def _not_shown(count: int) -> str:
    if count < 1:
        return ""
    return " 1 smaller category is not shown." if count == 1 else f" {count} smaller categories are not shown."


def model_table(models: Sequence[ModelReport]) -> Table:
    """How true expected scores are."""
    columns = [column for column in MODEL if column.title or column.key == "model"]
    note = "The Brier score is the mean squared distance of expected scores from scores, 0 best."
    return table("Expected scores", columns, models, note=note)


def priced_tables(priced: PricedReport) -> Iterator[Table]:
    """Several models with prices: the policies, some budgets, the models."""
    note = (
        f"{priced.whole.n} prompts. Points are hundredths of the mean score. The best single model is {printable(priced.best)}."
        f"{left_out_note(priced.left_out, 'one of the models')}"
    )
    yield table("Quality at equal cost", GAIN, priced.whole.rows, note=note)
    names = list(priced.levels[0].qualities)
    columns = _level_columns(names)
    yield table(
        "What budgets buy, mean score",
        columns,
        priced.levels,
        text_columns=0,
        note="From the cost of the cheapest model to the cost of the best one.",
    )
    yield table("The models, by cost", SINGLE, priced.singles)


def priced_category_table(priced: PricedReport, most: int) -> Table | None:
    """The gain by category; None if there are not several."""
    if not priced.categories:
        return None

    def gain(name: str) -> Any:
        return lambda part: next((row.figures["gain"] for row in part.rows if row.name == name), None)

    columns = [
        Column("", "category", lambda part: part.name, _name),
        Column("", "prompts", lambda part: part.n),
        *(Column("", _name(row.name), gain(row.name), _points) for row in priced.whole.rows),
    ]
    note = (
        "Points above the best mixture of two models of the category, at equal cost."
        f"{_not_shown(len(priced.categories) - most)}"
    )
    return table("Quality at equal cost, by category", columns, priced.categories[:most], note=note)
