"""Whatever a host sends, each request has one reply and nothing is raised: an exception would end the reading thread."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.decision import Decision, Timings, TokenCounts, Warmup
from archroute_edge.errors import EngineError
from archroute_edge.routing import RoutingService
from archroute_edge.server import StdioSettings
from archroute_edge.server.stdio._session import Session

DECISION = Decision(
    *("other", False, None, (), 1.0, None, TokenCounts(1, 0, 1, 0, 1), Timings(1.0, 0.0, 0.0, 1.0, 0.0)),
    *(False, 0, 0, "fake", "card"),
)


class FakeService:
    """Answers at once, or fails in a way that nobody thought of."""

    def submit(self, messages: Any, **_more: Any) -> Future[Decision]:
        future: Future[Decision] = Future()
        text = messages[0].content if messages else ""
        if text == "engine":
            future.set_exception(EngineError("llama.cpp failed"))
        elif text == "bug":
            future.set_exception(KeyError("x"))
        elif text == "raise":
            raise ZeroDivisionError
        else:
            future.set_result(DECISION)
        return future

    def submit_many(self, conversations: list[Any], **_more: Any) -> Future[list[Decision]]:
        future: Future[list[Decision]] = Future()
        future.set_result([DECISION for _ in conversations])
        return future

    def warm(self, *_args: Any, **_more: Any) -> Future[Warmup]:
        future: Future[Warmup] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def replies_to(line: bytes | None) -> list[Any]:
    sent: list[bytes] = []
    Session(cast(RoutingService, FakeService()), StdioSettings(), sent.append).handle(line)
    assert all(reply.endswith(b"\n") and reply.count(b"\n") == 1 and reply.isascii() for reply in sent)
    return [json.loads(reply) for reply in sent]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
METHODS = st.sampled_from(["route", "route_many", "warm", "cancel", "info ", "models"]) | VALUES
PARAMETERS = st.dictionaries(
    st.sampled_from(["messages", "conversations", "routes", "scores", "whole", "key", "keys", "deadline", "caller", "id", "x"]),
    VALUES | st.sampled_from(["engine", "bug", "raise"]),
    max_size=4,
)
REQUESTS = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | VALUES, "method": METHODS}, optional={"id": VALUES, "params": PARAMETERS | VALUES}
)


@given(REQUESTS | VALUES | st.lists(REQUESTS | VALUES, max_size=5))
def test_every_request_has_one_reply(value: Any) -> None:
    replies = replies_to(json.dumps(value).encode())
    assert len(replies) <= 1
    for reply in replies:
        many = reply if isinstance(reply, list) else [reply]
        assert len(many) <= len(value) if isinstance(reply, list) else True
        for each in many:
            assert set(each) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
            assert each["jsonrpc"] == "2.0"
    if isinstance(value, dict) and "id" in value:
        assert len(replies) == 1


@given(st.binary(max_size=60))
def test_bytes_that_are_no_request_are_answered(line: bytes) -> None:
    replies = replies_to(line.replace(b"\n", b""))
    assert len(replies) == 1
    assert "error" in (replies[0] if isinstance(replies[0], dict) else replies[0][0])


def test_failures_say_what_they_are() -> None:
    def code(messages: str) -> tuple[int, str, str]:
        (reply,) = replies_to(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": "route", "params": {"messages": messages}}).encode()
        )
        return reply["error"]["code"], reply["error"]["data"]["type"], reply["error"]["message"]

    assert code("engine") == (-32000, "EngineError", "llama.cpp failed")
    # What is in an error of ours that nobody foresaw may be a piece of a conversation.
    assert code("bug") == (-32603, "KeyError", "an error that was not expected; stderr has it")
    assert code("raise")[:2] == (-32603, "ZeroDivisionError")
