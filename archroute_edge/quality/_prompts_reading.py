"""Prompts from files of JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from archroute_edge.config import shorten
from archroute_edge.conversation import Conversation, estimate_tokens, read_user_text, replace_surrogates
from archroute_edge.errors import ConversationError, QualityError
from archroute_edge.quality._lines import LARGEST_FILE, Line, read_objects, shown
from archroute_edge.quality._outcomes import Prompt

PROMPTS_NAME: Final = re.compile(r"prompts_(.+)\.jsonl(?:\.gz)?")
"""Name of a file with the prompts of a set."""
_LIKE: Final = '{"id": "...", "text": "..."}'
_ENDING: Final = re.compile(r"\.(?:jsonl|ndjson|json)(?:\.gz)?$")


def read_prompts(path: Path | str) -> Iterator[Prompt]:
    """Prompts, one after the other as they are read: lines of ``{"id", "text"}`` or ``{"id", "messages"}``.

    A prompt without ``id`` is called by its line's number. ``category`` may be there, and other keys are ignored.

    Args:
        path: of the file; ``-`` is standard input.

    Raises:
        QualityError: the file cannot be read, or a line is no prompt.
    """
    for prompt, _ in read_prompts_and_lines(path):
        yield prompt


def read_prompts_and_lines(path: Path | str) -> Iterator[tuple[Prompt, dict[str, Any]]]:
    """The same, each with the object on its line: a prompt has no images and no system messages."""
    group = group_of(path)
    for line in read_objects(path, _LIKE):
        yield read_prompt_line(line, line.id() or str(line.number), group), line.fields


def read_numbered_prompts(path: Path) -> list[tuple[int, Prompt]]:
    """The prompts of a set, each with the number of its line. They need ids.

    Raises:
        QualityError: the file cannot be read, a line is no prompt, two have the same id, or there is none.
    """
    group = group_of(path)
    ids = _Ids()
    found = []
    for line in read_objects(path, _LIKE, LARGEST_FILE):
        name = line.id()
        if name is None:
            raise line.wrong("no 'id'; each prompt of a set has one of its own")
        found.append((line.number, read_prompt_line(line, ids.new(name, line), group)))
    if not found:
        raise QualityError(f"{path} line 1: there are no prompts; expected {_LIKE} on each line")
    return found


def group_of(path: Path | str) -> str:
    """The set that a file belongs to: its name without ``prompts_`` and endings; nothing for standard input."""
    if shown(path) != str(path):
        return ""
    name = Path(path).name
    named = PROMPTS_NAME.fullmatch(name)
    # A file may be called by bytes that are not UTF-8.
    return replace_surrogates(named[1] if named else _ENDING.sub("", name))


def messages_of(line: Line, keys: tuple[str, ...]) -> tuple[str | tuple[dict[str, Any], ...], int]:
    """The prompt that stands under one of ``keys``, a text or the turns of messages, and the tokens of all messages.

    Raises:
        QualityError: there is none, more than one, or it has no user text.
    """
    given = [key for key in keys if line.fields.get(key) is not None]
    if len(given) != 1:
        problem = f"both {given[0]!r} and {given[1]!r}" if given else "no prompt"
        raise line.wrong(f"{problem}; expected either {' or '.join(map(repr, keys))}")
    value = line.fields[given[0]]
    if given[0] == "text" and not isinstance(value, str):
        raise line.wrong("'text' is no text; a list of messages is called 'messages'")
    if isinstance(value, str) and not value.strip():
        raise line.wrong(f"{given[0]!r} is blank; a prompt needs user text")
    try:
        turns = read_user_text(value)
    except ConversationError as exc:
        raise line.wrong(str(exc)) from exc
    return turns[0].content if isinstance(value, str) else turns_as_messages(turns), tokens_of_all(turns)


def turns_as_messages(turns: Conversation) -> tuple[dict[str, Any], ...]:
    """A conversation as messages that are read as the same conversation."""
    return tuple({"role": turn.role, "content": turn.content} for turn in turns)


def tokens_of_all(conversation: Conversation) -> int:
    """About how many tokens the messages have that a conversation was read from, as targets count them."""
    return estimate_tokens(text for _, text in conversation.texts)


def read_prompt_line(line: Line, name: str, group: str) -> Prompt:
    """The prompt of a line of ``text`` or ``messages``.

    Raises:
        QualityError: it is none.
    """
    category = line.name("category", "a text") if line.fields.get("category") is not None else None
    messages, tokens = messages_of(line, ("text", "messages"))
    return Prompt(name, messages, category, group, tokens)


class _Ids:
    """The lines of the ids of a file so far."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}

    def new(self, name: str, line: Line) -> str:
        """An id that no line before has.

        Raises:
            QualityError: one has.
        """
        first = self._lines.setdefault(name, line.number)
        if first != line.number:
            raise line.wrong(f"the id {shorten(name)} is that of line {first}, too; each prompt has one of its own")
        return name
