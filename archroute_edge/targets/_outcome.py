"""From what a decider found, or did not find in time, to the decision: calibration, and the models of the route."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from archroute_edge.config import RoutingConfig
from archroute_edge.deciders import Calibration
from archroute_edge.decision import Decision, Reason, Timings, TokenCounts, Verdict
from archroute_edge.routes import OTHER, RouteTable
from archroute_edge.targets._order import NO_FACTS, order_targets
from archroute_edge.targets._order_words import RequestFacts
from archroute_edge.targets._quality_policies import Assessment


def make_decision(
    config: RoutingConfig,
    calibration: Calibration | None,
    verdict: Verdict,
    key: str | None,
    scores: bool,
    facts: RequestFacts = NO_FACTS,
    assess: Callable[[str], Assessment | None] | None = None,
) -> Decision:
    """The decision that ``verdict`` comes to.

    Args:
        config: routes and models.
        calibration: what it makes of the verdict's scores, which must be there then.
        verdict: what was found.
        key: names the conversation, where models share a route by weight.
        scores: whether the decision has all scores.
        facts: what the models must be able to take.
        assess: says what is expected of the models of a route that prefers ``quality``; None of any other.
    """
    route, confidence, found = verdict.route, verdict.confidence, verdict.scores
    reason: Reason | None = verdict.reason
    if calibration is not None:
        assert found is not None
        answer = calibration.apply(route, found)
        route, confidence, found, reason = answer.route, answer.confidence, answer.scores, answer.reason
    started = time.perf_counter()
    assessed = None if assess is None else assess(route)
    timings = verdict.timings
    if assessed is not None:
        timings = replace(timings, total_ms=timings.total_ms + 1000 * (time.perf_counter() - started))
    costs = {} if assessed is None else assessed.costs(config, facts)
    values = None if assessed is None else assessed.values(costs)
    order = order_targets(config, route, facts=facts, key=key, now=time.time(), values=values)
    # Shares come before a policy.
    is_ranked = assessed is not None and order.reason not in ("weights", "ramp")
    return Decision(
        route=route,
        matched=route != OTHER,
        model=order.first,
        models=order.models,
        confidence=confidence,
        scores=found if scores else None,
        tokens=verdict.tokens,
        timings=timings,
        trimmed=bool(verdict.dropped_turns or verdict.cut_turns),
        dropped_turns=verdict.dropped_turns,
        cut_turns=verdict.cut_turns,
        decided_by=verdict.decided_by,
        prompt_format=verdict.prompt_format,
        engine=verdict.engine,
        reason=reason,
        model_reason=order.reason,
        targets=assessed.ranked(costs, order) if assessed is not None and is_ranked else None,
    )


def no_text_decision(config: RoutingConfig, key: str | None, facts: RequestFacts = NO_FACTS) -> Decision:
    """What a conversation without user text comes to, and no model has to be asked: ``other``, and the default model."""
    return fallback_decision(config, key, 0.0, 0.0, "no_user_text", facts)


def fallback_decision(
    config: RoutingConfig,
    key: str | None,
    total_ms: float,
    wait_ms: float,
    reason: Reason = "deadline",
    facts: RequestFacts = NO_FACTS,
) -> Decision:
    """What stands in for a decision that no model made: ``other``, and the default model."""
    order = order_targets(config, OTHER, facts=facts, key=key, now=time.time())
    return Decision(
        route=OTHER,
        matched=False,
        model=order.first,
        models=order.models,
        confidence=0.0,
        scores=None,
        tokens=TokenCounts(0, 0, 0, 0, 0),
        timings=Timings(total_ms, wait_ms, 0.0, 0.0, 0.0),
        trimmed=False,
        dropped_turns=0,
        cut_turns=0,
        decided_by=None,
        prompt_format=None,
        reason=reason,
        model_reason=order.reason,
    )


def decisions_by_tables(
    tables: Sequence[RouteTable],
    calibration: Calibration | None,
    scores: bool,
    verdicts: Sequence[Verdict | None],
    total_ms: float,
    wait_ms: float,
) -> list[Decision]:
    """The decisions on one conversation by several tables, behind which are no models; without verdicts it has no text."""
    configs = [RoutingConfig(table=table) for table in tables]
    if not verdicts:
        return [no_text_decision(config, None) for config in configs]
    return [
        fallback_decision(config, None, total_ms, wait_ms)
        if verdict is None
        else make_decision(config, calibration, verdict, None, scores)
        for config, verdict in zip(configs, verdicts, strict=True)
    ]
