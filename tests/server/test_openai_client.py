"""The ``openai`` package against a running server: sync, async and streaming."""

from __future__ import annotations

import asyncio
import json

import pytest

from archroute_edge.config import RoutingConfig
from archroute_edge.conversation import Turn
from archroute_edge.prompts import CARD, PROMPT_FORMATS
from archroute_edge.routing import Router
from tests.conftest import CARD_MESSAGE
from tools.measure.server_process import ServerProcess

MESSAGES = (CARD_MESSAGE, "write a function that reverses a list", "thanks, that is all for today")
UNUSED_KEY = "none"


@pytest.fixture(scope="module")
def routes(card_config: RoutingConfig) -> list[str]:
    """What the router itself says to each message."""
    with Router(config=card_config, model="tiny", threads=1, prefix_cache=False) as router:
        return [router.route(message).route for message in MESSAGES]


def prompts(config: RoutingConfig) -> list[list[str]]:
    return [[each.render(config.table, [Turn("user", message)]) for message in MESSAGES] for each in PROMPT_FORMATS.values()]


def named(content: str | None) -> str:
    value = json.loads(content or "")["route"]
    return value if isinstance(value, str) else (*value, "other")[0]


def test_it_routes_as_the_router_does(server: ServerProcess, card_config: RoutingConfig, routes: list[str]) -> None:
    import openai

    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=UNUSED_KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        for of_format in prompts(card_config):
            found = []
            for prompt in of_format:
                completion = client.chat.completions.create(
                    model="Arch-Router", messages=[{"role": "user", "content": prompt}], temperature=0.01
                )
                found.append(named(completion.choices[0].message.content))
                assert completion.usage
                assert completion.usage.prompt_tokens_details
                assert completion.usage.prompt_tokens > (completion.usage.prompt_tokens_details.cached_tokens or 0)
            assert found == routes


def test_it_streams(server: ServerProcess, card_config: RoutingConfig, routes: list[str]) -> None:
    import openai

    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=UNUSED_KEY, max_retries=0) as client:
        for of_format in prompts(card_config):
            stream = client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": of_format[0]}],
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = list(stream)
            assert named("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)) == routes[0]
            assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
            assert chunks[-1].usage
            assert chunks[-1].usage.prompt_tokens > 100


def test_it_reaches_our_own_endpoints_too(server: ServerProcess, routes: list[str]) -> None:
    import openai

    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=UNUSED_KEY, max_retries=0) as client:
        decision = client.post("/route", body={"messages": MESSAGES[0]}, cast_to=object)
    assert isinstance(decision, dict)
    assert decision["route"] == routes[0]


def test_many_at_once_get_what_each_gets_alone(server: ServerProcess, card_config: RoutingConfig, routes: list[str]) -> None:
    import openai

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key=UNUSED_KEY, max_retries=0) as client:
            completions = await asyncio.gather(
                *(
                    client.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}])
                    for of_format in prompts(card_config)
                    for prompt in of_format
                )
            )
        return [named(completion.choices[0].message.content) for completion in completions]

    assert asyncio.run(ask()) == routes * len(PROMPT_FORMATS)


def test_an_ordinary_chat_is_a_bad_request_to_it(server: ServerProcess) -> None:
    import openai

    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=UNUSED_KEY, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="hold a router prompt") as caught:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        assert (caught.value.code, caught.value.param) == ("not_a_router_prompt", "messages")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": CARD.opening}], stream=True)
