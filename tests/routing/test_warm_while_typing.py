"""Warming what is being typed: at submit only what is new, and the closing instructions, are left to evaluate."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from archroute_edge import Route, Router
from archroute_edge.conversation import Turn
from archroute_edge.deciders import GenerativeDecider
from archroute_edge.routes import RouteTable

ROUTES = RouteTable([Route("bug_fixing", "fixing errors in code"), Route("poems", "writing poems")])
TYPED = "please fix the bug in my code, the test says IndexError and I do not know why"
EARLIER = [
    {"role": "user", "content": "write a poem about the sea"},
    {"role": "assistant", "content": "The sea is wide and blue, and so are you."},
]


@pytest.mark.parametrize("earlier", [[], EARLIER], ids=["first message", "in a conversation"])
def test_submitting_evaluates_the_end_alone(random_model: Path, bundled_model: Path, earlier: list[dict[str, str]]) -> None:
    """Would break if a warm-up evaluated what typing on changes, evaluated anything twice, or the decision did."""
    for model in (random_model, bundled_model):
        with Router(ROUTES, model=model, prefix_cache=False) as router:
            if earlier:
                router.route(earlier[:1])
            n_static = router.warm().tokens
            warmed = []
            for n_typed in (10, 11, 30, 31, 55, len(TYPED) - 4):
                warmed.append(router.warm([*earlier, {"role": "user", "content": TYPED[:n_typed]}]))
            decider = router.decider
            assert isinstance(decider, GenerativeDecider)
            turns = [Turn(each["role"], each["content"]) for each in earlier]
            n_prompt = len(decider.prompt.tokens(ROUTES, [*turns, Turn("user", TYPED)]))
            n_closing = decider.prompt.static_parts(ROUTES).n_closing
            decision = router.route([*earlier, {"role": "user", "content": TYPED}])
            left = decision.tokens.prompt - decision.tokens.reused
            assert decision.tokens.prompt == n_prompt
            # What is new: the last letters, and a token or two that they changed.
            assert n_closing < left <= n_closing + 8
            # All warm-ups together evaluated the conversation once, but for such a token or two each.
            n_evaluated = sum(each.evaluated for each in warmed)
            assert n_prompt - n_static - n_closing - 40 < n_evaluated < n_prompt - n_static - n_closing + 3 * len(warmed)
            for one, next_one in itertools.pairwise(warmed):
                assert next_one.evaluated <= next_one.tokens - one.tokens + 3


def test_a_warm_up_changes_no_decision(bundled_model: Path) -> None:
    with Router(ROUTES, model=bundled_model, prefix_cache=False) as router:
        for n_typed in range(8, len(TYPED), 8):
            router.warm(TYPED[:n_typed])
        typed = router.route(TYPED, scores=True)
    with Router(ROUTES, model=bundled_model, prefix_cache=False) as router:
        assert router.route(TYPED, scores=True).scores == pytest.approx(typed.scores, abs=0.08)
