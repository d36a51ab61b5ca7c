"""What the bodies of other APIs hold for a decision: their conversation, and what an implicit session is known by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from archroute_edge.conversation import Messages, read_texts
from archroute_edge.errors import ConversationError

IMPLICIT = "implicit:"
"""What the name of an implicit session begins with."""

# Stands where an item is left out, so that an error names the place that the caller sees.
_LEFT_OUT = {"role": "tool"}


def responses_messages(value: Any) -> Messages:
    """The ``input`` of OpenAI's Responses API as messages; items that are none (calls, their outputs, reasoning) say nothing.

    Raises:
        ConversationError: it is neither a text nor a list.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ConversationError("the input must be a text or a list of items")
    return [_LEFT_OUT if _is_other_item(item) else item for item in value]


def _is_other_item(item: Any) -> bool:
    return isinstance(item, Mapping) and "role" not in item and isinstance(item.get("type"), str) and item["type"] != "message"


def implicit_session(messages: Messages, first: Any, tools: Any, others: Iterable[Any]) -> str | None:
    """A name for the conversation, the same for each of its requests; None if no user message has text yet.

    It is a digest of what stands at the head of every request: the system prompt, the names of the tools and the first user
    message. Nothing of them is kept.

    Args:
        messages: the conversation.
        first: a system prompt that stands beside the messages.
        tools: the request's tools, in the shape of either API.
        others: what else tells conversations apart: the caller, the model asked for, routes of the request.
    """
    texts = read_texts(messages)
    user = next((text for role, text in texts if role == "user" and text.strip()), None)
    if user is None:
        return None
    system = [text for role, text in texts if role in ("system", "developer")]
    head = json.dumps([first, system, _names(tools), user, *others], sort_keys=True)
    return IMPLICIT + hashlib.sha256(head.encode("ascii")).hexdigest()[:32]


def _names(tools: Any) -> list[Any]:
    found = []
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, Mapping):
            function = tool.get("function")
            found.append(function.get("name") if isinstance(function, Mapping) else tool.get("name"))
    return found
