"""Read messages as turns: keep some roles and parts, and trim conversations that are too long.

The rules for roles, parts and empty messages are those of Katanemo's gateway, so that the model sees the same text as in
training; the budget is our own, counted in the model's tokens.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import accumulate
from typing import Any, Protocol

from archroute_edge.errors import ConversationError

DEFAULT_BUDGET = 2048
"""Default number of conversation tokens in a prompt."""


class MessageObject(Protocol):
    """A message as clients of model providers return it, such as the ``ChatCompletionMessage`` of OpenAI's package."""

    @property
    def role(self) -> Any:
        """The author's role."""

    @property
    def content(self) -> Any:
        """A text, a list of parts, or None."""


Messages = str | Sequence[Mapping[str, Any] | MessageObject]
"""A user message, or OpenAI-style messages: mappings or objects with ``role`` and ``content``."""

_KEPT_ROLES = ("user", "assistant")
_DROPPED_ROLES = ("system", "developer", "tool", "function")
_TEXT_PARTS = ("text", "input_text", "output_text")
_IMAGE_PARTS = ("image_url", "input_image", "image")
# Characters of an unknown role in an error.
_LONGEST_SHOWN = 60
_SHORT = reprlib.Repr()
# It leaves out the middle, and what is shown is the beginning.
_SHORT.maxstring = 4 * _LONGEST_SHOWN
_HEAD_SHARE = 0.6
_ELLIPSIS = "…"
# More bytes than tokens of ordinary text have; text beyond that is cut without being tokenized.
_MOST_BYTES_A_TOKEN = 16
# The tokenizers of GPT-4, GPT-4o, Claude 2 and DeepSeek make a token of 2.7 to 4.6 bytes of prose, code and JSON; only old ones
# make shorter ones, of languages that are not English, and all do of base64 (1.4).
_USUAL_BYTES_A_TOKEN = 3


@dataclass(frozen=True)
class Turn:
    """One kept message: ``role`` is ``user`` or ``assistant``, ``content`` is not blank."""

    role: str
    content: str


@dataclass(frozen=True)
class TrimmedConversation:
    """The turns that fit, and the numbers of dropped earlier turns and of turns cut in the middle."""

    turns: tuple[Turn, ...]
    dropped: int = 0
    cut: int = 0

    @property
    def trimmed(self) -> bool:
        """Whether any text was left out."""
        return bool(self.dropped or self.cut)


class Conversation(tuple[Turn, ...]):
    """The turns of messages that a router reads, oldest first; none if no user message has text.

    The result of :func:`read_messages`, which returns one unchanged, so that messages are read once, where they come in.
    """

    texts: tuple[tuple[str, str], ...] = ()
    """Role and text of every message; non-text content of system, developer and tool messages counts as empty."""
    has_images: bool = False
    """Whether there are images in the messages, which a router does not look at and some models cannot."""
    offers_tools: bool = False
    """Whether the request offers tools; its reader sets it."""


def read_messages(messages: Messages) -> Conversation:
    """Read messages as a conversation.

    System, developer and tool messages are left out, and so are messages without text (images, tool calls). A message's text
    parts are joined by line breaks. Lone surrogates become U+FFFD.

    Raises:
        ConversationError: not messages, an unknown role, or content of an unknown kind; names the message's index.
    """
    if isinstance(messages, Conversation):
        return messages
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or isinstance(messages, (bytes, bytearray)):
        raise ConversationError("the messages must be a text or a list of {role, content} objects")
    texts = tuple(_read_message(message, index) for index, message in enumerate(messages))
    turns = [Turn(role, text) for role, text in texts if role in _KEPT_ROLES and text.strip()]
    conversation = Conversation(turns if any(turn.role == "user" for turn in turns) else ())
    conversation.texts = texts
    conversation.has_images = any(_has_image(_field(message, "content")) for message in messages)
    return conversation


def read_user_text(messages: Messages) -> Conversation:
    """Read messages as a conversation, for callers that need user text.

    Raises:
        ConversationError: as :func:`read_messages`, or no user message has text.
    """
    turns = read_messages(messages)
    if not turns and not isinstance(messages, str) and not messages:
        raise ConversationError("there are no messages; at least one user message is needed")
    if not turns:
        raise ConversationError("no user message with text among the messages; there is nothing to route")
    return turns


def _read_message(message: object, index: int) -> tuple[str, str]:
    if not isinstance(message, Mapping) and not hasattr(message, "role"):
        problem = f"message {index} is {_kind(message)}; expected an object with role and content"
        raise ConversationError(problem, place=f"{index}")
    role = _field(message, "role")
    if isinstance(role, Enum):
        role = role.value
    if not isinstance(role, str) or role not in (*_KEPT_ROLES, *_DROPPED_ROLES):
        shown = _SHORT.repr(role)[:_LONGEST_SHOWN]
        problem = f"message {index} has the role {shown}; expected one of user, assistant, system, tool"
        raise ConversationError(problem, place=f"{index}.role")
    content = _field(message, "content")
    if role in _DROPPED_ROLES:
        try:
            text = _text_of(content, index)
        except ConversationError:
            # Tools answer with any JSON; the router reads none of it.
            text = ""
    else:
        text = _text_of(content, index)
    return str(role), replace_surrogates(text)


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _field(value: object, name: str) -> Any:
    """A field of a JSON object, or of an object with attributes."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _text_of(content: object, index: int) -> str:
    place = f"{index}.content"
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        problem = f"message {index}: content is {_kind(content)}; expected text or a list of parts"
        raise ConversationError(problem, place=place)
    texts = []
    for number, part in enumerate(content):
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, Mapping) and not hasattr(part, "type"):
            problem = f"message {index}: part {number} is {_kind(part)}; expected an object"
            raise ConversationError(problem, place=f"{place}.{number}")
        if (part.get("type", "text") if isinstance(part, Mapping) else _field(part, "type")) in _TEXT_PARTS:
            text = _field(part, "text")
            if not isinstance(text, str):
                problem = f"message {index}: part {number} is a text part without text"
                raise ConversationError(problem, place=f"{place}.{number}.text")
            texts.append(text)
    return "\n".join(texts)


def _has_image(content: object) -> bool:
    """Whether a message's content holds an image; tools answer with images, too."""
    # Not by recursion: parts may be nested deeper than the stack. A program's lists may also hold themselves.
    waiting, seen = [content], dict[int, object]()
    while waiting:
        parts = waiting.pop()
        if id(parts) in seen or not isinstance(parts, Sequence) or isinstance(parts, (str, bytes, bytearray)):
            continue
        # Kept: another object may have the same id afterwards.
        seen[id(parts)] = parts
        for part in parts:
            kind = _field(part, "type")
            if kind in _IMAGE_PARTS:
                return True
            # Anthropic's results of tools are parts with parts of their own.
            if kind == "tool_result":
                waiting.append(_field(part, "content"))
    return False


def replace_surrogates(text: str) -> str:
    """Join surrogate pairs into characters and turn lone surrogates into U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def estimate_tokens(texts: Iterable[str]) -> int:
    """About how many tokens texts have: a token is three bytes of UTF-8, whatever the language.

    Models have tokenizers of their own, so this errs to the side of too many: a third too many for English.
    """
    n_bytes = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    return n_bytes // _USUAL_BYTES_A_TOKEN


def trim(turns: Sequence[Turn], budget: int, count_tokens: Callable[[Turn], int]) -> TrimmedConversation:
    """Keep the newest turns that fit into ``budget`` tokens, the last user turn always among them.

    The kept part depends only on the conversation, and changes in steps as it grows: whole blocks of a quarter of the budget
    are dropped from its start. So most new turns leave the earlier ones where they were, and their cache stays valid. A turn of
    more than half the budget (all of it, if it is the only one) is cut in the middle.

    Args:
        turns: the conversation, oldest first, with at least one user turn.
        budget: tokens, at least 64 (the JSON around a turn counts as well).
        count_tokens: gives the tokens of a turn in the prompt.
    """
    last_user = max(index for index, turn in enumerate(turns) if turn.role == "user")
    limit = budget if len(turns) == 1 else budget // 2
    sized = _Sizes(turns, limit, count_tokens)
    if sized.fits(budget):
        return TrimmedConversation(tuple(turns))
    room = budget - sized.tokens(last_user)
    start = len(turns)
    while start > 0:
        cost = 0 if start - 1 == last_user else sized.tokens(start - 1)
        if cost > room:
            break
        room -= cost
        start -= 1
    # Blocks begin at the conversation's start, so their borders stay put while it grows. A token is about four letters, so
    # `budget` letters are a quarter of the budget.
    ends = list(accumulate(_letters(turn.content) for turn in turns))
    last = last_user if start <= last_user else len(turns) - 1
    while 0 < start < last and ends[start - 1] // budget == (ends[start - 2] if start > 1 else 0) // budget:
        start += 1
    kept = [index for index in range(len(turns)) if index >= start or index == last_user]
    cut = sum(sized.turn(index) is not turns[index] for index in kept)
    return TrimmedConversation(tuple(sized.turn(index) for index in kept), len(turns) - len(kept), cut)


def _letters(text: str) -> int:
    """The number of ASCII letters that take about as many tokens as ``text``."""
    n_ascii = len(text.encode("ascii", "ignore"))
    # Any other character is a JSON escape of about four tokens in the card's format.
    return n_ascii + 16 * (len(text) - n_ascii)


class _Sizes:
    """Token counts of turns, each cut to a limit, computed on first use."""

    def __init__(self, turns: Sequence[Turn], limit: int, count_tokens: Callable[[Turn], int]) -> None:
        self._turns = turns
        self._limit = limit
        self._count = count_tokens
        self._known: dict[int, tuple[Turn, int]] = {}

    def fits(self, budget: int) -> bool:
        """Whether all turns fit uncut. Counts no more turns than it must."""
        total = 0
        for turn in reversed(self._turns):
            if len(turn.content) > budget * _MOST_BYTES_A_TOKEN:
                return False
            total += self._count(turn)
            if total > budget:
                return False
        return True

    def turn(self, index: int) -> Turn:
        return self._sized(index)[0]

    def tokens(self, index: int) -> int:
        return self._sized(index)[1]

    def _sized(self, index: int) -> tuple[Turn, int]:
        if index not in self._known:
            self._known[index] = _cut(self._turns[index], self._limit, self._count)
        return self._known[index]


def _cut(turn: Turn, limit: int, count_tokens: Callable[[Turn], int]) -> tuple[Turn, int]:
    """``turn`` in at most ``limit`` tokens, and its count. An ellipsis replaces the middle of a longer one."""
    text = turn.content
    keep = min(len(text), limit * _MOST_BYTES_A_TOKEN)
    shortened = turn
    while True:
        if keep < len(text):
            head = int(keep * _HEAD_SHARE)
            tail = text[len(text) - (keep - head) :] if keep > head else ""
            shortened = replace(turn, content=text[:head] + _ELLIPSIS + tail)
        count = count_tokens(shortened)
        if count <= limit or keep <= 1:
            return shortened, count
        # Tokens are not spread evenly, so the proportional guess is a little short and is checked again.
        keep = max(1, int(keep * limit / count * 0.97))
