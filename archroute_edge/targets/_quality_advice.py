"""What could be better about routes that prefer ``quality``."""

from __future__ import annotations

from collections.abc import Iterator

from archroute_edge.config import Advice, RoutingConfig, shorten
from archroute_edge.models import BUNDLED_ENCODER, find_bundled
from archroute_edge.targets._groups import group_at
from archroute_edge.targets._model_facts import expected_cost
from archroute_edge.targets._order_words import Place, RequestFacts
from archroute_edge.targets._quality_policies import QualityPolicies, RouteQuality


def about_quality(config: RoutingConfig, policies: QualityPolicies) -> Iterator[Advice]:
    """What could be better about the routes that prefer quality, each with its route and line."""
    for name, route in policies.routes.items():
        line = config.route_lines.get(name)
        for message in (*_about_shares(config, name), *_about_prices(config, name, route), *_about_order(config, route)):
            yield Advice(message, name, line)
    if policies.encoders:
        from archroute_edge.quality import encoder_identity

        known = encoder_identity(find_bundled(BUNDLED_ENCODER).path)
        for identity, name in policies.encoders.items():
            predictor = policies.routes[name].predictor
            if identity != known and predictor.model_file is None and predictor.reads == "vectors":
                message = (
                    f"has a predictor that was trained on the vectors of another encoder than {BUNDLED_ENCODER}; "
                    "only a router that decides with that encoder can use it"
                )
                yield Advice(message, name, config.route_lines.get(name))


def _about_shares(config: RoutingConfig, name: str) -> Iterator[str]:
    group = group_at(config, Place("route", name))
    rule = config.forward.routes.get(name)
    if group is not None and len(group.models) > 1 and rule is not None and (rule.weights or rule.ramp is not None):
        yield "prefers 'quality' and shares its traffic by weights or a ramp, which come first; keep one of the two"


def _about_prices(config: RoutingConfig, name: str, route: RouteQuality) -> Iterator[str]:
    costs = {model: expected_cost(config, model, RequestFacts()) for model in route.columns}
    unknown = [shorten(model) for model, cost in costs.items() if cost is None]
    if route.rate > 0 and unknown and len(costs) > 1:
        which = ", ".join(unknown) if len(unknown) < len(costs) else "its models"
        yield f"prefers 'quality', but no price is known of {which}, so it counts as free; state prices in 'archroute'"
    stated = config.quality[name]
    if (stated.share, stated.cost_per_1k, stated.rate) == (None, None, None) and len(set(costs.values()) - {None}) > 1:
        yield "prefers 'quality' at any price; state a share, cost_per_1k or rate if prices are to count"


def _about_order(config: RoutingConfig, route: RouteQuality) -> Iterator[str]:
    """A model that another one beats on every prompt of the sample, at a price that is no higher."""
    sample = route.sample()
    if not len(sample):
        return
    models = list(route.columns)
    costs = [expected_cost(config, model, RequestFacts()) or 0.0 for model in models]
    for number, model in enumerate(models):
        for other, better in enumerate(models):
            if costs[other] <= costs[number] and (sample[:, other] > sample[:, number]).all():
                yield (
                    f"lists {shorten(model)}, which never comes first: on all of the predictor's sample {shorten(better)} is "
                    "expected to do better, and costs no more"
                )
                break
