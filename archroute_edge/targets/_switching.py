"""Whether a conversation's change of model is worth what it costs: Plano's budget (``max_switch_spend_pct``).

Sums and reasons are those of Plano 0.4.36, crates/brightstaff/src/handlers/llm/session_router.rs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archroute_edge.config import RoutingConfig
from archroute_edge.targets._model_facts import A_MILLION, cached_price, model_facts
from archroute_edge.targets._order_words import Anchor

SwitchReason = Literal["same_anchor", "free", "within_cap", "over_cap", "no_pricing"]


@dataclass(frozen=True)
class Switch:
    """A change of model, or none: why it may be, what it costs in US dollars, and what that is measured by.

    Args:
        reason: ``over_cap`` if it may not be.
        cost: of the context, read anew; 0 if it costs nothing more, or prices are not known.
        baseline: what never switching would have cost, this request's context included.
    """

    reason: SwitchReason
    cost: float
    baseline: float


def judge_switch(config: RoutingConfig, anchor: Anchor, candidate: str) -> Switch:
    """What changing from the conversation's model to ``candidate`` comes to."""
    first = model_facts(config, anchor.first_model).price
    read = 0.0 if first is None else anchor.context_tokens * cached_price(first) / A_MILLION
    baseline = anchor.baseline + read
    if candidate == anchor.model:
        return Switch("same_anchor", 0.0, baseline)
    if not anchor.is_warm:
        # The cache is lost whichever model comes next.
        return Switch("free", 0.0, baseline)
    old, new = model_facts(config, anchor.model).price, model_facts(config, candidate).price
    if old is None or new is None:
        return Switch("no_pricing", 0.0, baseline)
    cost = anchor.context_tokens * (new.input - cached_price(old)) / A_MILLION
    if cost <= 0:
        return Switch("free", 0.0, baseline)
    percent = config.forward.max_switch_spend_pct
    within = percent is None or anchor.spent + cost <= percent / 100 * baseline
    return Switch("within_cap" if within else "over_cap", cost, baseline)
