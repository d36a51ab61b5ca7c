"""Routes that prefer ``quality``: their predictors, loaded once, and what those expect of a route's models on a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archroute_edge.config import QualityPolicy, RoutingConfig, shorten
from archroute_edge.decision import RankedTarget, TargetReason
from archroute_edge.errors import ConfigError, QualityError
from archroute_edge.system import bundled_folder
from archroute_edge.targets._model_facts import expected_cost
from archroute_edge.targets._order_words import RequestFacts, TargetOrder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from archroute_edge.quality import Predictor, PromptFeatures

BUNDLED_PREDICTOR: Final = "quality.safetensors"
_MOST_SHOWN: Final = 8


@dataclass(frozen=True)
class Assessment:
    """What is expected of a route's models on one prompt.

    Args:
        scores: model to its expected score.
        rate: what a US dollar is worth in expected scores.
    """

    scores: Mapping[str, float]
    rate: float

    def costs(self, config: RoutingConfig, facts: RequestFacts) -> dict[str, float | None]:
        """Model to the price of this request in US dollars; None if it has no price."""
        return {model: expected_cost(config, model, facts) for model in self.scores}

    def values(self, costs: Mapping[str, float | None]) -> dict[str, float]:
        """Model to its expected score less what its price weighs; one without a price counts as free of charge."""
        return {model: score - self.rate * (costs[model] or 0.0) for model, score in self.scores.items()}

    def ranked(self, costs: Mapping[str, float | None], order: TargetOrder) -> tuple[RankedTarget, ...]:
        """The models of an order, and those that it leaves out, with what stands for and against each."""
        values = self.values(costs)
        left_out = {each.model: each.why for each in order.left_out if each.why != "withdrawn"}
        best = values.get(order.models[0], 0.0) if order.models else 0.0

        def why(model: str) -> TargetReason:
            if model == order.first and order.reason in ("only_one_fits", "none_fits"):
                return order.reason
            if model in left_out:
                return left_out[model]
            if model == order.first:
                return "best_value"
            return "equal_value" if values[model] == best else "lower_value"

        listed = dict.fromkeys((*order.models, *left_out))
        return tuple(
            RankedTarget(model, self.scores[model], costs[model], values[model], why(model))
            for model in listed
            if model in self.scores
        )


@dataclass(frozen=True, eq=False)
class RouteQuality:
    """The policy of one route.

    Args:
        predictor: what it expects.
        columns: model to its place among the predictor's models.
        rate: what a US dollar is worth in expected scores.
    """

    predictor: Predictor
    columns: Mapping[str, int]
    rate: float

    def assess(self, features: PromptFeatures) -> Assessment:
        """What is expected on one prompt."""
        row = self.predictor.expected(features)[0]
        return Assessment({model: float(row[column]) for model, column in self.columns.items()}, self.rate)

    def sample(self) -> npt.NDArray[np.float64]:
        """(m, models) the expected scores of the predictor's sample."""
        found: npt.NDArray[np.float64] = self.predictor.sample[:, list(self.columns.values())]
        return found


class QualityPolicies:
    """The routes of a configuration that prefer ``quality``.

    Args:
        config: names predictors; each file is read once.

    Raises:
        ConfigError: a predictor cannot be read or does not know a model, or a share or cost cannot be kept; with file and
            line.
    """

    def __init__(self, config: RoutingConfig) -> None:
        self._config = config
        self._loaded: dict[Path, Predictor] = {}
        self.routes: dict[str, RouteQuality] = {}
        for name, policy in config.quality.items():
            try:
                if targets := _targets(config, name):
                    self.routes[name] = self._route(policy, targets)
            except QualityError as exc:
                raise self.error(name, str(exc)) from exc

    @property
    def encoders(self) -> dict[str, str]:
        """Identity of each model that predictors read, mostly encoders, to the first route that needs it."""
        found: dict[str, str] = {}
        for name, route in self.routes.items():
            if route.predictor.encoder is not None:
                found.setdefault(route.predictor.encoder, name)
        return found

    def error(self, route: str, message: str) -> ConfigError:
        """An error about the policy of a route."""
        line = self._config.quality[route].line
        return ConfigError(f"route {shorten(route)}: {message}", path=self._config.source, line=line)

    def _route(self, policy: QualityPolicy, targets: tuple[str, ...]) -> RouteQuality:
        path = predictor_path(policy)
        if path not in self._loaded:
            from archroute_edge.quality import load_predictor

            self._loaded[path] = load_predictor(path)
        predictor = self._loaded[path]
        columns = {target: predictor.models.index(_scored_as(target, policy, predictor, path)) for target in targets}
        return RouteQuality(predictor, columns, self._rate(policy, predictor, columns))

    def _rate(self, policy: QualityPolicy, predictor: Predictor, columns: Mapping[str, int]) -> float:
        if policy.share is None and policy.cost_per_1k is None:
            return policy.rate or 0.0
        goal = "share" if policy.cost_per_1k is None else "cost_per_1k"
        unknown = [target for target in columns if expected_cost(self._config, target, RequestFacts()) is None]
        if unknown:
            names = ", ".join(map(shorten, unknown))
            raise QualityError(f"{goal} needs the price of {names}; state it in the section 'archroute', or state a rate")
        if not len(predictor.sample):
            raise QualityError(
                f"{goal} needs a predictor with a sample, which archroute quality calibrate -o writes; or state a rate"
            )
        import numpy as np

        from archroute_edge.quality import Trade

        tokens = [None] * len(predictor.sample) if predictor.sample_tokens is None else predictor.sample_tokens.tolist()
        known = {each: [self._price(target, each) for target in columns] for each in set(tokens)}
        trade = Trade(predictor.sample[:, list(columns.values())], np.array([known[each] for each in tokens]))
        if policy.cost_per_1k is not None:
            return trade.rate_for_cost(policy.cost_per_1k)
        assert policy.share is not None
        return trade.rate_for_share(policy.share)

    def _price(self, target: str, tokens: float | None) -> float:
        found = expected_cost(self._config, target, RequestFacts(None if tokens is None else int(tokens)))
        assert found is not None
        return found


def _targets(config: RoutingConfig, route: str) -> tuple[str, ...]:
    """The models of a route, those of its aliases among them, whatever their shares are now."""

    def models() -> Iterator[str]:
        for name in config.table[route].models:
            if name in config.aliases:
                yield from (target.model for target in config.aliases[name])
            else:
                yield name

    return tuple(dict.fromkeys(models()))


def _scored_as(target: str, policy: QualityPolicy, predictor: Predictor, path: Path) -> str:
    """The predictor's name for a target: as stated, its own, or its own without the provider.

    Raises:
        QualityError: the predictor has no such model.
    """
    stated = policy.scored_as.get(target)
    for name in (target, target.partition("/")[2]) if stated is None else (stated,):
        if name in predictor.models:
            return name
    known = ", ".join(map(shorten, predictor.models[:_MOST_SHOWN]))
    more = f" and {len(predictor.models) - _MOST_SHOWN} more" if len(predictor.models) > _MOST_SHOWN else ""
    if stated is not None:
        raise QualityError(f"scored_as: {path} knows no model {shorten(stated)}; it knows {known}{more}")
    raise QualityError(f"{path} knows no model {shorten(target)}; say under scored_as which of these it is like: {known}{more}")


def predictor_path(policy: QualityPolicy) -> Path:
    """The file of a policy's predictor."""
    return bundled_folder() / BUNDLED_PREDICTOR if policy.predictor is None else policy.predictor
