"""Runs in LiteLLM's own environment: asks a forwarding server, whose address comes on stdin, and prints the replies as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import litellm

_ADDRESS = json.load(sys.stdin)
_SETTINGS: dict[str, Any] = {"api_base": f"{_ADDRESS}/v1", "api_key": "none", "num_retries": 0}
_AUTO: dict[str, Any] = {
    "model": "openai/auto",
    "messages": [{"role": "user", "content": "my function raises an IndexError in its loop, please fix it"}],
    **_SETTINGS,
}
_EVENTS: dict[str, Any] = {"stream": True, "extra_body": {"events": 5, "interval": 0.01}}


def _plain() -> str:
    return str(litellm.completion(**_AUTO).choices[0].message.content)


def _stream() -> int:
    return sum(bool(chunk.choices[0].delta.content) for chunk in litellm.completion(**_AUTO, **_EVENTS))


async def _together() -> list[str]:
    answers = await asyncio.gather(*(litellm.acompletion(**_AUTO) for _ in range(20)))
    return [str(answer.choices[0].message.content) for answer in answers]


def _unknown() -> str:
    try:
        litellm.completion(**{**_AUTO, "model": "openai/gpt-none"})
    except litellm.NotFoundError as exc:
        return type(exc).__name__
    return "none"


def _router() -> str:
    router = litellm.Router(model_list=[{"model_name": "any", "litellm_params": {"model": "openai/auto", **_SETTINGS}}])
    return str(router.completion("any", messages=_AUTO["messages"]).choices[0].message.content)


print(
    json.dumps(
        {
            "plain": _plain(),
            "stream": _stream(),
            "async": asyncio.run(_together()),
            "unknown model": _unknown(),
            "in its Router": _router(),
        }
    )
)
