"""What an evaluation of a predictor found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from archroute_edge.quality._frontier import Frontier
from archroute_edge.quality._metrics import Calibration, Curve, Estimate
from archroute_edge.quality._yardstick import WORDS
from archroute_edge.report import number, percent, printable

RANDOM: Final = "random"
ORACLE: Final = "oracle"


@dataclass(frozen=True)
class Row:
    """Figures of one way to choose between two models.

    Attributes:
        name: the predictor's, or :data:`WORDS`, :data:`NEW_WORDS`, :data:`RANDOM`, :data:`ORACLE`.
        figures: ``apgr``, ``cpt50``, ``cpt80``, ``auc``.
        lead: the predictor's APGR less this one's, on the same draws; None of the predictor itself and of the oracle.
        curve: share of the gap that is recovered, at 101 shares of strong calls.
    """

    name: str
    figures: Mapping[str, Estimate]
    lead: Estimate | None
    curve: Curve


@dataclass(frozen=True)
class Part:
    """Two models on some prompts; ``rows`` is empty if the strong one scores no higher: then there is no gap to recover.

    ``rows`` begins with the predictor.
    """

    name: str
    n: int
    weak_score: float
    strong_score: float
    rows: Sequence[Row]

    def row(self, name: str) -> Row | None:
        """The row of this name."""
        return next((each for each in self.rows if each.name == name), None)


@dataclass(frozen=True)
class PairReport:
    """A weak and a strong model.

    Attributes:
        left_out: prompts that one of the two has no outcome of.
        whole: all others.
        seen: of these, those of categories that are among the training outcomes, if they were given.
        unseen: those of other categories.
        categories: each category, the largest first, if there are several.
    """

    weak: str
    strong: str
    left_out: int
    whole: Part
    seen: Part | None
    unseen: Part | None
    categories: Sequence[Part]


@dataclass(frozen=True)
class ModelReport:
    """How true the expected scores of a model are; ``words`` is the bag of words' calibration."""

    model: str
    predictor: Calibration
    words: Calibration


@dataclass(frozen=True)
class Single:
    """A model for all prompts: mean cost of a request, and mean score."""

    model: str
    cost: float
    quality: float
    is_corner: bool
    """Whether the best mixtures need it."""


@dataclass(frozen=True)
class Level:
    """What a budget buys; ``rate`` is the predictor's."""

    budget: float
    rate: float
    qualities: Mapping[str, float]


@dataclass(frozen=True)
class Gains:
    """Figures of a policy beside single models; see :func:`archroute_edge.quality._frontier.against_singles`.

    Attributes:
        name: as of a :class:`Row`.
        figures: ``gain``, ``gain_at_best``, ``cost_at_best``.
        lead: the predictor's ``gain`` less this one's; None of the predictor itself and of the oracle.
    """

    name: str
    figures: Mapping[str, Estimate]
    lead: Estimate | None


@dataclass(frozen=True)
class PricedPart:
    """Several models with prices, on some prompts; ``rows`` begins with the predictor."""

    name: str
    n: int
    rows: Sequence[Gains]


@dataclass(frozen=True)
class PricedReport:
    """Cost against quality of several models.

    Attributes:
        left_out: prompts that one of the models has no outcome of.
        singles: the models in order of cost.
        best: the model of the best mean score, the cheapest of equals.
        frontiers: of the predictor, the bag of words and the oracle, by name.
        mixtures: what random mixtures of two models reach.
        levels: what some budgets buy.
    """

    left_out: int
    singles: Sequence[Single]
    best: str
    frontiers: Mapping[str, Frontier]
    mixtures: Frontier
    levels: Sequence[Level]
    whole: PricedPart
    categories: Sequence[PricedPart]


@dataclass(frozen=True)
class QualityReport:
    """All figures of a predictor on outcomes.

    Attributes:
        name: the predictor's policy.
        source: where the outcomes are from.
        n: prompts in all.
        n_draws: of the bootstrap.
        words: how the bag of words was trained.
        warnings: what the reader has to know before believing the figures.
    """

    name: str
    source: str
    n: int
    n_draws: int
    words: str
    pairs: Sequence[PairReport]
    models: Sequence[ModelReport]
    priced: PricedReport | None
    warnings: Sequence[str]

    def described(self) -> str:
        """What was evaluated, in a sentence or two."""
        where = f", from {self.source}" if self.source else ""
        text = f"{self.n} prompts{where}. The bag of words was {self.words}."
        return f"{text} Intervals are of {self.n_draws:,} resamples of the prompts." if self.n_draws else text

    def answer(self) -> list[str]:
        """The finding, a sentence each."""
        lines = [_pair_answer(pair) for pair in self.pairs]
        if len(self.pairs) > 1 and (own := self.mean_apgr(self.name)) is not None:
            words = self.mean_apgr(WORDS)
            lines.insert(0, f"Mean APGR over {len(self.pairs)} pairs: {own:.3f}; {WORDS} {number(words)}, random 0.500.")
        return lines if self.priced is None else [*lines, _priced_answer(self.priced)]

    def mean_apgr(self, name: str) -> float | None:
        """Mean APGR of one way to choose over the pairs; None if one of them has no gap, or no such row."""
        rows = [pair.whole.row(name) for pair in self.pairs]
        values = [row.figures["apgr"].value for row in rows if row is not None]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known and len(known) == len(rows) else None


def _pair_answer(pair: PairReport) -> str:
    weak, strong, whole = printable(pair.weak), printable(pair.strong), pair.whole
    if not whole.rows:
        return (
            f"{weak} → {strong}: no gap to recover, as the strong model scores no higher ({whole.strong_score:.3f}, the weak "
            f"one {whole.weak_score:.3f}; {whole.n} prompts)."
        )
    own = whole.rows[0]
    text = f"{weak} → {strong}: APGR {own.figures['apgr'].text()} on {whole.n} prompts"
    words = whole.row(WORDS)
    if words is None or words.lead is None:
        return f"{text}; random 0.500."
    text += f"; {WORDS} {words.figures['apgr'].text()}, random 0.500. "
    if words.lead.is_above_zero:
        return f"{text}It orders prompts better than a {WORDS} does, by {words.lead.text()}."
    if words.lead.is_below_zero:
        return f"{text}It orders prompts worse than a {WORDS} does, by {words.lead.less.text()}."
    return f"{text}Chance could make the difference from the {WORDS}, {words.lead.text(sign='+')}."


def _priced_answer(priced: PricedReport) -> str:
    own = priced.whole.rows[0]
    gain, saved = own.figures["gain"], own.figures["cost_at_best"]
    of_mixture = "the best mixture of two models at equal cost, on average over budgets"
    if gain.is_above_zero:
        text = f"Quality is {gain.text(1, 100)} points above that of {of_mixture}"
    elif gain.is_below_zero:
        text = f"Quality is {gain.less.text(1, 100)} points below that of {of_mixture}"
    else:
        text = f"Chance could make the difference from the quality of {of_mixture}, {gain.text(1, 100, '+')} points"
    best = printable(priced.best)
    if saved.value is None:
        return f"{text}; no budget reaches the quality of {best}."
    return f"{text}; the quality of {best} takes {percent(saved.value)} of its cost."
