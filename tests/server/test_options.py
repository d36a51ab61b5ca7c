"""The one table of options: what HTTP and stdio take, and where an error says that it is."""

from __future__ import annotations

from typing import Any

import pytest

from archroute_edge.conversation import Turn
from archroute_edge.errors import ConversationError, RequestError, RouteTableError
from archroute_edge.routes import Route
from archroute_edge.server import options, options_schema, read_options

KEYS = options("the body", "messages", "routes scores key keys deadline caller conversations input n logprobs stream_options")
OPEN = options("the body", "", "model", others=True)
TEXT = {"messages": "x"}


def test_every_option_is_read_as_what_it_is() -> None:
    found = read_options(
        {
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a\ud83d"}],
            "routes": [{"name": "a", "description": None, "models": ["m"], "skills": []}],
            "scores": True,
            "key": "k",
            "keys": ["k", None],
            "deadline": 2,
            "caller": None,
            "conversations": ["x", []],
            "input": [{"type": "reasoning"}, {"type": "message", "role": "user", "content": "y"}],
            "n": 1,
            "stream_options": {"include_usage": True, "more": 1},
        },
        KEYS,
    )
    assert found["messages"] == (Turn("user", "a\ufffd"),)
    assert found["messages"].texts == (("system", "s"), ("user", "a\ufffd"))
    assert found["routes"].routes == (Route("a", models=("m",)),)
    assert found["conversations"] == [(Turn("user", "x"),), ()]
    assert found["input"] == (Turn("user", "y"),)
    assert [found[name] for name in ("scores", "key", "keys", "deadline", "n", "stream_options")] == [
        True, "k", ["k", None], 2.0, 1, True,
    ]  # fmt: skip
    assert "caller" not in found


@pytest.mark.parametrize(
    ("value", "kind", "place", "message"),
    [
        ([], RequestError, "", "the body must be a mapping"),
        ({}, RequestError, "messages", "the body without 'messages'"),
        ({"mesages": "x"}, RequestError, "mesages", "unknown key 'mesages' in the body; did you mean 'messages'"),
        ({**TEXT, "x\ud83d": 1}, RequestError, "x\ufffd", "unknown key"),
        ({"messages": None}, ConversationError, "messages", "must be a text or a list"),
        ({"messages": [{"role": "user", "content": [7]}]}, ConversationError, "messages.0.content.0", "part 0"),
        ({**TEXT, "routes": []}, RouteTableError, "routes", "there are no routes"),
        ({**TEXT, "routes": [{"name": "a", "description": 7}]}, RouteTableError, "routes.0.description", "must be text"),
        ({**TEXT, "routes": [{"name": "other"}]}, RouteTableError, "routes.0.name", "may not be called"),
        ({**TEXT, "scores": 1}, RequestError, "scores", "scores must be true or false, not a number"),
        ({**TEXT, "key": 1}, RequestError, "key", "key must be text, not a number"),
        ({**TEXT, "key": "k" * 257}, RequestError, "key", "key has 257 letters; it may have 256"),
        ({**TEXT, "keys": [1]}, RequestError, "keys.0", "one of the keys must be text"),
        ({**TEXT, "deadline": 0}, RequestError, "deadline", "a number of seconds above 0, at most 86400"),
        ({**TEXT, "deadline": 86_401}, RequestError, "deadline", "a number of seconds above 0, at most 86400"),
        ({**TEXT, "deadline": "1"}, RequestError, "deadline", "deadline must be a number, not text"),
        ({**TEXT, "deadline": 10**400}, RequestError, "deadline", "a finite decimal number"),
        ({**TEXT, "conversations": []}, RequestError, "conversations", "a list of 1 to 256 conversations, not of 0"),
        ({**TEXT, "conversations": ["x"] * 257}, RequestError, "conversations", "not of 257"),
        ({**TEXT, "conversations": ["x", [7]]}, ConversationError, "conversations.1.0", "conversation 1: message 0 is an int"),
        ({**TEXT, "input": 7}, ConversationError, "input", "a text or a list of items"),
        ({**TEXT, "input": [{"type": "reasoning"}, {"role": "bot"}]}, ConversationError, "input.1.role", "message 1"),
        ({**TEXT, "n": 2}, RequestError, "n", "n can be nothing but 1 here"),
        ({**TEXT, "logprobs": True}, RequestError, "logprobs", "logprobs can be nothing but false here"),
        ({**TEXT, "stream_options": {"include_usage": 1}}, RequestError, "stream_options.include_usage", "true or false"),
    ],
)
def test_an_option_that_cannot_be_used_says_where(value: Any, kind: type[RequestError], place: str, message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        read_options(value, KEYS)
    assert caught.value.place == place


def test_bodies_of_other_apis_may_hold_anything_else() -> None:
    assert read_options({"model": "m", "temperature": 1, "modle": 2}, OPEN) == {"model": "m"}
    assert "additionalProperties" not in options_schema(OPEN, "")


def test_the_schema_names_every_option() -> None:
    schema = options_schema(KEYS, "what it is")
    assert schema["properties"].keys() == KEYS.read
    assert (schema["required"], schema["additionalProperties"], schema["description"]) == (["messages"], False, "what it is")
