"""From the verdicts on a question's conversations to its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from archroute_edge.config import RoutingConfig
from archroute_edge.conversation import Conversation
from archroute_edge.deciders import Calibration, Decider
from archroute_edge.decision import Decision, Verdict
from archroute_edge.targets import QualityPolicies, RequestFacts, fallback_decision, make_decision, no_text_decision

if TYPE_CHECKING:
    from archroute_edge.routing._route_quality import RouteQuality


def quality_for(
    policies: QualityPolicies, decider: Decider, n_threads: int | None, old: RouteQuality | None
) -> RouteQuality | None:
    """What routes that prefer quality need; None if none do. ``old`` has models that may be loaded already."""
    if not policies.routes:
        return None
    # Brings NumPy and llama.cpp.
    from archroute_edge.routing._route_quality import open_quality

    return open_quality(policies, decider, n_threads, None if old is None else old.readers)


def decisions_on(
    config: RoutingConfig,
    calibration: Calibration | None,
    quality: RouteQuality | None,
    conversations: Sequence[Conversation],
    facts: Sequence[RequestFacts],
    keys: Sequence[str | None],
    scores: bool,
    is_many: bool,
    verdicts: Sequence[Verdict | None],
    total_ms: float,
    wait_ms: float,
) -> Decision | list[Decision]:
    """The decisions on conversations, of which those that have text have a verdict each; or the only one.

    Args:
        config: routes and models.
        calibration: what it makes of the verdicts' scores.
        quality: says what is expected of the models of routes that prefer ``quality``.
        conversations: those that were asked about.
        facts: what the models must be able to take, for each.
        keys: the name of each.
        scores: whether the decisions have all scores.
        is_many: whether the result is a list.
        verdicts: None stands for the fallback at the deadline.
        total_ms: since the question.
        wait_ms: of it, waited.
    """
    found = iter(verdicts)
    decisions = []
    for turns, fact, key in zip(conversations, facts, keys, strict=True):
        verdict = next(found) if turns else None
        if verdict is not None:
            assess = None if quality is None else partial(quality.assess, verdict=verdict, turns=turns)
            decisions.append(make_decision(config, calibration, verdict, key, scores, fact, assess))
        elif turns:
            decisions.append(fallback_decision(config, key, total_ms, wait_ms, facts=fact))
        else:
            decisions.append(no_text_decision(config, key, fact))
    return decisions if is_many else decisions[0]
