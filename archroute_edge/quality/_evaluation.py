"""How good a predictor is: its figures on outcomes, beside random choice and beside a bag of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._frontier import GAINS, PricedChoices, against_singles, mixtures
from archroute_edge.quality._metrics import (
    RECOVERED,
    Calibration,
    Curve,
    Estimate,
    Floats,
    PairOrder,
    bootstrapped,
    cpt_name,
)
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._report import (
    ORACLE,
    RANDOM,
    Gains,
    Level,
    ModelReport,
    PairReport,
    Part,
    PricedPart,
    PricedReport,
    QualityReport,
    Row,
    Single,
)
from archroute_edge.quality._splits import category_of
from archroute_edge.quality._yardstick import WORDS, Progress, YardstickTraining, yardstick

if TYPE_CHECKING:
    from archroute_edge.quality._predictor import Predictor, PromptFeatures

_SHARES: Final = np.linspace(0, 1, 101)
_LEVELS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
_FEW: Final = 2


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    Args:
        pairs: names of a weak and a strong model each.
        prices: mean cost of a request to each model, or (n,) the cost of each request; two models at least, or none.
        training: see :class:`YardstickTraining`; without it the bag of words is cross-validated on the outcomes themselves.
        n_draws: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap and of the folds.
    """

    pairs: Sequence[tuple[str, str]] = ()
    prices: Mapping[str, float | Floats] | None = None
    training: YardstickTraining | None = None
    n_draws: int = 1000
    seed: int = 0


def evaluate_predictor(
    predictor: Predictor,
    outcomes: Outcomes,
    features: PromptFeatures,
    settings: EvaluationSettings,
    *,
    source: str = "",
    on_progress: Progress = lambda step, done, total: None,
) -> QualityReport:
    """Figures of ``predictor``; ``features`` are those of the outcomes' prompts.

    Raises:
        QualityError: there is nothing to evaluate, a model is unknown, or an expected score is no number from 0 to 1.
        SettingsError: SciPy is not installed.
    """
    _check(predictor.models, outcomes, settings)
    on_progress("expected scores", 0, 1)
    expected = predictor.expected(features)
    return evaluate_scores(
        predictor.policy,
        predictor.models,
        expected,
        outcomes,
        features.texts,
        settings,
        source=source,
        on_progress=on_progress,
    )


def evaluate_scores(
    name: str,
    models: Sequence[str],
    expected: Scores,
    outcomes: Outcomes,
    texts: Sequence[str],
    settings: EvaluationSettings,
    *,
    source: str = "",
    on_progress: Progress = lambda step, done, total: None,
) -> QualityReport:
    """Figures of expected scores that are known already, such as those of cross-validation.

    Args:
        name: of what gave them.
        models: k names.
        expected: (n, k).
        outcomes: of n prompts, with columns of any models.
        texts: a text for each prompt.

    Raises:
        QualityError: there is nothing to evaluate, a model is unknown, or an expected score is no number from 0 to 1.
        SettingsError: SciPy is not installed.
    """
    _check(models, outcomes, settings)
    if expected.shape != (len(outcomes.prompts), len(models)) or not ((expected >= 0) & (expected <= 1)).all():
        raise QualityError(f"{name}: expected scores are no numbers from 0 to 1, one for each prompt and model")
    named = [model for pair in settings.pairs for model in pair] + list(settings.prices or ())
    used = tuple(dict.fromkeys(named))
    narrowed = outcomes.columns(used)
    scores = narrowed.scores
    columns = expected[:, [list(models).index(model) for model in used]]
    categories = [category_of(prompt) for prompt in outcomes.prompts]
    words = yardstick(narrowed, texts, settings.training, settings.seed, on_progress)
    judge = _Judge({name: columns, **words.expected}, scores, used, categories, words.seen, settings)
    n_steps = len(settings.pairs) + (settings.prices is not None)
    pairs = []
    for number, pair in enumerate(settings.pairs):
        on_progress("figures", number, n_steps)
        pairs.append(judge.pair(*pair))
    on_progress("figures", len(pairs), n_steps)
    priced = None if settings.prices is None else judge.priced(settings.prices)
    calibrations = [
        ModelReport(
            model,
            Calibration(columns[:, place], scores[:, place]),
            Calibration(words.expected[WORDS][:, place], scores[:, place]),
        )
        for place, model in enumerate(used)
    ]
    return QualityReport(
        name, source, len(outcomes.prompts), settings.n_draws, words.how, pairs, calibrations, priced, words.warnings
    )


def _check(models: Sequence[str], outcomes: Outcomes, settings: EvaluationSettings) -> None:
    if not outcomes.prompts:
        raise QualityError("there are no prompts to evaluate on")
    if not settings.pairs and settings.prices is None:
        raise QualityError("nothing to evaluate: name a weak and a strong model, or the prices of several")
    if settings.prices is not None and len(settings.prices) < _FEW:
        raise QualityError("one model with a price leaves nothing to choose; give the prices of two at least")
    for model, price in (settings.prices or {}).items():
        if not (np.isfinite(price) & (np.asarray(price) >= 0)).all():
            raise QualityError(f"{model}: its price is no amount of money from 0 up")
    for weak, strong in settings.pairs:
        if weak == strong:
            raise QualityError(f"{weak} cannot be the weak and the strong model at once")
    for model in [*(model for pair in settings.pairs for model in pair), *(settings.prices or ())]:
        for where, known in (("the predictor", models), ("the outcomes", outcomes.models)):
            if model not in known:
                raise QualityError(f"{model}: no model of {where}, which has {', '.join(known)}")


class _Judge:
    """Figures of several (n, k) expected scores, by name, the predictor's first, on the same scores."""

    def __init__(
        self,
        expected: Mapping[str, Scores],
        scores: Scores,
        models: Sequence[str],
        categories: Sequence[str],
        seen: frozenset[str] | None,
        settings: EvaluationSettings,
    ) -> None:
        self._expected = expected
        self._scores = scores
        self._place = {model: place for place, model in enumerate(models)}
        # NumPy's own texts all take the room of the longest, and lose a null at the end.
        self._categories = np.array(categories, object)
        self._seen = seen
        self._settings = settings
        self._name = next(iter(expected))

    def pair(self, weak: str, strong: str) -> PairReport:
        """The report of two models."""
        one, two = self._place[weak], self._place[strong]
        known = np.flatnonzero(~np.isnan(self._scores[:, [one, two]]).any(axis=1))
        left_out = len(self._scores) - len(known)
        if not len(known):
            raise QualityError(f"no prompt has outcomes of both {weak} and {strong}")

        def part(name: str, places: npt.NDArray[np.intp]) -> Part:
            orders = {label: each[places, two] - each[places, one] for label, each in self._expected.items()}
            return self._part(name, orders, self._scores[places, one], self._scores[places, two])

        seen = unseen = None
        if self._seen is not None:
            is_seen = np.isin(self._categories[known], list(self._seen))
            seen, unseen = (
                part(name, known[chosen]) if chosen.any() else None
                for name, chosen in (("categories seen in training", is_seen), ("categories never seen", ~is_seen))
            )
        return PairReport(
            weak, strong, left_out, part("all", known), seen, unseen, [part(*each) for each in self._split(known)]
        )

    def priced(self, prices: Mapping[str, float | Floats]) -> PricedReport:
        """The report of several models with prices."""
        places = [self._place[model] for model in prices]
        costs = np.stack([np.broadcast_to(np.asarray(each, np.float64), len(self._scores)) for each in prices.values()], axis=1)
        scores = self._scores[:, places]
        known = np.flatnonzero(~np.isnan(scores).any(axis=1))
        left_out = len(scores) - len(known)
        if not len(known):
            raise QualityError(f"no prompt has outcomes of all of {', '.join(prices)}")

        def choices(rows: npt.NDArray[np.intp]) -> dict[str, PricedChoices]:
            expected = {name: each[rows][:, places] for name, each in self._expected.items()}
            expected[ORACLE] = scores[rows]
            return {name: PricedChoices(each, scores[rows], costs[rows]) for name, each in expected.items()}

        def part(name: str, rows: npt.NDArray[np.intp]) -> PricedPart:
            return self._priced_part(name, choices(rows), scores[rows], costs[rows])

        all_choices = choices(known)
        frontiers = {name: each.frontier(np.ones(len(known))) for name, each in all_choices.items()}
        mean_costs, qualities = costs[known].mean(axis=0), scores[known].mean(axis=0)
        hull, corners = mixtures(mean_costs, qualities)
        names = list(prices)
        singles = [
            Single(names[place], float(mean_costs[place]), float(qualities[place]), place in corners)
            for place in np.argsort(mean_costs, kind="stable")
        ]
        levels = []
        for level in _LEVELS:
            budget = float(hull.costs[0] + level * (hull.costs[-1] - hull.costs[0]))
            at = {name: float(each.at(np.array(budget))) for name, each in {**frontiers, RANDOM: hull}.items()}
            levels.append(Level(budget, all_choices[self._name].rate_for(budget, frontiers[self._name]), at))
        return PricedReport(
            left_out,
            singles,
            names[corners[-1]],
            frontiers,
            hull,
            levels,
            part("all", known),
            [part(*each) for each in self._split(known)],
        )

    def _split(self, known: npt.NDArray[np.intp]) -> list[tuple[str, npt.NDArray[np.intp]]]:
        """The categories of these prompts, the largest first; none if there is one alone."""
        names, sizes = np.unique(self._categories[known], return_counts=True)
        if len(names) < _FEW:
            return []
        ordered = names[np.argsort(-sizes, kind="stable")]
        return [(str(name), known[self._categories[known] == name]) for name in ordered]

    def _part(self, name: str, orders: Mapping[str, Floats], weak: Floats, strong: Floats) -> Part:
        gains = strong - weak
        ranked = {label: PairOrder(order, gains) for label, order in {**orders, ORACLE: gains}.items()}
        curves = {label: curve for label, each in ranked.items() if (curve := each.curve()) is not None}
        scores = (float(weak.mean()), float(strong.mean()))
        if not curves:
            return Part(name, len(gains), *scores, ())

        def figures(weights: Floats) -> dict[str, Floats]:
            found = {label: each.figures(weights).named() for label, each in ranked.items()}
            flat = {f"{label}/{key}": value for label, each in found.items() for key, value in each.items()}
            own = found[self._name]["apgr"]
            leads = {f"{label}/lead": own - found[label]["apgr"] for label in orders if label != self._name}
            return {**flat, **leads, f"{RANDOM}/lead": own - 0.5}

        found = bootstrapped(figures, len(gains), self._settings.n_draws, self._settings.seed)
        rows = [
            Row(label, _named(found, label), found.get(f"{label}/lead"), curve.at(_SHARES)) for label, curve in curves.items()
        ]
        at_random = {"apgr": Estimate(0.5), **{cpt_name(each): Estimate(each) for each in RECOVERED}, "auc": Estimate(0.5)}
        rows.insert(-1, Row(RANDOM, at_random, found[f"{RANDOM}/lead"], Curve(_SHARES, _SHARES)))
        return Part(name, len(gains), *scores, rows)

    def _priced_part(self, name: str, choices: Mapping[str, PricedChoices], scores: Scores, costs: Floats) -> PricedPart:
        def figures(weights: Floats) -> dict[str, Floats]:
            found = against_singles(choices, scores, costs, weights)
            own = found[f"{self._name}/gain"]
            others = [label for label in choices if label not in (self._name, ORACLE)]
            return {**found, **{f"{label}/lead": own - found[f"{label}/gain"] for label in others}}

        found = bootstrapped(figures, len(scores), self._settings.n_draws, self._settings.seed)
        rows = [Gains(label, _named(found, label), found.get(f"{label}/lead")) for label in choices]
        return PricedPart(name, len(scores), rows)


def _named(found: Mapping[str, Estimate], label: str) -> dict[str, Estimate]:
    """The figures of one row, without its name before theirs."""
    names = ("apgr", *(cpt_name(each) for each in RECOVERED), "auc", *GAINS)
    return {name: found[key] for name in names if (key := f"{label}/{name}") in found}
