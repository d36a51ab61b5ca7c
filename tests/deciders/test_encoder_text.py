"""The texts that an encoder reads."""

from __future__ import annotations

import pytest

from archroute_edge.conversation import Turn
from archroute_edge.deciders import conversation_text, route_text
from archroute_edge.deciders._encoder_text import EARLIER_WORDS, LAST_WORDS, conversation_window, name_in_words, shorten
from archroute_edge.routes import Route


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bug_fixing", "bug fixing"),
        ("bug-fixing", "bug fixing"),
        ("bugFixing", "bug Fixing"),
        ("HTTPServer", "HTTP Server"),
        ("APIs", "APIs"),
        ("account.balance", "account balance"),
        ("GitHub actions", "GitHub actions"),
        ("größe_ändern", "größe ändern"),
        ("  spaced   out ", "spaced out"),
        ("___", "___"),
        ("翻译", "翻译"),
    ],
)
def test_names_are_read_as_words(name: str, words: str) -> None:
    """An encoder knows words, and people write names as identifiers."""
    assert name_in_words(name) == words


def test_a_route_reads_as_name_and_description() -> None:
    """The description is left out where there is none."""
    assert route_text(Route("bug_fixing", " errors in code ")) == "bug fixing: errors in code"
    assert route_text(Route("bug_fixing")) == "bug fixing"


def test_a_conversation_reads_as_its_end() -> None:
    """The last user message, the last reply and three earlier messages; what was left out is counted."""
    turns = [Turn("user" if number % 2 == 0 else "assistant", f"message {number}") for number in range(10)]
    earlier = [f"earlier: message {number}" for number in (7, 6, 4, 2)]
    assert conversation_text(turns) == "\n".join(["message 8", *earlier])
    window = conversation_window(turns)
    assert (window.dropped, window.cut) == (5, 0)
    assert conversation_text([Turn("user", "alone")]) == "alone"


def test_a_message_all_in_capitals_reads_in_small_letters() -> None:
    """A vocabulary with capitals has few words in capitals alone; abbreviations in a sentence stay as they are."""
    turns = [Turn("user", "WHY IS MY CARD BLOCKED?!"), Turn("assistant", "The PIN was wrong."), Turn("user", "ΤΙ ΚΑΝΩ ΤΩΡΑ; 2")]
    assert conversation_text(turns) == "τι κανω τωρα; 2\nearlier: The PIN was wrong.\nearlier: why is my card blocked?!"


def test_long_messages_lose_their_middle() -> None:
    """Beginning and end say what is wanted; an earlier message is cut shorter than the last one."""
    long = " ".join(str(number) for number in range(5000))
    window = conversation_window([Turn("assistant", long), Turn("user", long)])
    earlier, last = (turn.content.split() for turn in window.turns)
    assert (len(earlier), len(last), window.cut) == (EARLIER_WORDS + 1, LAST_WORDS + 1, 2)
    assert (last[0], last[-1], last.count("…")) == ("0", "4999", 1)


def test_white_space_around_a_message_hides_nothing() -> None:
    """An encoder would read an ellipsis alone, of what a program pasted with empty lines around it."""
    turns = [Turn("assistant", " \n" * 20_000 + "In which language?"), Turn("user", "\n" * 20_000 + "to Greek" + "\t" * 20_000)]
    window = conversation_window(turns)
    assert [turn.content for turn in window.turns] == ["In which language?", "to Greek"]
    assert not window.trimmed


@pytest.mark.parametrize("text", ["中" * 50_000, "x" * 50_000, "a b " * 500_000, " " * 100_000 + "a", "\u0e01" * 30_000])
def test_what_is_kept_is_bounded_for_any_text(text: str) -> None:
    """Scripts without spaces, one endless word, mere white space."""
    assert len(shorten(text, 48)) <= 48 * 64 * 2 + 3
    assert len(shorten(text, 48).split()) <= 50


def test_a_short_text_is_left_alone() -> None:
    """To the character, white space included."""
    text = "  two   spaces\n\n" + "word " * 197
    assert shorten(text, LAST_WORDS) is text
