"""Router prompts that other programs rendered, read back: routes, conversation, and the shape of the reply.

Gateways word the instructions around the two parts in their own ways, so no words are compared. How the parts are found:

1. The prompt is read once from its beginning. ``<routes>`` or ``<conversation>`` opens a block if only blank space stands
   between it and the end of its line, or the beginning of a JSON value. Any other tag is a mention in a sentence.
2. **JSON** (a list, or objects that follow one another) ends where its grammar says, and the block's closing tag has to
   follow. Reading goes on behind that, so nothing inside a message or a description is ever looked at as a tag.
3. **Text** has no grammar that ends it. Routes as YAML end at the first ``</routes>``: they are the gateway's own words. A
   conversation as text ends at the *last* ``</conversation>`` that begins a line: a user can write closing tags only before
   the gateway's own. Behind it only the pair ``<conversation></conversation>`` may be mentioned.
4. The first block of each name counts. A tag alone on its line whose block cannot be read is an error, and nothing behind
   it is tried.
5. What is left, the gateway's own words, is looked at for one thing: whether the reply is a list or a name.

So a user's text inside the conversation can become neither a route nor an instruction, whatever tags, prompts or control
tokens it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from archroute_edge.config import Node, parse_tree, read_routes
from archroute_edge.conversation import Turn, read_messages
from archroute_edge.errors import ConfigError, PromptFormatError
from archroute_edge.prompts._prompt_formats import CARD, ORCHESTRATOR
from archroute_edge.routes import OTHER, RouteTable


class ReplyShape(Enum):
    """What the sender of a prompt can read: how a route's name is written in the reply to it."""

    NAME = "name"
    """``{"route": "NAME"}``, for no match ``{"route": "other"}``."""
    NAME_OR_EMPTY = "name or empty"
    """``{"route": "NAME"}``, for no match ``{"route": ""}``."""
    LIST = "list"
    """``{"route": ["NAME"]}``, for no match ``{"route": []}``."""

    def reply(self, route: str) -> str:
        """The whole reply that names ``route``; ``other`` is no match."""
        if self is ReplyShape.LIST:
            return ORCHESTRATOR.reply_with(route)
        if self is ReplyShape.NAME_OR_EMPTY and route == OTHER:
            return '{"route": ""}'
        return CARD.reply_with(route)


@dataclass(frozen=True)
class ReadyPrompt:
    """What a prompt that another program rendered holds.

    Args:
        shape: how its sender wants the reply.
        table: its routes, in its order, without models.
        turns: its conversation, oldest turn first; none if there is no user text in it.
    """

    shape: ReplyShape
    table: RouteTable
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class _Block:
    """The values in a block, and where it ends; ``is_blank`` if it holds blank space alone."""

    values: list[Any]
    end: int
    is_blank: bool = False


# More tags that begin like a block than any prompt has; each costs a look at what follows.
_MOST_TRIES: Final = 32
# Letters of YAML, which takes seconds to read beyond.
_MOST_YAML: Final = 1 << 16
_TAG: Final = re.compile(r"<(routes|conversation)>")
_REST_OF_LINE: Final = re.compile(r"[^\S\n]*(?:\n\s*)?")
# Some clients put code fences around JSON.
_FENCE: Final = re.compile(r"```\w*\s*(?=[\[{])")
_JSON_START: Final = ("[", "{")
_LIST_REPLY: Final = re.compile(r"""["']route["']\s*:\s*\[""")
_EMPTY_REPLY: Final = re.compile(r"""["']route["']\s*:\s*(?:""|'')""")
_OTHER_REPLY: Final = re.compile(rf"""["']route["']\s*:\s*["']{OTHER}["']""")
_ROLE: Final = re.compile(r"^(user|assistant|system|developer|tool|function)[^\S\n]*:[^\S\n]?", re.IGNORECASE | re.MULTILINE)
_CLOSING_LINE: Final = re.compile(r"^[^\S\n]*</conversation>", re.MULTILINE)
# As archgw 0.3.0 writes a route: nothing quoted or escaped, so a description may hold what YAML would take for its own.
_PLAIN_ROUTES: Final = re.compile(r"(?:- name: [^\n]*\n[ ]+description:[^\n]*(?:\n|\Z)(?:[ ][^\n]*(?:\n|\Z)|\n)*)+")
_PLAIN_ROUTE: Final = re.compile(r"^- name: ([^\n]*)\n[ ]+description:([^\n]*(?:\n(?!- name: )[^\n]*)*)", re.MULTILINE)
_YAML_STYLE: Final = tuple("\"'|>&*!")


def recognise(text: str) -> ReadyPrompt | None:
    """Read a router prompt back into what it was rendered from; None for a text without the blocks of one.

    Raises:
        PromptFormatError: a block is there, and it cannot be read, or the other one is missing.
        RouteTableError: the prompt's routes cannot be used together.
        ConversationError: its messages are malformed.
    """
    text = text.replace("\r\n", "\n")
    blocks: dict[str, _Block] = {}
    blanks: dict[str, _Block] = {}
    words: list[str] = []
    at = tries = 0
    while tag := _TAG.search(text, at):
        name, end = tag[1], tag.end()
        if name not in blocks:
            tries += 1
            if tries > _MOST_TRIES:
                raise PromptFormatError(f"the prompt has more than {_MOST_TRIES} tags that hold neither routes nor messages")
            block = _read_block(text, tag)
            if block is not None:
                (blanks if block.is_blank else blocks).setdefault(name, block)
                words.append(text[at : tag.start()])
                at = block.end
                continue
        words.append(text[at:end])
        at = end
    words.append(text[at:])
    found = {**blanks, **blocks}
    if not found:
        return None
    for name in ("routes", "conversation"):
        if name not in found:
            raise PromptFormatError(f"the prompt has no <{name}> block; send routes and conversation in one prompt")
    # What else stands there, such as the orchestrator's parameters, says nothing about when to take the route.
    routes = [
        {key: each[key] for key in ("name", "description") if key in each} if isinstance(each, dict) else each
        for each in found["routes"].values
    ]
    if len(routes) > 1:
        # The reply for no match is there without being a route.
        routes = [each for each in routes if not (isinstance(each, dict) and each.get("name") == OTHER)]
    return ReadyPrompt(_shape("".join(words)), read_routes(routes), read_messages(found["conversation"].values))


def _shape(words: str) -> ReplyShape:
    if _LIST_REPLY.search(words):
        return ReplyShape.LIST
    if _EMPTY_REPLY.search(words) and not _OTHER_REPLY.search(words):
        return ReplyShape.NAME_OR_EMPTY
    return ReplyShape.NAME


def _read_block(text: str, tag: re.Match[str]) -> _Block | None:
    """The block that ``tag`` opens; None if it is a mention."""
    name = tag[1]
    rest = _REST_OF_LINE.match(text, tag.end())
    assert rest is not None
    start, ends_line = rest.end(), "\n" in rest[0]
    begins_line = not text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()].strip()
    closing = f"</{name}>"
    if text.startswith(closing, start):
        # <routes></routes> in a sentence is no empty block.
        return _Block([], start + len(closing), is_blank=True) if ends_line else None
    fence = _FENCE.match(text, start)
    start = fence.end() if fence else start
    try:
        if text.startswith(_JSON_START, start):
            return _read_json(text, start, name)
        return _READERS[name](text, start) if begins_line and ends_line else None
    except PromptFormatError:
        if begins_line and ends_line:
            raise
        return None


def _read_json(text: str, start: int, name: str) -> _Block:
    """A JSON list, or objects that follow one another, and the closing tag behind them."""
    values: list[Any] = []
    end = start
    try:
        if text.startswith("[", start):
            values, end = _JSON.raw_decode(text, start)
        else:
            while text.startswith("{", end):
                value, end = _JSON.raw_decode(text, end)
                values.append(value)
                end = _skip_space(text, end)
    except (ValueError, RecursionError) as exc:
        problem = exc.msg if isinstance(exc, json.JSONDecodeError) else "JSON that cannot be used"
        raise PromptFormatError(f"the <{name}> block of the prompt cannot be read: {problem}") from exc
    end = _skip_space(text, end)
    if text.startswith("```", end):
        end = _skip_space(text, end + 3)
    if not text.startswith(f"</{name}>", end):
        raise PromptFormatError(f"the <{name}> block of the prompt is not followed by </{name}>")
    return _Block(_unwrapped(values), end + len(f"</{name}>"))


def _unwrapped(values: list[Any]) -> list[Any]:
    """The list in ``{"routes": [...]}`` or ``{"messages": [...]}``, which some clients write in the place of the list."""
    if len(values) == 1 and isinstance(values[0], dict) and len(values[0]) == 1:
        (inner,) = values[0].values()
        return inner if isinstance(inner, list) else values
    return values


def _skip_space(text: str, start: int) -> int:
    while text[start : start + 1].isspace():
        start += 1
    return start


def _read_yaml_routes(text: str, start: int) -> _Block:
    """Routes as YAML, up to the first ``</routes>``: a list of name and description, or a mapping of one to the other."""
    end = text.find("</routes>", start)
    if end < 0:
        raise PromptFormatError("the <routes> block of the prompt is not followed by </routes>")
    content = text[start:end].strip()
    if len(content) > _MOST_YAML:
        raise PromptFormatError(f"the <routes> block of the prompt has more than {_MOST_YAML:,} letters of YAML; send JSON")
    values: list[Any]
    plain = _PLAIN_ROUTE.findall(content) if _PLAIN_ROUTES.fullmatch(content) else []
    if plain and not any(part.strip().startswith(_YAML_STYLE) for pair in plain for part in pair):
        values = [{"name": name.strip(), "description": description.strip()} for name, description in plain]
    else:
        try:
            values = _records(parse_tree(content))
        except ConfigError as exc:
            raise PromptFormatError(f"the <routes> block of the prompt is neither JSON nor YAML: {exc.message}") from exc
    return _Block(values, end + len("</routes>"))


def _records(tree: Node) -> list[Any]:
    if tree.kind == "a mapping" and len(tree.content) == 1 and tree.content[0][1].kind == "a list":
        tree = tree.content[0][1]
    pairs: list[Any] = []
    for each in tree.content if tree.kind == "a list" else [tree]:
        if each.kind != "a mapping":
            raise PromptFormatError("a route of the prompt is not a name with a description")
        fields = {key.content: value.content for key, value in each.content if isinstance(value.content, str)}
        if "name" in fields:
            pairs.append(fields)
        else:
            pairs += [{"name": name, "description": description} for name, description in fields.items()]
    return pairs


def _read_text_conversation(text: str, start: int) -> _Block:
    """A conversation as lines that begin with a role, up to the last ``</conversation>`` that begins a line.

    Where every line is a role and a JSON value, as archgw 0.3.0 writes it, the values are the contents. Else a turn goes on
    up to the next line that begins with a role.
    """
    closing = max(_CLOSING_LINE.finditer(text, start), key=re.Match.start, default=None)
    if closing is None or "</conversation>" in text[closing.end() :].replace("<conversation></conversation>", ""):
        raise PromptFormatError("the <conversation> block of the prompt does not end in </conversation> on a line of its own")
    content = text[start : closing.start()].rstrip()
    roles = list(_ROLE.finditer(content))
    if not roles or roles[0].start() != 0:
        raise PromptFormatError("the <conversation> block of the prompt is neither JSON nor lines of role and text")
    ends = [role.start() for role in roles[1:]] + [len(content)]
    pieces = [(role[1].lower(), content[role.end() : stop].rstrip("\n")) for role, stop in zip(roles, ends, strict=True)]
    messages = [{"role": role, "content": piece} for role, piece in pieces]
    try:
        decoded = [{"role": role, "content": json.loads(piece)} for role, piece in pieces]
    except (ValueError, RecursionError):
        decoded = []
    if decoded and all(each["content"] is None or isinstance(each["content"], (str, list)) for each in decoded):
        messages = decoded
    return _Block(messages, closing.end())


_READERS: Final[dict[str, Callable[[str, int], _Block]]] = {
    "routes": _read_yaml_routes,
    "conversation": _read_text_conversation,
}
_JSON: Final = json.JSONDecoder()
