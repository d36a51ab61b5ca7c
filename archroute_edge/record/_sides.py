"""Models held against each other: those that shared a route's traffic by chance, and shadows against what they repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from archroute_edge.evaluation import mcnemar
from archroute_edge.record import _rows as rows
from archroute_edge.record._intervals import (
    Difference,
    Floats,
    Integers,
    mean_difference,
    median_difference,
    paired_median,
    share_difference,
)
from archroute_edge.record._reading import Record, Wanted
from archroute_edge.record._traffic import Booleans, Names, Traffic

LEAST_REQUESTS: Final = 20
"""Of a side; fewer are not compared."""
_BY_CHANCE: Final = ("ramp", "weights")
"""Reasons of a first target that depend on nothing else. A conversation that stays with a model may have come there by a
failure of another."""
_P: Final = 0.05


@dataclass(frozen=True)
class Compared:
    """One figure of two models.

    Args:
        figure: ``failed``, ``first_byte_ms``, ``cost`` or ``score``.
        one: of the model on trial: a share, or a median (of costs and scores the mean).
        other: of the incumbent.
        difference: the first less the second.
    """

    figure: str
    one: float
    other: float
    difference: Difference

    @property
    def verdict(self) -> str:
        """In words: how the model on trial compares."""
        if not self.difference.is_one:
            return "no difference shown"
        return _VERDICTS[self.figure][self.difference.value > 0]


_VERDICTS: Final = {
    "failed": ("fails less often", "fails more often"),
    "first_byte_ms": ("faster", "slower"),
    "cost": ("cheaper", "dearer"),
    "score": ("graded worse", "graded better"),
}


@dataclass(frozen=True)
class Sides:
    """Two models that shared the traffic of a route or an alias.

    Args:
        place: the route, or the alias that was asked for.
        incumbent: with the most requests.
        model: the other one.
        requests: of the incumbent and of the other.
        figures: of both.
    """

    place: str
    incumbent: str
    model: str
    requests: tuple[int, int]
    figures: tuple[Compared, ...]


@dataclass(frozen=True)
class ShadowPairs:
    """Requests that a shadow model got as well.

    Args:
        model: that answered the clients.
        shadow: that was asked as well.
        pairs: how many.
        only_model_failed: pairs in which the shadow did not.
        only_shadow_failed: the other way round.
        failed_p: McNemar's exact test: how probable so large a difference is if both fail equally often.
        first_byte_ms: of the shadow less that of the model, the median over pairs.
        cost: of the same, the mean over pairs.
        score: of the same, over the pairs of which both have a grade.
    """

    model: str
    shadow: str
    pairs: int
    only_model_failed: int
    only_shadow_failed: int
    failed_p: float
    first_byte_ms: Difference | None
    cost: Difference | None
    score: Difference | None

    @property
    def verdict(self) -> str:
        """In words: how the shadow compares."""
        said = []
        if self.failed_p < _P:
            said.append(_VERDICTS["failed"][self.only_shadow_failed > self.only_model_failed])
        found = {"first_byte_ms": self.first_byte_ms, "cost": self.cost, "score": self.score}
        said += [
            _VERDICTS[name][difference.value > 0]
            for name, difference in found.items()
            if difference is not None and difference.is_one
        ]
        return ", ".join(said) or "no difference shown"


def sides_of(traffic: Traffic) -> Iterator[Sides]:
    """All pairs of models that shared traffic, the busiest place first; a model alone or with few requests is in none."""
    by_chance = np.logical_or.reduce([traffic.model_reason.of(name) for name in _BY_CHANCE])
    shared = by_chance & (traffic.first_model >= 0) & ~traffic.is_decision
    for column, within in ((traffic.route, shared), (traffic.asked_model, shared & (traffic.route.codes < 0))):
        for place in column.counted(within):
            yield from _sides_at(traffic, place, within & column.of(place))


def _sides_at(traffic: Traffic, place: str, here: Booleans) -> Iterator[Sides]:
    models = Names(traffic.tries.model.names, traffic.first_model)
    found = {model: here & models.of(model) for model in models.counted(here)}
    found = {model: rows for model, rows in found.items() if rows.sum() >= LEAST_REQUESTS}
    incumbent = next(iter(found), None)
    for model, ours in found.items():
        if incumbent is not None and model != incumbent:
            theirs = found[incumbent]
            figures = tuple(_compared(traffic, ours, theirs))
            yield Sides(place, incumbent, model, (int(theirs.sum()), int(ours.sum())), figures)


def _compared(traffic: Traffic, ours: Booleans, theirs: Booleans) -> Iterator[Compared]:
    answered_first = ~traffic.first_try_failed & (traffic.n_tries == 1)
    costs = np.where(answered_first, traffic.cost, np.nan)
    figures: tuple[tuple[str, Floats, _Test, Callable[[Floats], float]], ...] = (
        ("failed", traffic.first_try_failed.astype(np.float64), share_difference, _mean),
        ("first_byte_ms", 1000 * traffic.first_try_first_byte, median_difference, _median),
        ("cost", costs, mean_difference, _mean),
        ("score", np.where(answered_first, traffic.score, np.nan), mean_difference, _mean),
    )
    for name, values, test, middle in figures:
        one, other = (rows & ~np.isnan(values) for rows in (ours, theirs))
        if min(one.sum(), other.sum()) >= LEAST_REQUESTS:
            difference = test(values[one], traffic.clusters[one], values[other], traffic.clusters[other])
            yield Compared(name, middle(values[one]), middle(values[other]), difference)


_Test = Callable[[Floats, Integers, Floats, Integers], Difference]


def _mean(values: Floats) -> float:
    return float(values.mean())


def _median(values: Floats) -> float:
    return float(np.median(values))


_FIGURES: Final = ", ".join(
    f'{{0}}_try."{rows.MODEL}", {{0}}."{rows.OUTCOME}" = \'failed\', {{0}}_try."{rows.FIRST_BYTE}", '
    f'{{0}}."{rows.COST}", {{0}}_outcome."{rows.SCORE}"'.format(side)
    for side in ("main", "copy")
)
# A request of several tries is left out: it would be compared with the one that came last.
_PAIRS: Final = (
    f'SELECT {_FIGURES} FROM requests AS copy JOIN requests AS main ON main."{rows.ID}" = copy."{rows.SHADOW_OF}" '
    "JOIN tries AS main_try ON main_try.request = main.number JOIN tries AS copy_try ON copy_try.request = copy.number "
    "LEFT JOIN outcomes AS main_outcome ON main_outcome.request = main.number "
    "LEFT JOIN outcomes AS copy_outcome ON copy_outcome.request = copy.number "
    f'WHERE copy."{rows.SHADOW_OF}" IS NOT NULL AND {{condition}} '
    "AND (SELECT count(*) FROM tries WHERE request = main.number) = 1 AND copy_try.number = 0"
)


def shadow_pairs(record: Record, wanted: Wanted) -> list[ShadowPairs]:
    """The pairs whose request is wanted, by both models, the most frequent first."""
    condition, values = wanted.condition("main")
    pairs: dict[tuple[str, str], list[_Pair]] = {}
    for row in record.connection.execute(_PAIRS.format(condition=condition), values):
        model, failed, first_byte, cost, score, shadow, copy_failed, copy_first_byte, copy_cost, copy_score = row
        pair = _Pair(
            bool(failed),
            bool(copy_failed),
            _less(copy_first_byte, first_byte),
            _less(copy_cost, cost),
            _less(copy_score, score),
        )
        pairs.setdefault((model, shadow), []).append(pair)
    found = [_shadow_pairs(*models, of_both) for models, of_both in pairs.items()]
    return sorted(found, key=lambda each: -each.pairs)


@dataclass(frozen=True)
class _Pair:
    model_failed: bool
    shadow_failed: bool
    first_byte: float | None
    cost: float | None
    score: float | None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _shadow_pairs(model: str, shadow: str, pairs: list[_Pair]) -> ShadowPairs:
    test = mcnemar([not pair.model_failed for pair in pairs], [not pair.shadow_failed for pair in pairs])
    first_bytes = np.array([1000 * pair.first_byte for pair in pairs if pair.first_byte is not None])
    costs = np.array([pair.cost for pair in pairs if pair.cost is not None])
    scores = np.array([pair.score for pair in pairs if pair.score is not None])
    return ShadowPairs(
        model,
        shadow,
        len(pairs),
        test.only_second,
        test.only_first,
        test.p_value,
        paired_median(first_bytes) if len(first_bytes) else None,
        _paired_mean(costs),
        _paired_mean(scores),
    )


def _paired_mean(differences: Floats) -> Difference | None:
    if not len(differences):
        return None
    nothing = np.zeros(len(differences))
    alone = np.arange(len(differences))
    return mean_difference(differences, alone, nothing, alone)
