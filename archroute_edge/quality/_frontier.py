"""Cost against quality of several models: what a policy reaches for a budget, beside single models and their mixtures.

Pure functions over arrays. A *budget* is the mean cost of a request, in any unit of money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._metrics import Floats
from archroute_edge.quality._splits import SMALLEST_DIFFERENCE

N_BUDGETS: Final = 201
"""Budgets, at equal distances, that a mean over budgets is taken at."""


@dataclass(frozen=True)
class Frontier:
    """Quality over cost: points of rising cost, with lines between them, which random choice between two points reaches."""

    costs: Floats
    qualities: Floats

    def at(self, budgets: Floats) -> Floats:
        """Quality for budgets; for more than the last point costs, the last point's."""
        return np.interp(budgets, self.costs, self.qualities)

    def cost_of(self, quality: float) -> float | None:
        """The least cost that reaches a quality, but for what rounding may take off it; None if no point does."""
        reached = self.qualities >= quality - SMALLEST_DIFFERENCE
        if not reached.any():
            return None
        place = int(reached.argmax())
        if place == 0:
            return float(self.costs[0])
        low, high = self.qualities[place - 1], self.qualities[place]
        part = min((quality - low) / (high - low), 1.0)
        return float(self.costs[place - 1] + part * (self.costs[place] - self.costs[place - 1]))


class PricedChoices:
    """The choices of the model with the best *expected score - rate x cost*, at every rate from 0 up.

    As the rate rises, a prompt goes to ever cheaper models, along the upper hull of its own (cost, expected score) points; so a
    finite list of steps tells all rates apart. At rate 0 the best expected score decides, then cost, then the order of models.

    Args:
        expected: (n, k) expected scores.
        scores: (n, k) scores.
        costs: (n, k) cost of each request.
    """

    def __init__(self, expected: Floats, scores: Floats, costs: Floats) -> None:
        rows = np.arange(len(expected))
        best = expected == expected.max(axis=1, keepdims=True)
        chosen = np.where(best, costs, np.inf).argmin(axis=1)
        self._first_costs, self._first_scores = costs[rows, chosen], scores[rows, chosen]
        steps: list[tuple[Floats, npt.NDArray[np.intp], Floats]] = []
        last = np.zeros(len(expected))
        while len(rows):
            saved = costs[rows, chosen][:, None] - costs[rows]
            lost = expected[rows, chosen][:, None] - expected[rows]
            # What saves next to nothing is worth it at no rate.
            with np.errstate(over="ignore"):
                rates = np.divide(lost, saved, out=np.full(saved.shape, np.inf), where=saved > 0)
            rate = rates.min(axis=1)
            # Of several at one rate the cheapest: the others lie on the line to it.
            following = np.where(rates == rate[:, None], saved, -np.inf).argmax(axis=1)
            moves = np.isfinite(rate)
            rows, chosen, following = rows[moves], chosen[moves], following[moves]
            # Rounding may put a step before the one that it follows.
            last = np.maximum(rate[moves], last[moves])
            changes = np.stack([each[rows, following] - each[rows, chosen] for each in (costs, scores)])
            steps.append((last, rows, changes))
            chosen = following
        all_rates = np.concatenate([each for each, _, _ in steps])
        order = np.argsort(all_rates, kind="stable")
        self._prompts = np.concatenate([each for _, each, _ in steps])[order]
        self._cost_steps, self._score_steps = np.concatenate([each for _, _, each in steps], axis=1)[:, order]
        rates = all_rates[order]
        # Prompts of one rate move together.
        self._ends = np.flatnonzero(np.append(rates[1:] != rates[:-1], True)) if len(rates) else np.empty(0, np.intp)
        self.rates: Floats = rates[self._ends]
        """Rates at which prompts move to a cheaper model, rising."""

    def frontier(self, weights: Floats) -> Frontier:
        """Quality over cost of prompts that count ``weights`` times each, from the highest rate to 0."""
        total = weights.sum()
        counted = weights[self._prompts]
        found = []
        for first, steps in ((self._first_costs, self._cost_steps), (self._first_scores, self._score_steps)):
            begun = weights @ first
            summed = begun + np.cumsum(counted * steps)[self._ends]
            found.append(np.append(begun, summed)[::-1] / total)
        costs, qualities = found
        # A cost that rounding makes fall is the cost before.
        return Frontier(np.maximum.accumulate(costs), qualities)

    def rate_for(self, budget: float, frontier: Frontier) -> float:
        """The smallest rate whose choices cost no more than ``budget``, which is no less than the cheapest choices cost.

        Args:
            frontier: of the same prompts.
        """
        within = frontier.costs[::-1] <= budget
        place = int(within.argmax()) if within.any() else len(self.rates)
        return 0.0 if place == 0 else float(self.rates[place - 1])


def mixtures(costs: Floats, qualities: Floats) -> tuple[Frontier, Sequence[int]]:
    """The best that random mixtures of models reach, and the models that it takes, the cheapest first.

    It is the upper hull of their (cost, quality) points, up to the best model; between two corners it mixes their two models.
    """
    kept: list[int] = []
    for place in np.lexsort((-qualities, costs)):
        if kept and qualities[place] <= qualities[kept[-1]]:
            continue
        while len(kept) > 1 and _is_below(kept[-1], kept[-2], int(place), costs, qualities):
            kept.pop()
        kept.append(int(place))
    return Frontier(costs[kept], qualities[kept]), kept


def _is_below(middle: int, left: int, right: int, costs: Floats, qualities: Floats) -> bool:
    """Whether a point lies on or below the line of two others."""
    along = (costs[right] - costs[left]) * (qualities[middle] - qualities[left])
    return bool(along <= (costs[middle] - costs[left]) * (qualities[right] - qualities[left]))


def against_singles(choices: Mapping[str, PricedChoices], scores: Floats, costs: Floats, weights: Floats) -> dict[str, Floats]:
    """Figures of policies beside single models, (draws,) each, under names such as ``policy/gain``.

    ``gain``: quality less that of the best mixture of two models at equal cost, mean over budgets from the cheapest model's
    cost to the best one's. ``gain_at_best``: quality for what the best single model costs, less that model's.
    ``cost_at_best``: the least cost that reaches the best single model's quality, as a share of its cost; NaN if none does.

    Args:
        scores: (n, k) scores.
        costs: (n, k) cost of each request.
        weights: (draws, n).
    """
    found: dict[str, list[float]] = {f"{name}/{figure}": [] for name in choices for figure in GAINS}
    totals = weights.sum(axis=1, keepdims=True)
    for draw, single_costs, qualities in zip(weights, weights @ costs / totals, weights @ scores / totals, strict=True):
        hull, _ = mixtures(single_costs, qualities)
        budgets = np.linspace(hull.costs[0], hull.costs[-1], N_BUDGETS)
        mixed = hull.at(budgets)
        for name, each in choices.items():
            reached = each.frontier(draw)
            cost = reached.cost_of(hull.qualities[-1])
            values = reached.at(budgets)
            found[f"{name}/gain"].append(float(np.mean(values - mixed)))
            found[f"{name}/gain_at_best"].append(float(values[-1] - mixed[-1]))
            free = hull.costs[-1] <= 0
            found[f"{name}/cost_at_best"].append(np.nan if cost is None or free else cost / hull.costs[-1])
    return {name: np.asarray(each) for name, each in found.items()}


GAINS: Final = ("gain", "gain_at_best", "cost_at_best")
"""The figures of :func:`against_singles`."""
