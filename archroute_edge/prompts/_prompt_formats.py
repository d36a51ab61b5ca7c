"""The prompts that routing models were trained on: ``card``, ``gateway`` and ``orchestrator``, byte for byte.

Sources: ``card`` is the prompt of the Arch-Router-1.5B model card (https://huggingface.co/katanemo/Arch-Router-1.5B),
``gateway`` that of Katanemo's archgw up to 0.4.18, ``orchestrator`` that of Plano from 0.4.19
(https://github.com/katanemo/plano). They are model inputs, so every byte counts, odd spacing and doubled braces included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archroute_edge._unicode import normalized
from archroute_edge.conversation import Turn
from archroute_edge.errors import PromptFormatError
from archroute_edge.prompts._grammar import Answer
from archroute_edge.routes import OTHER, RouteTable


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
        r"""All answers for ``table``: each route in each of its JSON spellings, then the one for no match.

        Names are NFC-normalised if the prompt is (``nfc``).
        """
        answers: dict[str, Answer] = {}
        for route in table:
            name = to_nfc(route.name) if nfc else route.name
            # What the card's prompt shows (\uXXXX) comes first, then the raw form; for ASCII names they are one.
            for encoded in (json.dumps(name), json.dumps(name, ensure_ascii=False)):
                text = self.reply(encoded)
                answers.setdefault(text, Answer(text, route.name))
        nothing = self.reply(None)
        answers[nothing] = Answer(nothing, OTHER)
        return tuple(answers.values())

    def reply_with(self, route: str) -> str:
        """The whole reply that names ``route``; ``other`` is the reply for no match."""
        return self.reply(None if route == OTHER else json.dumps(route, ensure_ascii=False))


def to_nfc(text: str) -> str:
    """``text`` with composed characters, as some tokenizers normalise it."""
    return normalized("NFC", text)


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
    except (KeyError, TypeError):
        raise PromptFormatError(f"no prompt format {name!r}; there are {', '.join(PROMPT_FORMATS)}") from None
