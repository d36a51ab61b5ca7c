"""What a request needs of its target, for bodies of each API."""

from __future__ import annotations

from typing import Any

import pytest

from archroute_edge.conversation import estimate_tokens
from archroute_edge.gateway._request_facts import request_facts

DATA = "data:image/png;base64," + "A" * 100_000
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"where": {}}}}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA}}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": DATA}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": DATA}}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image", "source": {"data": DATA}}]}]}
            ]
        },
    ],
    ids=["chat", "responses", "messages", "in a tool's result"],
)
def test_an_image_counts_as_a_usual_one_whatever_its_bytes(body: dict[str, Any]) -> None:
    facts = request_facts(body)
    assert facts.images
    assert facts.prompt_tokens is not None
    assert 1000 <= facts.prompt_tokens < 1100


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "a" * 3500}]},
        {"input": "a" * 3500},
        {"system": "a" * 1750, "messages": [{"role": "user", "content": [{"type": "text", "text": "a" * 1750}]}]},
        {"instructions": "a" * 1750, "input": [{"role": "user", "content": "a" * 1750}]},
    ],
)
def test_texts_are_counted(body: dict[str, Any]) -> None:
    facts = request_facts(body)
    assert facts.prompt_tokens is not None
    assert abs(facts.prompt_tokens - estimate_tokens(["a" * 3500])) < 20
    assert (facts.images, facts.tools, facts.answer_tokens) == (False, False, None)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_longest_answer(name: str) -> None:
    assert request_facts({name: 77}).answer_tokens == 77


def test_tools_are_seen_and_counted() -> None:
    facts = request_facts({"messages": [], "tools": [TOOL]})
    assert facts.tools
    assert facts.prompt_tokens is not None
    assert facts.prompt_tokens > 10
    assert not request_facts({"tools": []}).tools


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": None, "tools": 3, "max_tokens": "x"}, {"max_tokens": -(10**400)}, {"messages": [None, 1, "x", [[]]]}],
)
def test_odd_bodies_have_facts_too(body: dict[str, Any]) -> None:
    assert request_facts(body).answer_tokens is None
