"""The prompts that routing models were trained on: ``card``, ``gateway`` and ``orchestrator``, byte for byte.

Sources: ``card`` is the prompt of the Arch-Router-1.5B model card (https://huggingface.co/katanemo/Arch-Router-1.5B),
``gateway`` that of Katanemo's archgw up to 0.4.18, ``orchestrator`` that of Plano from 0.4.19
(https://github.com/katanemo/plano). They are model inputs, so every byte counts, odd spacing and doubled braces included.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from archroute_edge.conversation import Turn, read_messages
from archroute_edge.errors import PromptFormatError
from archroute_edge.grammar import Answer, answers_for
from archroute_edge.routes import OTHER, Route, RouteTable


@dataclass(frozen=True)
class PromptFormat:
    """One prompt format: three fixed texts around the routes and the conversation, and the shape of the reply.

    Args:
        name: what ``--prompt-format`` takes.
        opening: everything before the routes.
        middle: between routes and conversation.
        closing: everything after the conversation.
        write_routes: the table as the format shows it.
        write_conversation: the turns as the format shows them.
        reply: a JSON-encoded route name (or None for no match) as the whole reply.
    """

    name: str
    opening: str
    middle: str
    closing: str
    write_routes: Callable[[RouteTable], str]
    write_conversation: Callable[[Sequence[Turn]], str]
    reply: Callable[[str | None], str]

    def render(self, table: RouteTable, turns: Sequence[Turn]) -> str:
        """The text of the one user message that asks the model to route ``turns``."""
        # Joined, never substituted: a description may well contain "{conversation}".
        return "".join((self.opening, self.write_routes(table), self.middle, self.write_conversation(turns), self.closing))

    def answers(self, table: RouteTable, *, nfc: bool = False) -> tuple[Answer, ...]:
        """All replies that are answers for ``table``; names are NFC-normalised where the prompt is."""
        return answers_for(table, self.reply, _nfc if nfc else str)

    def reply_with(self, route: str) -> str:
        """The whole reply that names ``route``; ``other`` is the reply for no match."""
        return self.reply(None if route == OTHER else json.dumps(route, ensure_ascii=False))

    @cached_property
    def fixed_texts(self) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
        """Opening, middle and closing as patterns that take any amount of blank space where the text has some."""
        opening, middle, closing = (
            re.compile(r"\s*" + r"\s+".join(map(re.escape, text.split())) + r"\s*")
            for text in (self.opening, self.middle, self.closing)
        )
        return opening, middle, closing


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _records(table: RouteTable) -> list[dict[str, str]]:
    return [{"name": route.name, "description": route.description} for route in table]


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _orchestrator_routes(table: RouteTable) -> str:
    parameters = {"type": "object", "properties": {}, "required": []}
    return "\n".join(json.dumps({**record, "parameters": parameters}, ensure_ascii=False) for record in _records(table))


def _reply_with_name(encoded: str | None) -> str:
    return f'{{"route": {encoded or json.dumps(OTHER)}}}'


def _reply_with_list(encoded: str | None) -> str:
    return f'{{"route": [{encoded or ""}]}}'


_TASK_HEAD = (
    "\nYour task is to decide which route is best suit with user intent on the conversation in "
    "<conversation></conversation> XML tags. "
)
_TASK_BODY = (
    "Follow the instruction:\n"
    "1. If the latest intent from user is irrelevant or user intent is full filled, "
    'response with other route {"route": "other"}.\n'
    "2. You must analyze the route descriptions and find the best match route for user latest intent.\n"
    "3. You only response the name of the route that best matches the user's request, "
    "use the exact name in the <routes></routes>.\n"
    "\n"
    "Based on your analysis, provide your response in the following JSON formats if you decide to match any route:\n"
    '{"route": "route_name"}\n'
)
_OPENING = (
    "\nYou are a helpful assistant designed to find the best suited route.\n"
    "You are provided with route description within <routes></routes> XML tags:\n"
    "<routes>\n"
)

CARD = PromptFormat(
    name="card",
    opening=_OPENING + "\n",
    middle="\n\n</routes>\n\n<conversation>\n\n",
    closing="\n\n</conversation>\n" + _TASK_HEAD + _TASK_BODY,
    write_routes=lambda table: json.dumps(_records(table)),
    write_conversation=lambda turns: json.dumps(_messages(turns)),
    reply=_reply_with_name,
)

GATEWAY = PromptFormat(
    name="gateway",
    opening=_OPENING,
    middle="\n</routes>\n\n<conversation>\n",
    # Two spaces before "Follow", where the card has one.
    closing="\n</conversation>\n" + _TASK_HEAD + " " + _TASK_BODY,
    write_routes=lambda table: _compact(_records(table)),
    write_conversation=lambda turns: _compact(_messages(turns)),
    reply=_reply_with_name,
)

ORCHESTRATOR = PromptFormat(
    name="orchestrator",
    opening=(
        "\nYou are a helpful assistant that selects the most suitable routes based on user intent.\n"
        "You are provided with a list of available routes enclosed within <routes></routes> XML tags:\n"
        "<routes>\n"
    ),
    middle=(
        "\n</routes>\n\n"
        "You are also given the conversation context enclosed within <conversation></conversation> XML tags:\n"
        "<conversation>\n"
    ),
    closing=(
        "\n</conversation>\n\n"
        "## Instructions\n"
        "1. Analyze the latest user intent from the conversation.\n"
        "2. Compare it against the available routes to find which routes can help fulfill the request.\n"
        "3. Respond only with the exact route names from <routes>.\n"
        "4. If no routes can help or the intent is already fulfilled, return an empty list.\n"
        "\n"
        "## Response Format\n"
        "Return your answer strictly in JSON as follows:\n"
        '{{"route": ["route_name_1", "route_name_2", "..."]}}\n'
        "If no routes are needed, return an empty list for `route`.\n"
    ),
    write_routes=_orchestrator_routes,
    write_conversation=lambda turns: json.dumps(_messages(turns), indent=4, ensure_ascii=False),
    reply=_reply_with_list,
)

PROMPT_FORMATS: dict[str, PromptFormat] = {each.name: each for each in (CARD, GATEWAY, ORCHESTRATOR)}
"""The formats by name."""


def prompt_format(name: str) -> PromptFormat:
    """The format called ``name``.

    Raises:
        PromptFormatError: there is none of that name.
    """
    try:
        return PROMPT_FORMATS[name]
    except KeyError:
        raise PromptFormatError(f"no prompt format {name!r}; there are {', '.join(PROMPT_FORMATS)}") from None


@dataclass(frozen=True)
class ReadyPrompt:
    """What a prompt that somebody else rendered holds.

    Args:
        format: the format that it is in, and so the shape of the reply that its sender expects.
        table: its routes, in its order, without models.
        turns: its conversation, oldest turn first.
    """

    format: PromptFormat
    table: RouteTable
    turns: tuple[Turn, ...]


def recognise(text: str) -> ReadyPrompt | None:
    """Read a prompt in one of the formats back into what it was rendered from; None for any other text.

    The fixed texts have to be there word for word; blank space between their words may differ, as it does between copies
    of the model card. No marker is searched for: each part begins where the JSON of the part before it ends, so text in a
    message or a description that looks like a marker is text.

    Raises:
        PromptFormatError: the text begins as one of the prompts, but does not go on as one.
        RouteTableError: the prompt's routes cannot be used together.
        ConversationError: there is nothing to route in its conversation.
    """
    exact = [each for each in PROMPT_FORMATS.values() if text.startswith(each.opening) and text.endswith(each.closing)]
    for each in (*exact, *PROMPT_FORMATS.values()):
        opening, middle, closing = each.fixed_texts
        if found := opening.match(text):
            routes, end = _read_values(text, found.end(), f"the routes of the {each.name} prompt")
            end = _read_fixed(middle, text, end, f"the routes of the {each.name} prompt are not followed by")
            messages, end = _read_values(text, end, f"the conversation of the {each.name} prompt")
            end = _read_fixed(closing, text, end, f"the conversation of the {each.name} prompt is not followed by")
            if end != len(text):
                raise PromptFormatError(f"there is more text behind the end of the {each.name} prompt; send the prompt alone")
            return ReadyPrompt(each, RouteTable(map(_read_route, routes)), read_messages(messages))
    return None


def _read_fixed(fixed: re.Pattern[str], text: str, start: int, problem: str) -> int:
    found = fixed.match(text, start)
    if not found:
        expected = "</conversation>" if "conversation" in problem else "</routes>"
        raise PromptFormatError(f"{problem} {expected} and the rest of the format's text, word for word")
    return found.end()


def _read_values(text: str, start: int, what: str) -> tuple[list[Any], int]:
    """The values of a JSON list, or of JSON objects that follow one another, and where they end."""
    values: list[Any] = []
    try:
        if text.startswith("[", start):
            return _JSON.raw_decode(text, start)
        while text.startswith("{", start):
            value, start = _JSON.raw_decode(text, start)
            values.append(value)
            while text[start : start + 1].isspace():
                start += 1
    except (ValueError, RecursionError) as exc:
        problem = exc.msg if isinstance(exc, json.JSONDecodeError) else "JSON that cannot be used"
        raise PromptFormatError(f"{what} cannot be read: {problem}") from exc
    return values, start


def _read_route(record: Any) -> Route:
    # What else stands there, such as the orchestrator's parameters, says nothing about when to take the route.
    if not isinstance(record, dict) or "name" not in record:
        raise PromptFormatError("a route of the prompt is not an object with a name and a description")
    return Route(record["name"], record.get("description", ""))


_JSON = json.JSONDecoder()
