"""The options of requests: one table, by which HTTP and stdio read them and from which the OpenAPI document is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from archroute_edge.config import Keys, Node, Place, Source, read_routes
from archroute_edge.conversation import Conversation, read_messages
from archroute_edge.errors import ArchRouteError, ConversationError, RequestError, RouteTableError, SettingsError
from archroute_edge.routes import MAX_ROUTES
from archroute_edge.routing import LONGEST_DEADLINE_S, read_deadline
from archroute_edge.server._settings import MAX_BATCH

MAX_NAME: Final = 256
"""Letters of a name: of a conversation, a caller or a session."""

_TEXT: Final = {"type": "string"}
_PART: Final = {
    "description": "A part of a message. Parts that are not text are left out.",
    "anyOf": [
        _TEXT,
        {"type": "object", "required": ["text"], "properties": {"text": _TEXT}},
        {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"not": {"enum": ["text", "input_text", "output_text"]}}},
        },
    ],
}


def _message(roles: list[str], content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": ["role"], "properties": {"role": {"enum": roles}, "content": content}}


_MESSAGES: Final = [
    _message(["user", "assistant"], {"anyOf": [_TEXT, {"type": "array", "items": _PART}, {"type": "null"}]}),
    _message(["system", "developer", "tool", "function"], {}),
]
_CHAT: Final = {
    "type": "array",
    "items": {
        "description": "A message as OpenAI's API has it; what else stands in it, such as tool calls, is not looked at.",
        "anyOf": _MESSAGES,
    },
}
_CONVERSATION: Final = {"anyOf": [_TEXT, _CHAT]}
_ITEM: Final = {"type": "object", "required": ["type"], "properties": {"type": _TEXT}}
_ITEMS: Final = {
    "type": "array",
    "items": {"description": "A message, or another item, which is left out.", "anyOf": [*_MESSAGES, _ITEM]},
}
_ROUTE: Final = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "description": {"type": ["string", "null"]},
        "models": {"type": ["array", "null"], "items": {"type": "string", "minLength": 1}},
        "selection_policy": {"description": "Without effect: the models of a request's own routes keep their order."},
        "skills": {"description": "Without effect."},
    },
}


def _routes(**more: Any) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": MAX_ROUTES, "items": {**_ROUTE, **more}}


def _placed(read: Callable[[Any], Any]) -> Callable[[Node], Any]:
    """A reader of plain values whose errors have their place within the whole request."""

    def placed(node: Node) -> Any:
        try:
            return read(node.content)
        except (ConversationError, RouteTableError) as exc:
            exc.place = f"{node.place}.{exc.place}".strip(".")
            raise

    return placed


def _name(node: Node) -> str:
    text = node.text()
    if len(text) > MAX_NAME:
        raise node.error(f"{node.what} has {len(text):,} letters; it may have {MAX_NAME}")
    return text


def _names(node: Node) -> list[str | None]:
    return [None if each.is_nothing else _name(each) for each in node.items(f"one of the {node.what}")]


def _conversations(node: Node) -> list[Conversation]:
    found = node.items()
    if not 0 < len(found) <= MAX_BATCH:
        raise node.error(f"{node.what} must be a list of 1 to {MAX_BATCH} conversations, not of {len(found)}")
    return [_conversation_of_many(each, number) for number, each in enumerate(found)]


def _conversation_of_many(node: Node, number: int) -> Conversation:
    try:
        return read_messages(node.content)
    except ConversationError as exc:
        raise ConversationError(f"conversation {number}: {exc}", place=f"{node.place}.{exc.place}".strip(".")) from exc


def _deadline(node: Node) -> float | None:
    try:
        return read_deadline(node.number())
    except SettingsError as exc:
        raise node.error(str(exc)) from exc


def read_input(value: Any) -> Conversation:
    """The ``input`` of OpenAI's Responses API; items that are no messages (calls, their outputs, reasoning) say nothing."""
    if isinstance(value, list):
        # Something stands where an item is left out, so that an error names the place that the caller sees.
        value = [{"role": "tool"} if _is_other_item(item) else item for item in value]
    elif not isinstance(value, str):
        raise ConversationError("the input must be a text or a list of items")
    return read_messages(value)


def _is_other_item(item: Any) -> bool:
    return isinstance(item, dict) and "role" not in item and isinstance(item.get("type"), str) and item["type"] != "message"


def _nothing_but(value: Any) -> Callable[[Node], Any]:
    def read(node: Node) -> Any:
        if type(node.content) is not type(value) or node.content != value:
            raise node.error(f"{node.what} can be nothing but {value!r} here".replace("False", "false"))
        return value

    return read


def _usage(node: Node) -> bool:
    asked = node.fields(Keys("stream_options", frozenset({"include_usage"}), others=True)).get("include_usage")
    return asked is not None and asked.flag()


@dataclass(frozen=True)
class Option:
    """How an option is read, its JSON schema, and what it says."""

    read: Callable[[Node], Any]
    schema: Mapping[str, Any]
    description: str = ""


_NAME: Final = {"type": "string", "maxLength": MAX_NAME}
_FLAG: Final = {"type": "boolean"}
# In the order in which they are read: of two that cannot be used, the first is the error. Python reads routes first, too.
OPTIONS: Final = {
    "routes": Option(_placed(read_routes), _routes(additionalProperties=False), "Other routes than the configuration's own."),
    "routing_preferences": Option(
        _placed(lambda value: read_routes(value, foreign=True)),
        _routes(),
        "Other routes than the server's own; unknown keys are ignored.",
    ),
    "messages": Option(_placed(read_messages), _CONVERSATION),
    "conversations": Option(_conversations, {"type": "array", "minItems": 1, "maxItems": MAX_BATCH, "items": _CONVERSATION}),
    "scores": Option(Node.flag, _FLAG, "The probability of every route, too."),
    "whole": Option(Node.flag, _FLAG, "Decide on the messages as they are, for a decision on just these that may follow."),
    "key": Option(_name, _NAME, "Names the conversation; keeps it on one of several weighted models."),
    "keys": Option(_names, {"type": "array", "items": {"type": ["string", "null"], "maxLength": MAX_NAME}}, "One for each."),
    "deadline": Option(
        _deadline,
        {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_DEADLINE_S},
        "Seconds after which the fallback is answered; the server's own also holds.",
    ),
    "caller": Option(_name, _NAME, "Who asks: callers take turns, and a warm-up replaces an earlier one of its caller."),
    "model": Option(Node.text, _TEXT, "Any name; it is answered if there is no other model to name."),
    "input": Option(_placed(read_input), {"anyOf": [_TEXT, _ITEMS]}),
    "system": Option(lambda node: node.content, {}, "Not looked at, but in an implicit session."),
    "tools": Option(lambda node: node.content, {}, "Not looked at, but for the names in an implicit session."),
    "id": Option(lambda node: node.content, {}),
    "stream": Option(Node.flag, _FLAG),
    "stream_options": Option(
        _usage, {"type": "object", "properties": {"include_usage": {"type": ["boolean", "null"]}}}, "Whether usage comes, too."
    ),
    "n": Option(_nothing_but(1), {"const": 1}),
    "logprobs": Option(_nothing_but(False), {"const": False}, "Not given here: POST /v1/route has probabilities."),
}
# The same options as other APIs call them.
OPTIONS["user"] = OPTIONS["caller"]
OPTIONS["instructions"] = OPTIONS["system"]


def options(what: str, needed: str, more: str, *, others: bool = False) -> Keys:
    """The options of one kind of request.

    Args:
        what: what the request is, for messages.
        needed: names of options that must be there, separated by blanks.
        more: names of options that may be there.
        others: whether others may be there, too, as in the bodies of other APIs.
    """
    return Keys(what, frozenset(f"{needed} {more}".split()), needed=tuple(needed.split()), others=others)


def _refused(message: str, place: Place, _path: object) -> ArchRouteError:
    return RequestError(message, place=str(place or ""))


def read_options(value: Any, keys: Keys) -> dict[str, Any]:
    """The options that a JSON object holds, each read; one that is null counts as left out.

    Raises:
        RequestError: no object, an option that is unknown, missing or of the wrong kind.
        ConversationError, RouteTableError: messages or routes that cannot be used. Each of them has its place in ``value``.
    """
    fields = Node.of(value, Source(error=_refused), keys.what).fields(keys)
    return {name: option.read(fields[name]) for name, option in OPTIONS.items() if name in fields}


def options_schema(keys: Keys, description: str) -> dict[str, Any]:
    """The JSON schema of a request with these options."""
    properties = {}
    for name, option in OPTIONS.items():
        if name in keys.read:
            schema = option.schema if name in keys.needed or not option.schema else {"anyOf": [option.schema, {"type": "null"}]}
            properties[name] = {**schema, **({"description": option.description} if option.description else {})}
    needed = {"required": list(keys.needed)} if keys.needed else {}
    closed = {} if keys.others else {"additionalProperties": False}
    return {"type": "object", "description": description, **needed, "properties": properties, **closed}


def earliest(*deadlines: float | None) -> float | None:
    """The first of several deadlines, those that are none left out."""
    return min((each for each in deadlines if each is not None), default=None)
