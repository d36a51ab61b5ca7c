"""From a route, an alias or a model to the targets that may answer, in the order in which to try them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from archroute_edge.config import RoutingConfig
from archroute_edge.decision import ModelReason
from archroute_edge.targets._groups import Group, named_group, route_group
from archroute_edge.targets._model_facts import expected_cost, model_facts
from archroute_edge.targets._order_words import Anchor, LeftOut, RequestFacts, TargetKnowledge, TargetOrder
from archroute_edge.targets._shares import Draws, shares
from archroute_edge.targets._switching import judge_switch

NO_FACTS: Final = RequestFacts()
_MOVING: Final = ("weights", "ramp", "cheapest", "fastest", "no_latencies", "quality")


def order_targets(
    config: RoutingConfig,
    name: str | None,
    *,
    direct: bool = False,
    stand_in: str | None = None,
    facts: RequestFacts = NO_FACTS,
    key: str | None = None,
    now: float,
    knowledge: TargetKnowledge | None = None,
    anchor: Anchor | None = None,
    rng: random.Random | None = None,
    values: Mapping[str, float] | None = None,
) -> TargetOrder:
    """The targets of a request: those that can take it, shared or ranked as the configuration states.

    No match, and a route without models, give the default model, or else ``stand_in``.

    Args:
        config: routes, models, aliases and the sharing of their traffic.
        name: a route's name; None or ``other`` if none fits. With ``direct`` an alias's or a model's.
        direct: whether a client asked for that alias or model itself.
        stand_in: for the default model, if the configuration has none.
        facts: what the targets have to take.
        key: something that stays the same over a conversation; equal keys draw equal targets, on every machine.
        now: seconds since 1970.
        knowledge: what is known from earlier requests.
        anchor: the model that the conversation has.
        rng: draws if there is no key.
        values: model to its expected score less what its price weighs, for a route that prefers ``quality``.

    Raises:
        RouteTableError: the table has no route of that name.
    """
    group = named_group(config, name, now) if direct and name is not None else route_group(config, name, now, stand_in)
    return _Request(config, facts, now, knowledge, Draws(key, rng), direct, values).ordered(group, anchor)


@dataclass(frozen=True)
class _Request:
    """What one request's order depends on."""

    config: RoutingConfig
    facts: RequestFacts
    now: float
    knowledge: TargetKnowledge | None
    draws: Draws
    direct: bool
    values: Mapping[str, float] | None

    def ordered(self, group: Group, anchor: Anchor | None) -> TargetOrder:
        if not group.members:
            return TargetOrder((), None)
        fitting, left_out = group, self._unfitting(group)
        if left_out:
            unfit = {each.model for each in left_out}
            fitting = group.only(lambda model: model not in unfit)
            if not fitting.members:
                # Upstreams have the last word: what is stated here may be out of date, and a request is only estimated.
                listed = sorted(self._without_withdrawn(group).models, key=self._rests)
                return TargetOrder(tuple(listed), "none_fits", tuple(left_out), places=group.places)
        fits_alone = bool(left_out) and len(fitting.models) == 1
        steady = self._without_withdrawn(fitting)
        if steady is not fitting:
            left_out += [LeftOut(model, "withdrawn") for model in fitting.models if model not in steady.models]
        awake = self._without_resting(steady)
        models, reason = self._arranged(awake)
        if awake is not fitting:
            models = list(dict.fromkeys([*models, *self._arranged(steady)[0]]))
            (usual, *_), reason = self._arranged(fitting)
            if usual != models[0]:
                reason = "resting" if usual in steady.models else "withdrawn"
        if fits_alone:
            reason = "only_one_fits"
        if anchor is not None:
            models, reason = self._kept(group, awake, models, reason, anchor)
        return TargetOrder(tuple(models), reason, tuple(left_out), self._shadow(group, models[0]), group.places)

    def _unfitting(self, group: Group) -> list[LeftOut]:
        if not self.config.forward.models:
            return []
        return [LeftOut(model, why) for model in group.models if (why := self._unfit(model)) is not None]

    def _unfit(self, model: str) -> Literal["context_window", "images", "tools"] | None:
        stated = model_facts(self.config, model)
        tokens = (self.facts.prompt_tokens or 0) + (self.facts.answer_tokens or 0)
        if stated.context_window is not None and tokens > stated.context_window:
            return "context_window"
        if self.facts.images and stated.images is False:
            return "images"
        return "tools" if self.facts.tools and stated.tools is False else None

    def _rests(self, model: str) -> bool:
        return self.knowledge is not None and self.knowledge.is_resting(model)

    def _without_withdrawn(self, group: Group) -> Group:
        """The group without those that were on trial and did worse; all of it if it has no others."""
        knowledge = self.knowledge
        if knowledge is None:
            return group
        kept = group.without(lambda each, name: each.rule.canary is not None and knowledge.is_withdrawn(each.place, name))
        return kept if kept.members else group

    def _without_resting(self, group: Group) -> Group:
        """The group without those that rest; all of it if they all do."""
        if self.knowledge is None:
            return group
        kept = group.only(lambda model: not self._rests(model))
        return kept if kept.members else group

    def _arranged(self, group: Group) -> tuple[list[str], ModelReason]:
        """Models, and why the first is the first."""
        drawn = shares(group.names, group.weights, group.rule.ramp, self.now)
        # What a route prefers ranks its own models, not the default that stands in for them.
        if group.policy in ("cheapest", "fastest", "quality") and not drawn and not group.is_default:
            return self._ranked(group)
        first = self.draws.order(group.place, drawn)
        members = dict(zip(group.names, group.members, strict=True))
        arranged: list[tuple[list[str], ModelReason]] = []
        for name in dict.fromkeys([*first, *group.names]):
            member = members[name]
            arranged.append(([member], "listed") if isinstance(member, str) else self._arranged(member))
        models = list(dict.fromkeys(model for names, _ in arranged for model in names))
        ramp = group.rule.ramp
        if len(group.members) > 1 and drawn:
            return models, "ramp" if ramp is not None and ramp.model in group.names else "weights"
        if arranged[0][1] in ("weights", "ramp"):
            return models, arranged[0][1]
        if group.is_default:
            return models, "no_default_model" if self.config.default_model is None else "default_model"
        if self.direct:
            return models, "asked_for"
        return models, "listed" if len(models) > 1 else "only_target"

    def _ranked(self, group: Group) -> tuple[list[str], ModelReason]:
        """Models by price, latency or value, in the order of the configuration where those are equal or not known."""
        models = list(group.models)
        values = self.values
        if group.policy == "quality":
            if values is None:
                return models, "no_scores"
            # One that nothing is expected of was added to the configuration meanwhile.
            models.sort(key=lambda model: -values.get(model, -math.inf))
            return models, "quality"
        if group.policy == "cheapest":
            costs = {model: cost for model in models if (cost := expected_cost(self.config, model, self.facts)) is not None}
            # Free of charge is something to state; what is not stated may cost anything.
            models.sort(key=lambda model: costs.get(model, math.inf))
            return models, "cheapest" if costs else "no_prices"
        if self.knowledge is None:
            return models, "no_latencies"
        found = {model: self.knowledge.latency_ms(model) for model in models}
        # One that was not measured yet stands in front, or it never would be.
        models.sort(key=lambda model: -1.0 if (latency := found[model]) is None else latency)
        return models, "no_latencies" if found[models[0]] is None else "fastest"

    def _kept(
        self, group: Group, awake: Group, models: list[str], reason: ModelReason, anchor: Anchor
    ) -> tuple[list[str], ModelReason]:
        """The order with a model in front that the conversation should keep."""
        kept = anchor.chosen.get(group.place)
        # The order of a file does not move, so what stands first in it is wanted first; shares, prices and latencies move.
        if kept in awake.models and self._arranged(awake)[1] in _MOVING:
            models, reason = [kept, *(model for model in models if model != kept)], "sticky"
        if self.config.forward.max_switch_spend_pct is None or self.direct:
            return models, reason
        if anchor.model == models[0]:
            return models, "same_anchor"
        # A target of the route that is not awake was left out for a reason.
        if anchor.model in group.models and anchor.model not in awake.models:
            return models, reason
        switch = judge_switch(self.config, anchor, models[0])
        if switch.reason != "over_cap":
            return models, switch.reason
        if self._unfit(anchor.model) is not None or self._rests(anchor.model):
            return models, reason
        return [anchor.model, *(model for model in models if model != anchor.model)], "over_cap"

    def _shadow(self, group: Group, first: str) -> str | None:
        """The model to ask as well, by the rule of the first place that has one."""
        for each in group.all:
            rule = each.rule.shadow
            if rule is not None:
                drawn = rule.model != first and self.draws.happens(each.place, "shadow", rule.share)
                return rule.model if drawn and self._unfit(rule.model) is None else None
        return None
