"""The classifier that LiteLLM calls; ``make test-litellm`` tries it in LiteLLM's own Router and proxy."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import LiteLLMClassifier, Route, Router
from archroute_edge.errors import ConfigError, ConversationError
from tests.gate import PATIENCE_S, Gate, our_threads
from tests.routing.conftest import until

ROUTES = [
    Route("bug_fixing", "Identifying and fixing errors or bugs in the provided code"),
    Route("translation", "Translating text from one language into another"),
]
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": [{"type": "text", "text": "how do you say 'good morning' in Greek?"}, {"type": "image_url"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "look_up", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "καλημέρα"},
]


@dataclass
class Context:
    """The part of LiteLLM's RoutingContext that is read."""

    structured_messages: Any


@pytest.fixture(scope="module")
def classifier() -> Iterator[LiteLLMClassifier]:
    classifier = LiteLLMClassifier(ROUTES, model="mini")
    yield classifier
    classifier.close()
    assert not our_threads()


def classify(classifier: LiteLLMClassifier, messages: Any) -> str | None:
    return asyncio.run(classifier.classify(Context(messages)))


def test_a_tier_is_the_route_of_the_conversation(classifier: LiteLLMClassifier) -> None:
    """Tools' results and images are no reason to leave a request to the fallback."""
    assert classify(classifier, CONVERSATION) == "translation"
    assert classify(classifier, [{"role": "user", "content": "my test fails with an IndexError"}]) == "bug_fixing"


@pytest.mark.parametrize("other", ["other", "small_talk", None])
def test_no_route_is_the_tier_that_was_asked_for(other: str | None) -> None:
    classifier = LiteLLMClassifier(ROUTES, model="mini", other=other)
    assert classify(classifier, [{"role": "user", "content": "thanks, that is all for today"}]) == other
    assert classify(classifier, [{"role": "user", "content": [{"type": "image_url"}]}]) == other
    classifier.close()


def test_what_is_no_conversation_is_an_error_that_litellm_falls_back_on(classifier: LiteLLMClassifier) -> None:
    with pytest.raises(ConversationError, match="message 0 has the role 'critic'"):
        classify(classifier, [{"role": "critic", "content": "x"}])


def test_litellm_takes_only_a_coroutine_function(classifier: LiteLLMClassifier) -> None:
    """Its proxy checks this when it reads its configuration."""
    assert inspect.iscoroutinefunction(classifier.classify)


def test_litellm_may_copy_its_configuration_and_name_it(classifier: LiteLLMClassifier) -> None:
    """Its Router copies deeply, and hashes what a deployment's settings look like as text."""
    copied = copy.deepcopy({"complexity_router_config": {"classifier_plugin": classifier}})
    assert copied["complexity_router_config"]["classifier_plugin"] is classifier
    assert repr(classifier) == "LiteLLMClassifier(bug_fixing, translation)"


def test_a_bad_configuration_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("routing_preferences:\n  - naem: bug_fixing\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"routes\.yaml"):
        LiteLLMClassifier.from_config(path)


def test_a_timeout_of_litellm_stops_the_evaluation(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the decisions that LiteLLM no longer waits for would delay those that it does."""
    gate = Gate(monkeypatch)
    classifier = LiteLLMClassifier(ROUTES, model=random_model, prefix_cache=False)
    classifier.service.warm().result(PATIENCE_S)
    gate.close()

    async def ask() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(classifier.classify(Context(CONVERSATION)), 0.05)

    asyncio.run(ask())
    until(lambda: classifier.service.stats().running == 0)
    gate.open()
    assert classifier.service.stats().cancelled == 1
    with Router(ROUTES, model=random_model, prefix_cache=False) as router:
        assert classify(classifier, CONVERSATION) == router.route(CONVERSATION).route
    classifier.close()
