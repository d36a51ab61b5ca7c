"""From what a decider found, or did not find in time, to the decision: calibration, and the models of the route."""

from __future__ import annotations

from typing import Literal

from archroute_edge.calibration import Calibration
from archroute_edge.config import RoutingConfig
from archroute_edge.decision import Decision, Timings, TokenCounts, Verdict
from archroute_edge.model_selection import select_models
from archroute_edge.routes import OTHER


def make_decision(
    config: RoutingConfig, calibration: Calibration | None, verdict: Verdict, key: str | None, scores: bool
) -> Decision:
    """The decision that ``verdict`` comes to.

    Args:
        config: routes and models.
        calibration: what it makes of the verdict's scores, which must be there then.
        verdict: what was found.
        key: names the conversation, where models share a route by weight.
        scores: whether the decision has all scores.
    """
    route, confidence, found = verdict.route, verdict.confidence, verdict.scores
    reason: Literal["low_confidence", "deadline"] | None = verdict.reason
    if calibration is not None:
        assert found is not None
        answer = calibration.apply(route, found)
        route, confidence, found, reason = answer.route, answer.confidence, answer.scores, answer.reason
    chosen = select_models(config, route, key=key)
    return Decision(
        route=route,
        matched=route != OTHER,
        model=chosen.first,
        models=chosen.models,
        confidence=confidence,
        scores=found if scores else None,
        tokens=verdict.tokens,
        timings=verdict.timings,
        trimmed=bool(verdict.dropped_turns or verdict.cut_turns),
        dropped_turns=verdict.dropped_turns,
        cut_turns=verdict.cut_turns,
        decided_by=verdict.decided_by,
        prompt_format=verdict.prompt_format,
        reason=reason,
    )


def fallback_decision(config: RoutingConfig, key: str | None, total_ms: float) -> Decision:
    """What stands in for a decision that there was no time for: ``other``, and the default model."""
    chosen = select_models(config, OTHER, key=key)
    return Decision(
        route=OTHER,
        matched=False,
        model=chosen.first,
        models=chosen.models,
        confidence=0.0,
        scores=None,
        tokens=TokenCounts(0, 0, 0, 0, 0),
        timings=Timings(total_ms, 0.0, 0.0, 0.0, 0.0),
        trimmed=False,
        dropped_turns=0,
        cut_turns=0,
        decided_by=None,
        prompt_format=None,
        reason="deadline",
    )
