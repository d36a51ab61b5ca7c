"""The `card` prompt, cut where cutting changes no token, so that conversations can share one route table.

The text is the one published on the model card of Arch-Router-1.5B. A prompt is one user message in ChatML:

    <|im_start|> | head(routes) + conversation + TAIL | <|im_end|> | \\n | <|im_start|> | assistant\\n + answer | <|im_end|>

Qwen2's pre-tokenizer ends a run of punctuation after the newlines that follow it, so the boundaries behind
`<conversation>\\n\\n` and behind `"}]\\n\\n` are boundaries of pre-tokens in every prompt: the parts may be tokenized
apart and joined.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

_INSTRUCTIONS = (
    "\nYou are a helpful assistant designed to find the best suited route.\n"
    "You are provided with route description within <routes></routes> XML tags:\n<routes>\n\n"
)
_BETWEEN = "\n\n</routes>\n\n<conversation>\n\n"
TAIL = (
    "</conversation>\n"
    "\nYour task is to decide which route is best suit with user intent on the conversation in"
    " <conversation></conversation> XML tags. Follow the instruction:\n"
    "1. If the latest intent from user is irrelevant or user intent is full filled, response with other route"
    ' {"route": "other"}.\n'
    "2. You must analyze the route descriptions and find the best match route for user latest intent.\n"
    "3. You only response the name of the route that best matches the user's request, use the exact name in the"
    " <routes></routes>.\n"
    "\nBased on your analysis, provide your response in the following JSON formats if you decide to match any route:\n"
    '{"route": "route_name"}\n'
)
OTHER = "other"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def head(routes: Sequence[Mapping[str, str]]) -> tuple[str, list[int]]:
    """The text from `user\\n` to where the conversation starts, and for each route the offset of its closing brace."""
    text = "user\n" + _INSTRUCTIONS + "["
    ends: list[int] = []
    for index, route in enumerate(routes):
        text += (", " if index else "") + json.dumps({"name": route["name"], "description": route["description"]})
        ends.append(len(text) - 1)
    return text + "]" + _BETWEEN, ends


def conversation(messages: Sequence[Mapping[str, str]]) -> str:
    """The conversation's JSON with the newlines that belong to its last pre-token."""
    return json.dumps([{"role": m["role"], "content": m["content"]} for m in messages]) + "\n\n"


def answer(name: str) -> str:
    """The model's reply for a route name."""
    return json.dumps({"route": name})


def body(routes: Sequence[Mapping[str, str]], messages: Sequence[Mapping[str, str]]) -> str:
    """The whole content of the one user message."""
    return head(routes)[0].removeprefix("user\n") + conversation(messages) + TAIL
