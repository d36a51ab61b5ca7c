"""The texts that a sentence encoder reads.

An encoder is trained on texts made here and must be asked with texts made here, so a GGUF says which version of them it
knows (``archroute.encoder.text_format``). A change to them that asks for a new training is a new version.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from archroute_edge.conversation import TrimmedConversation, Turn
from archroute_edge.routes import Route

TEXT_FORMAT: Final = 1
"""The version of the texts that this module makes."""

EARLIER_MESSAGES: Final = 3
"""How many user messages before the last one are read along with it. Of the replies only the last one is read: older
ones hide that the talk has come to another subject, or to its end."""

EARLIER: Final = "earlier: "
"""Stands before each of those: an encoder's tokenizer drops line breaks, and would not see where a message begins."""

EARLIER_WORDS: Final = 32
"""Words of each of those; the middle of a longer one is left out."""

LAST_WORDS: Final = 200
"""Words of the last user message; the middle of a longer one is left out."""

_HEAD_SHARE: Final = 0.6
_ELLIPSIS: Final = " … "
# A character of a script that is written without spaces between words counts as a word, and so does every further 16
# characters of a run that no space ends: what is kept is then bounded in tokens, whatever was written.
_WORD: Final = re.compile(
    "[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
    "|[^\\s\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]{1,16}"
)
# Nothing further from a text's ends than this many characters a word is looked at, so that megabytes cost nothing.
_CHARACTERS_A_WORD: Final = 64
_SEPARATOR: Final = re.compile(r"(?<=\w)[-/:]+(?=\w)|(?<=\w\w)\.(?=\w\w)|_+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")


def route_text(route: Route) -> str:
    """The text of a route: its name in words, and its description, if any, behind a colon."""
    words, description = name_in_words(route.name), route.description.strip()
    return f"{words}: {description}" if description else words


def name_in_words(name: str) -> str:
    """``bug_fixing``, ``bug-fixing`` and ``bugFixing`` as ``bug fixing`` and ``bug Fixing``.

    Capitals within words stay if the name has spaces or other separators.
    """
    words = _SEPARATOR.sub(" ", name)
    if not re.search(r"\s", words.strip()):
        words = _CAMEL.sub(" ", words)
    return " ".join(words.split()) or name.strip()


def conversation_window(turns: Sequence[Turn]) -> TrimmedConversation:
    """The turns that an encoder reads, each shortened: the last user turn, up to three before it, and the last reply.

    Args:
        turns: the conversation, oldest first, with at least one user turn. Turns behind the last user turn are not read.
    """
    last = max(index for index, turn in enumerate(turns) if turn.role == "user")
    asked = [index for index in range(last) if turns[index].role == "user"][-EARLIER_MESSAGES:]
    answered = [index for index in range(last) if turns[index].role != "user"][-1:]
    # Long white space around a message would leave no words within reach of its ends.
    read = [replace(turns[index], content=turns[index].content.strip()) for index in sorted((*asked, *answered, last))]
    kept = [replace(turn, content=shorten(turn.content, EARLIER_WORDS)) for turn in read[:-1]]
    kept.append(replace(read[-1], content=shorten(read[-1].content, LAST_WORDS)))
    cut = sum(one.content is not other.content for one, other in zip(kept, read, strict=True))
    return TrimmedConversation(tuple(kept), len(turns) - len(kept), cut)


def conversation_text(turns: Sequence[Turn]) -> str:
    """The text of a conversation: that of its :func:`conversation_window`."""
    return window_text(conversation_window(turns))


def window_text(window: TrimmedConversation) -> str:
    """What an encoder reads: a message a line, the newest first, the others marked as earlier ones.

    An encoder knows a word's place from the beginning of a text. So the message to route stands there, and what is cut off
    at the end of a long text is the oldest. A message all in capitals is read in small letters: the words of a vocabulary
    that tells them apart have few tokens for it.
    """
    *earlier, last = (turn.content.lower() if turn.content.isupper() else turn.content for turn in window.turns)
    return "\n".join([last, *(EARLIER + text for text in reversed(earlier))])


def shorten(text: str, n_words: int) -> str:
    """``text`` in at most ``n_words`` words, with an ellipsis for the middle of a longer one; else ``text`` itself."""
    reach = n_words * _CHARACTERS_A_WORD
    beginning = ending = text
    if len(text) > 2 * reach:
        beginning, ending = text[:reach], text[-reach:]
    elif sum(1 for _ in _WORD.finditer(text)) <= n_words:
        return text
    n_head = int(n_words * _HEAD_SHARE)
    ends = [match.end() for match in islice(_WORD.finditer(beginning), n_head)]
    starts = [match.start() for match in _WORD.finditer(ending)][n_head - n_words :]
    # Long white space alone has no words.
    return beginning[: ends[-1] if ends else 0] + _ELLIPSIS + ending[starts[0] if starts else len(ending) :]
