"""Questions with given options, as TypeSafe's System One and OpenAI's Decisions ask them: each is a route table.

The option ``other`` is no route of a table, but the answer that every table has. Each other option is a route with its name,
or with a number behind it if an earlier option has the same name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archroute_edge._unicode import normalized
from archroute_edge.config import Keys, Node, Place, Source
from archroute_edge.conversation import Conversation, read_messages, replace_surrogates
from archroute_edge.errors import ArchRouteError, ConversationError, RequestError, RouteTableError
from archroute_edge.routes import MAX_ROUTES, OTHER, Route, RouteTable
from archroute_edge.server import MAX_NAME, read_input
from archroute_edge.server.http._api_errors import ApiError

MAX_QUESTIONS: Final = 128
"""Questions of one request."""
MAX_OPTION_BYTES: Final = 1 << 20
"""The options of all questions of a request, with their descriptions, in UTF-8."""

_SYSTEM_ONE: Final = Keys("the body", frozenset({"model", "state", "questions"}), needed=("state", "questions"), others=True)
_DECISIONS: Final = Keys("the body", frozenset({"model", "input", "questions"}), needed=("input", "questions"), others=True)
_QUESTION: Final = Keys("the question", frozenset({"type", "criteria"}), needed=("type",), others=True)
_LISTED: Final = Keys("the question", frozenset({"type", "name", "choices"}), needed=("type",), others=True)
_CHOICE: Final = Keys("the choice", frozenset({"value", "description"}), needed=("value",), others=True)
_OTHER_KINDS: Final = frozenset({"noul", "predicate", "score", "box"})
_ROLES: Final = frozenset({"user", "assistant", "system", "developer", "tool", "function"})
_DESCRIBABLE: Final = ("text", "a mapping", "a list", "nothing")

Value = str | bool


@dataclass(frozen=True)
class ChoiceQuestion:
    """One question.

    Args:
        name: what the asker calls it; None for nothing.
        values: the options, in the asker's order.
        answers: the table's answer for each of them: a route's name, or ``other``.
        table: the options but ``other``; None if that is the only one.
    """

    name: str | None
    values: tuple[Value, ...]
    answers: tuple[str, ...]
    table: RouteTable | None

    @property
    def has_other(self) -> bool:
        """Whether ``other`` is one of the options."""
        return OTHER in self.answers


@dataclass(frozen=True)
class Asked:
    """Questions about one conversation."""

    model: str | None
    conversation: Conversation
    questions: Sequence[ChoiceQuestion]


def read_system_one(value: Any) -> Asked:
    """A body of ``POST /v1/systemone``.

    Raises:
        RequestError, ConversationError: it cannot be used; the error has its place.
        ApiError: 422; a question is no choice.
    """
    fields = _body(value, _SYSTEM_ONE)
    entries = _bounded(fields["questions"], "a mapping", "questions", MAX_QUESTIONS).entries()
    questions = _questions((_named(key), node, _criteria(node)) for key, node in entries)
    return _asked(fields, _read_state(fields["state"]), "state", questions)


def read_decisions(value: Any) -> Asked:
    """A body of ``POST /v1/decisions``.

    Raises:
        RequestError, ConversationError: it cannot be used; the error has its place.
        ApiError: 422; a question is no choice.
    """
    fields = _body(value, _DECISIONS)
    nodes = _bounded(fields["questions"], "a list", "questions", MAX_QUESTIONS).items("the question")
    questions = _questions(_listed(node) for node in nodes)
    return _asked(fields, _read_input(fields["input"]), "input", questions)


def _body(value: Any, keys: Keys) -> dict[str, Node]:
    return Node.of(value, Source(error=_refused), keys.what).fields(keys)


def _refused(message: str, place: Place, _path: object) -> ArchRouteError:
    return RequestError(message, place=str(place or ""))


def _asked(fields: dict[str, Node], conversation: Conversation, place: str, questions: list[ChoiceQuestion]) -> Asked:
    if not conversation and not all(question.has_other for question in questions):
        raise fields[place].error_inside(f"{place!r} has no text of a user; there is nothing to decide on")
    model = fields["model"].text() if "model" in fields else None
    return Asked(model, conversation, questions)


def _bounded(node: Node, kind: str, what: str, most: int) -> Node:
    """``node``, if it is of this kind and has entries, and not too many: a list of thousands is looked at no further."""
    if node.kind != kind:
        raise node.wrong("a mapping (key: value)" if kind == "a mapping" else kind)
    if not 0 < len(node.content) <= most:
        raise node.error_inside(f"{len(node.content):,} {what}; there may be 1 to {most}")
    return node


def _named(node: Node) -> str:
    name = str(node.content)
    if len(name) > MAX_NAME:
        raise node.error(f"the name of a question has {len(name):,} letters; it may have {MAX_NAME}")
    return name


_Option = tuple[Node, Value, str]


def _criteria(node: Node) -> list[_Option]:
    """The options of a System One question: labels, and descriptions that may be anything."""
    fields = node.fields(_QUESTION, "the question")
    _check_kind(fields["type"])
    if "criteria" not in fields:
        raise _missing(node, "criteria")
    criteria = _bounded(fields["criteria"], "a mapping", "options", MAX_ROUTES)
    return [(each, str(label.content), _description(each)) for label, each in criteria.entries()]


def _listed(node: Node) -> tuple[str | None, Node, list[_Option]]:
    """The name and the options of one of OpenAI's questions: values, which may be true and false, and descriptions."""
    fields = node.fields(_LISTED, "the question")
    _check_kind(fields["type"])
    if "choices" not in fields:
        raise _missing(node, "choices")
    options = []
    for each in _bounded(fields["choices"], "a list", "options", MAX_ROUTES).items("the choice"):
        choice = each.fields(_CHOICE, "the choice")
        value = choice["value"].flag() if choice["value"].kind == "true or false" else choice["value"].name()
        options.append((each, value, choice["description"].text() if "description" in choice else ""))
    return _named(fields["name"].called("the name")) if _is_text(fields.get("name")) else None, node, options


def _is_text(node: Node | None) -> bool:
    return node is not None and bool(node.text())


def _missing(node: Node, key: str) -> ArchRouteError:
    return RequestError(f"the question without {key!r}", place=f"{node.place}.{key}".lstrip("."))


def _check_kind(node: Node) -> None:
    kind = node.text()
    if kind == "choice":
        return
    if kind in _OTHER_KINDS:
        raise ApiError(
            422,
            f"the server's model answers questions of the type 'choice'; none that is loaded was made for {kind!r}",
            code="unsupported_question",
            param=str(node.place),
        )
    raise node.error_inside(
        "the type of a question must be 'choice'; 'noul', 'predicate', 'score' and 'box' are known, no other"
    )


def _description(node: Node) -> str:
    if node.kind not in _DESCRIBABLE:
        raise node.called("the description of an option").wrong("text, a mapping, a list or null")
    return replace_surrogates(plain_text(node.content))


def _questions(found: Iterable[tuple[str | None, Node, list[_Option]]]) -> list[ChoiceQuestion]:
    questions, n_bytes = [], 0
    for name, node, options in found:
        n_bytes += sum(len(str(value).encode()) + len(text.encode()) for _, value, text in options)
        if n_bytes > MAX_OPTION_BYTES:
            raise node.error_inside(f"the options have more than {MAX_OPTION_BYTES:,} bytes of text in all")
        questions.append(_question(name, options))
    return questions


def _question(name: str | None, options: list[_Option]) -> ChoiceQuestion:
    taken = {OTHER}
    answers, routes = [], []
    for node, value, text in options:
        if value == OTHER:
            if OTHER in answers:
                raise node.error_inside(f"two options are {OTHER!r}; they must be distinct")
            answers.append(OTHER)
            continue
        answer = "true" if value is True else "false" if value is False else str(value)
        if any(type(value) is type(earlier) and value == earlier for _, earlier, _ in options[: len(answers)]):
            raise node.error_inside(f"two options are {answer[:80]!r}; they must be distinct")
        # True and "true" are two options, and so are texts that only Unicode calls equal.
        key, composed, number = normalized("NFC", answer), normalized("NFC", str(value)), 2
        while key in taken:
            answer, key, number = f"{value} ({number})", f"{composed} ({number})", number + 1
        taken.add(key)
        answers.append(answer)
        try:
            routes.append(Route(answer, text))
        except RouteTableError as exc:
            raise node.error_inside(str(exc)) from exc
    values = tuple(value for _, value, _ in options)
    return ChoiceQuestion(name, values, tuple(answers), RouteTable(routes) if routes else None)


def _read_state(node: Node) -> Conversation:
    """The conversation of a ``state``: messages, or anything else as the text of one."""
    if node.kind not in ("text", "a list", "a mapping"):
        raise node.wrong("text, a list or a mapping")
    value = node.content
    if isinstance(value, list) and value and all(map(_is_message, value)):
        return _messages(value, node)
    return read_messages(_last_message(value) if isinstance(value, str) else plain_text(value))


def _is_message(value: Any) -> bool:
    role = value.get("role") if isinstance(value, dict) else None
    return isinstance(role, str) and role in _ROLES


def _read_input(node: Node) -> Conversation:
    if node.kind not in ("text", "a list"):
        raise node.wrong("text or a list")
    return read_messages(node.content) if node.kind == "text" else _messages(node.content, node)


def _messages(value: list[Any], node: Node) -> Conversation:
    """Messages, and items between them, whose parts may be JSON."""
    try:
        return read_input([_with_json_as_text(each) for each in value])
    except ConversationError as exc:
        exc.place = f"{node.place}.{exc.place}".strip(".")
        raise


def _with_json_as_text(message: Any) -> Any:
    parts = message.get("content") if isinstance(message, dict) else None
    if not isinstance(parts, list):
        return message
    return {**message, "content": [_part(each) for each in parts]}


def _part(part: Any) -> Any:
    if isinstance(part, dict) and part.get("type") == "input_json":
        return {"type": "input_text", "text": plain_text(part.get("data"))}
    return part


# What LiteLLM's classifier puts before the message that it asks about, each block on a line of its own.
_LITELLM_BLOCKS: Final = (
    "\nCaller system prompt, quoted as task context:\n",
    "\nRecent conversation (context only, do not classify these):\n",
    "\nConversation so far: ~",
    "\nClassify this message:\n",
)
_LITELLM_TURN: Final = re.compile(r"\[\d+\] (?:(user|assistant): )?(.*)", re.DOTALL)


def _last_message(state: str) -> Any:
    """``state``, or the messages that LiteLLM's classifier wrote into it: an encoder weighs the beginning of a text most."""
    last = _LITELLM_BLOCKS[-1]
    if not state.startswith(_LITELLM_BLOCKS) or last not in state:
        return state
    before, _, message = state.rpartition(last)
    _, _, recent = before.partition(_LITELLM_BLOCKS[1])
    recent = recent.partition(_LITELLM_BLOCKS[2])[0].removesuffix("\n")
    lines = re.split(r"\n(?=\[\d+\] )", recent)
    turns = [found for found in map(_LITELLM_TURN.fullmatch, lines) if found is not None]
    earlier = [{"role": found[1] or "user", "content": found[2]} for found in turns]
    return [*earlier, {"role": "user", "content": message}]


def plain_text(value: Any) -> str:
    """A JSON value as people would write it down: its texts and numbers, a line each, those of objects behind their keys."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(plain_text, value)))
    if isinstance(value, dict):
        return "\n".join(f"{key}: {text}" for key, each in value.items() if (text := plain_text(each)))
    return "" if value is None else json.dumps(value)
