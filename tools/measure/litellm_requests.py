"""Runs in LiteLLM's own environment: sends prompts from stdin to a server in three ways and prints the replies as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import litellm

_ADDRESS, _PROMPTS = json.load(sys.stdin)
_SETTINGS: dict[str, Any] = {"model": "openai/arch-router", "api_base": f"{_ADDRESS}/v1", "api_key": "none", "num_retries": 0}


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _plain(prompt: str) -> str:
    return str(litellm.completion(messages=_messages(prompt), **_SETTINGS).choices[0].message.content)


def _stream(prompt: str) -> str:
    chunks = litellm.completion(messages=_messages(prompt), stream=True, **_SETTINGS)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def _together() -> list[str]:
    answers = await asyncio.gather(*(litellm.acompletion(messages=_messages(prompt), **_SETTINGS) for prompt in _PROMPTS))
    return [str(answer.choices[0].message.content) for answer in answers]


def _refusal() -> str:
    try:
        _plain("hello")
    except litellm.BadRequestError as exc:
        return str(exc)
    return "none"


print(
    json.dumps(
        {
            "plain": [_plain(prompt) for prompt in _PROMPTS],
            "stream": [_stream(prompt) for prompt in _PROMPTS],
            "async": asyncio.run(_together()),
            "ordinary_chat": _refusal(),
        }
    )
)
