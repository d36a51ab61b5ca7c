"""The official packages through the gateway: OpenAI's sync, async, streaming, with tools, on responses; Anthropic's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.gateway_server import BUG, GatewayServer
from tests.upstream import Upstream, plain, resets, status, streamed
from tests.upstream_replies import TEXT, chat_events, chat_reply, messages_events, responses_events

if TYPE_CHECKING:
    import anthropic
    import openai

Start = Callable[..., GatewayServer]

UNUSED_KEY = "none"

CONFIG = """
model_providers:
  - {model: openai/gpt-5, base_url: "%s", access_key: $ONE_KEY, default: true}
  - {model: anthropic/claude, base_url: "%s", access_key: $TWO_KEY}
routing_preferences:
  - {name: bug_fixing, description: Identifying and fixing errors or bugs in the provided code, models: %s}
"""
BOTH = "[openai/gpt-5, anthropic/claude]"


@pytest.fixture
def server(forwarding: Start, one: Upstream, two: Upstream) -> GatewayServer:
    return forwarding(CONFIG % (one.url, two.url, BOTH))


@pytest.fixture
def client(server: GatewayServer) -> Iterator[openai.OpenAI]:
    import openai

    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=UNUSED_KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(server: GatewayServer) -> Iterator[anthropic.Anthropic]:
    import anthropic

    with anthropic.Anthropic(base_url=server.address, api_key=UNUSED_KEY, max_retries=0) as client:
        yield client


def test_openai_asks_plainly_and_reads_what_was_decided(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=[{"role": "user", "content": BUG}])
    assert raw.headers["x-archroute-route"] == "bug_fixing"
    completion = raw.parse()
    assert completion.choices[0].message.content == TEXT
    assert completion.usage
    assert completion.usage.total_tokens == 19


def test_openai_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": BUG}], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert chunks[-1].usage


def test_openai_streams_many_at_once(server: GatewayServer) -> None:
    import openai

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key=UNUSED_KEY, max_retries=0) as client:

            async def one_of_them() -> str:
                text = ""
                stream = await client.chat.completions.create(
                    model="auto", messages=[{"role": "user", "content": BUG}], stream=True
                )
                async for chunk in stream:
                    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                return text

            return await asyncio.gather(*(one_of_them() for _ in range(20)))

    assert asyncio.run(ask()) == [TEXT] * 20


def test_openai_calls_tools(client: openai.OpenAI, one: Upstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "run_tests", "arguments": '{"path": "tests"}'}}
    reply = json.loads(chat_reply())
    reply["choices"][0] = {
        "index": 0,
        "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
    }
    one.will(plain(json.dumps(reply).encode()))
    tool: dict[str, Any] = {"name": "run_tests", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}
    tools: Any = [{"type": "function", "function": tool}]
    asked = client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": BUG}],
        tools=tools,
        tool_choice="auto",
    )
    message = asked.choices[0].message
    assert message.tool_calls
    assert message.tool_calls[0].to_dict() == call
    assert one.next_arrival().json()["tools"][0]["function"] == tool
    # The tool's result goes back with the whole conversation, and to the same model.
    again = client.chat.completions.create(
        model="auto",
        messages=[
            {"role": "user", "content": BUG},
            message.to_dict(),  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": "call_1", "content": "1 failed"},
        ],
        tools=tools,
    )
    assert again.choices[0].message.content == TEXT
    assert [each["role"] for each in one.next_arrival().json()["messages"]] == ["user", "assistant", "tool"]


def test_openai_reads_our_errors(client: openai.OpenAI, one: Upstream, two: Upstream) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-none", messages=[{"role": "user", "content": "hi"}])
    assert unknown.value.code == "model_not_found"
    one.will(status(422, message="no such parameter"))
    with pytest.raises(openai.UnprocessableEntityError, match="no such parameter"):
        client.chat.completions.create(model="openai/gpt-5", messages=[{"role": "user", "content": "hi"}])
    one.will(status(500), status(500))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="openai/gpt-5", messages=[{"role": "user", "content": "hi"}])


def test_openai_raises_where_a_stream_breaks(client: openai.OpenAI, one: Upstream) -> None:
    """Would break if a cut answer looked like a whole one."""
    import openai

    one.will(streamed(chat_events()[:4], then=resets))
    stream = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": BUG}], stream=True)
    with pytest.raises(openai.APIError):
        list(stream)


def test_openai_asks_responses(client: openai.OpenAI, one: Upstream, two: Upstream) -> None:
    import openai

    raw = client.responses.with_raw_response.create(model="auto", input=BUG)
    assert raw.headers["x-archroute-route"] == "bug_fixing"
    assert raw.parse().output_text == TEXT
    arrival = one.next_arrival()
    assert (arrival.path, arrival.json()) == ("/v1/responses", {"model": "gpt-5", "input": BUG})
    assert arrival.header("authorization") == "Bearer sk-one-secret"
    deltas = [
        each.delta
        for each in client.responses.create(model="auto", input=BUG, stream=True)
        if each.type == "response.output_text.delta"
    ]
    assert "".join(deltas) == TEXT
    one.will(streamed(responses_events()[:4], then=resets))
    with pytest.raises(openai.APIError):
        list(client.responses.create(model="auto", input=BUG, stream=True))


def test_anthropic_asks_messages(claude: anthropic.Anthropic, one: Upstream, two: Upstream) -> None:
    """The route names OpenAI's model first, which does not speak this API."""
    raw = claude.messages.with_raw_response.create(model="auto", max_tokens=9, messages=[{"role": "user", "content": BUG}])
    assert (raw.headers["x-archroute-route"], raw.headers["x-archroute-model"]) == ("bug_fixing", "anthropic/claude")
    assert [block.text for block in raw.parse().content if block.type == "text"] == [TEXT]
    arrival = two.next_arrival()
    assert (arrival.path, arrival.json()["model"]) == ("/v1/messages", "claude")
    assert arrival.header("x-api-key") == "sk-two-secret"
    assert arrival.header("anthropic-version")
    assert UNUSED_KEY not in (arrival.header("authorization") or "")
    assert not one.arrivals


def test_anthropic_streams(claude: anthropic.Anthropic, two: Upstream) -> None:
    import anthropic

    with claude.messages.stream(model="auto", max_tokens=9, messages=[{"role": "user", "content": BUG}]) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == 7
    two.will(streamed(messages_events()[:4], then=resets))
    broken = claude.messages.create(model="auto", max_tokens=9, messages=[{"role": "user", "content": BUG}], stream=True)
    with pytest.raises(anthropic.APIError):
        list(broken)


def test_anthropics_beta_features_go_up(claude: anthropic.Anthropic, two: Upstream) -> None:
    claude.beta.messages.create(
        model="anthropic/claude", max_tokens=9, betas=["context-1m"], messages=[{"role": "user", "content": "hi"}]
    )
    arrival = two.next_arrival()
    assert (arrival.path.partition("?")[0], arrival.header("anthropic-beta")) == ("/v1/messages", "context-1m")


def test_anthropic_reads_our_errors(claude: anthropic.Anthropic, two: Upstream) -> None:
    import anthropic

    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="claude-none", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    two.will(plain(b'{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens"}}', 400))
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.messages.create(model="auto", max_tokens=9, messages=[{"role": "user", "content": BUG}])


def test_a_target_that_speaks_another_api_is_a_clear_error(
    client: openai.OpenAI, claude: anthropic.Anthropic, one: Upstream, two: Upstream
) -> None:
    import anthropic
    import openai

    with pytest.raises(anthropic.BadRequestError, match="openai/gpt-5"):
        claude.messages.create(model="openai/gpt-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.BadRequestError, match="anthropic/claude"):
        client.responses.create(model="anthropic/claude", input="hi")
    assert not one.arrivals + two.arrivals


def test_openai_lists_the_models(client: openai.OpenAI) -> None:
    assert {"auto", "openai/gpt-5", "anthropic/claude"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("auto").id == "auto"
