"""From a route to the models that may answer, in order, and the reason for the first one. Also advice on routes.

In this room *target* means an LLM that a conversation is routed to, never the router's own model.

Used by: ``routing``, ``gateway`` and ``cli``. Other rooms import only the names below; modules with an underscore belong to
this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.targets._groups import Group, group_at, places_of
    from archroute_edge.targets._model_facts import model_facts, price_of_request, request_cost
    from archroute_edge.targets._order import order_targets
    from archroute_edge.targets._order_words import (
        Anchor,
        LeftOut,
        Place,
        RequestFacts,
        TargetKnowledge,
        TargetOrder,
    )
    from archroute_edge.targets._outcome import decisions_by_tables, fallback_decision, make_decision, no_text_decision
    from archroute_edge.targets._quality_policies import BUNDLED_PREDICTOR, Assessment, QualityPolicies, predictor_path
    from archroute_edge.targets._route_advice import advice
    from archroute_edge.targets._switching import judge_switch
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_groups": "Group group_at places_of",
            "_model_facts": "model_facts price_of_request request_cost",
            "_order": "order_targets",
            "_order_words": "Anchor LeftOut Place RequestFacts TargetKnowledge TargetOrder",
            "_outcome": "decisions_by_tables fallback_decision make_decision no_text_decision",
            "_quality_policies": "BUNDLED_PREDICTOR Assessment QualityPolicies predictor_path",
            "_route_advice": "advice",
            "_switching": "judge_switch",
        },
    )
