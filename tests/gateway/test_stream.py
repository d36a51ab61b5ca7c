"""Bytes on their way: borders of events, and what the ends say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from archroute_edge.gateway._answer_text import AnswerText
from archroute_edge.gateway._redaction import RedactedEvents, redacted
from archroute_edge.gateway._stream import EventBorders, FirstEvent, KeptEnds
from archroute_edge.gateway._usage import ends_in_error, read_usage, response_model
from archroute_edge.record import Operation, Usage
from tests.upstream_replies import (
    chat_events,
    chat_reply,
    messages_events,
    messages_reply,
    reply_to,
    responses_events,
    responses_reply,
)

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}


@settings(max_examples=100)
@given(st.lists(st.text(alphabet="ab:\r\n ", max_size=8).map(str.encode), max_size=8))
def test_nothing_is_lost_or_changed(chunks: list[bytes]) -> None:
    borders = EventBorders()
    passed = [borders.add(chunk) for chunk in chunks]
    assert b"".join([*passed, borders.flush()]) == b"".join(chunks)


@pytest.mark.parametrize("border", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_an_event_passes_when_it_is_whole(border: bytes) -> None:
    borders = EventBorders()
    assert borders.add(b"data: 1") == b""
    assert borders.add(border[:1]) == b""
    assert borders.add(border[1:] + b"data: 2") == b"data: 1" + border
    assert borders.is_held
    assert borders.flush() == b"data: 2"


def test_a_huge_event_is_not_held() -> None:
    borders = EventBorders()
    assert len(borders.add(b"data: " + b"x" * (2 << 20))) > 2 << 20
    assert (borders.is_held, borders.is_cut) == (False, True)
    assert borders.add(b"y\n\n") == b"y\n\n"
    assert not borders.is_cut


def test_a_part_of_an_event_that_passed_is_told() -> None:
    borders = EventBorders()
    borders.add(b"data: 1")
    assert not borders.is_cut
    borders.flush()
    assert borders.is_cut
    borders.add(b"2")
    assert borders.is_cut
    assert borders.add(b"\n\ndata: 3") == b"2\n\n"
    assert not borders.is_cut


SECRET = b"abcabd"


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([b"abc", b"abd", b"ab", b"a", b"\n\n", b"x", b'data: {"error": "', b'"}']), max_size=30),
    st.lists(st.integers(1, 6), max_size=40),
    st.lists(st.booleans(), min_size=80, max_size=80),
)
def test_a_key_in_a_part_of_an_event_is_blanked_out(pieces: list[bytes], sizes: list[int], flushed: list[bool]) -> None:
    """Wherever an upstream cuts, and whatever passes in parts; nothing else is lost."""
    text, borders, redaction, passed = b"".join(pieces), EventBorders(), RedactedEvents([SECRET]), b""
    chunks, at = [], 0
    for size in [*sizes, len(text)]:
        chunks.append(text[at : at + size])
        at += size
    for chunk, is_flushed in zip(chunks, flushed, strict=False):
        whole = borders.add(chunk)
        passed += redaction.add(whole, is_cut=borders.is_cut)
        if is_flushed and borders.is_held:
            passed += redaction.add(borders.flush(), is_cut=True)
            assert SECRET not in passed.rpartition(b"\n\n")[2]
    passed += redaction.add(borders.flush(), is_cut=False)
    assert passed.replace(b"[redacted]", SECRET) == text


LONG_KEY, SHORT_KEY = b"sk-team-12345678-prod", b"sk-team-12345678"


@pytest.mark.parametrize("key", [LONG_KEY, SHORT_KEY])
@pytest.mark.parametrize("n_first", range(1, 60))
def test_a_key_that_begins_with_another_one_is_blanked_out_whole(key: bytes, n_first: int) -> None:
    error = b'data: {"error": {"message": "wrong key %b-x"}}\n\n' % key
    redaction = RedactedEvents([LONG_KEY, SHORT_KEY])
    passed = redaction.add(error[:n_first], is_cut=True) + redaction.add(error[n_first:], is_cut=False)
    assert passed == error.replace(key, b"[redacted]")


@settings(max_examples=300)
@example([b"aa"], [b"aa", b"", b"a"])
@given(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=6).map(str.encode), min_size=1, max_size=4, unique=True),
    st.lists(st.text(alphabet="abc", max_size=8).map(str.encode), max_size=12),
)
def test_where_a_stream_is_cut_changes_nothing(secrets: list[bytes], pieces: list[bytes]) -> None:
    """Whether keys hold or overlap each other, too; and what is held back stays short."""
    secrets.sort(key=len, reverse=True)
    redaction, passed = RedactedEvents(secrets), b""
    for piece in pieces:
        passed += redaction.add(piece, is_cut=True)
        assert len(redaction._held) < len(secrets[0])
    passed += redaction.add(b"", is_cut=False)
    assert passed == redacted(b"".join(pieces), secrets)


@settings(max_examples=300)
@given(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=6).map(str.encode), min_size=1, max_size=4, unique=True),
    st.text(alphabet="abc", max_size=60).map(str.encode),
)
def test_no_byte_of_a_key_is_left(secrets: list[bytes], text: bytes) -> None:
    """Of each byte it is counted whether it is part of any key."""
    shown = bytearray(text)
    for secret in secrets:
        for at in range(len(text)):
            if text.startswith(secret, at):
                shown[at : at + len(secret)] = b"-" * len(secret)
    assert redacted(text, secrets).replace(b"[redacted]", b"") == bytes(shown).replace(b"-", b"")


class CountedSearches(bytes):
    """A text that counts how often it is searched."""

    n_searches = 0

    def find(self, *arguments: Any) -> int:
        self.n_searches += 1
        return super().find(*arguments)


@pytest.mark.parametrize("secret", [b"a" * 500, b"ab" * 250, b"a" * 250 + b"b" + b"a" * 249])
def test_a_key_that_repeats_itself_costs_no_search_at_each_byte(secret: bytes) -> None:
    """A search costs the key's length: 300 kB of "a" took seconds on the event loop."""
    text = CountedSearches(secret * 20 + b"!")
    assert redacted(text, [secret]).endswith(b"[redacted]!")
    assert text.n_searches <= 2 * len(text) / len(secret)


def test_keys_that_overlap_are_one_mark() -> None:
    assert redacted(b"key abcdefgh, abcde, abcdedefgh", [b"abcde", b"defgh"]) == (
        b"key [redacted], [redacted], [redacted][redacted]"
    )


@pytest.mark.parametrize("n_first", range(1, 40))
def test_a_key_in_an_error_is_blanked_out_wherever_it_is_cut(n_first: int) -> None:
    error = b'data: {"error": {"message": "wrong key abcabd, not abcabc"}}\n\n'
    redaction = RedactedEvents([SECRET])
    passed = redaction.add(error[:n_first], is_cut=True) + redaction.add(error[n_first:], is_cut=False)
    assert passed == error.replace(SECRET, b"[redacted]")


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"data: {}\n\n", True),
        (b"event: ping\r\ndata: {}\r\n\r\n", True),
        (b": comment\n\ndata: {}\n\n", True),
        (b": comment\n\n", False),
        (b": comment\n\ndata: {}\n", False),
        (b"\n\n\n\n", False),
        (b"", False),
    ],
)
def test_first_event(received: bytes, expected: bool) -> None:
    assert FirstEvent().has_come(received) is expected
    in_bytes = FirstEvent()
    assert any(in_bytes.has_come(received[at : at + 1]) for at in range(len(received))) is expected


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("operation", PATHS)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_usage_of_each_api(operation: str, is_stream: bool, size: int) -> None:
    body = {"model": "m", "stream": is_stream, "stream_options": {"include_usage": True}}
    reply = reply_to(PATHS[operation], json.dumps(body).encode())
    whole = reply if isinstance(reply, bytes) else b"".join(reply)
    ends = KeptEnds()
    for start in range(0, len(whole), size):
        ends.add(whole[start : start + size])
    assert read_usage(ends) == Usage(12, 7, 4)
    assert response_model(ends) == "m"


def test_a_long_answer_is_not_kept_and_its_usage_is_read() -> None:
    ends = KeptEnds()
    ends.add(b'{"model": "m", "choices": [{"message": {"content": "')
    for _ in range(1000):
        ends.add(b'\\"usage\\": {} ' * 1000)
    ends.add(b'"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}')
    assert read_usage(ends) == Usage(3, 4, None)
    assert len(ends.head) + len(ends.tail) < 200_000


def stream_of(operation: Operation, text: str) -> list[bytes]:
    """A whole stream that says ``text`` word by word."""
    if operation == "chat":
        return chat_events(text, with_usage=False)
    build, at = (responses_events, 3) if operation == "responses" else (messages_events, 3)
    events = build(text)
    words = re.findall(r"\S*\s*", text)
    deltas = {word: build(word)[at] for word in set(words)}
    return [*events[:at], *(deltas[word] for word in words if word), *events[at + 1 :]]


# Cuts of 7 bytes meet every place of an event in a short stream, too.
CUTS = [(n_words, size) for n_words in (1, 300, 1500, 5000) for size in (None, 7, 1000) if (n_words, size) != (5000, 7)]


@pytest.mark.parametrize("operation", PATHS)
@pytest.mark.parametrize(("n_words", "size"), CUTS)
@pytest.mark.parametrize("n_left", [0, 1, 2])
def test_tokens_of_a_stream_that_reports_none(operation: Operation, n_words: int, n_left: int, size: int | None) -> None:
    """Would break if the last bytes stood for all, which repeat the text in one API, or if a cut within an event counted.

    Also for a client that leaves before the last events.
    """
    text = AnswerText(operation, is_events=True)
    events = stream_of(operation, 'a \u4e00 "word"\n \U0001f600 ' * n_words)
    whole = b"".join(events[: len(events) - n_left])
    for at in range(0, len(whole), size or len(whole)):
        text.add(whole[at : at + (size or len(whole))])
    assert text.tokens == 19 * n_words // 3


@pytest.mark.parametrize("operation", PATHS)
@pytest.mark.parametrize("word", ["a word or two ", "\u6587\u5b57\u6570\u5b57 "])
@pytest.mark.parametrize("size", [None, 7])
def test_tokens_of_an_answer_in_one_piece_that_reports_none(operation: Operation, word: str, size: int | None) -> None:
    """An escape counts as the bytes of its character."""
    whole = {"chat": chat_reply, "responses": responses_reply, "messages": messages_reply}[operation](word * 5000)
    text = AnswerText(operation, is_events=False)
    for at in range(0, len(whole), size or len(whole)):
        text.add(whole[at : at + (size or len(whole))])
    assert 1 <= text.tokens / (len(word.encode()) * 5000 / 3) < 1.02


def test_a_text_that_is_cut_off_ends_with_its_line() -> None:
    text = AnswerText("responses", is_events=True)
    text.add(b'data: {"delta": "abc\\u00')
    text.add(b'\n\ndata: {"x": "' + b"y" * 300 + b'", "delta": "def"}\n\n')
    assert text.tokens == 3


def test_counting_a_text_keeps_few_bytes() -> None:
    text = AnswerText("chat", is_events=True)
    text.add(b'data: {"content": "')
    for _ in range(100):
        text.add(b"x" * 3000)
        text.add(b'", "y": "' + b"z" * 30000 + b'", "content": "')
    assert text.tokens == 100_000
    assert len(text._held) <= 40


@pytest.mark.parametrize(
    "tail",
    [
        b'"usage"',
        b'"usage": {"prompt_tokens": ',
        b'"usage": null',
        b'"usage": {"prompt_tokens": "7", "completion_tokens": -1}',
        b"",
    ],
)
def test_usage_that_is_none(tail: bytes) -> None:
    ends = KeptEnds()
    ends.add(tail)
    assert read_usage(ends) == Usage()


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b'data: {"choices": []}\n\ndata: {"error": {"message": "x"}}\n\n', True),
        (b'event: error\ndata: {"type": "error", "error": {"message": "x"}}\n\n', True),
        (b'data: {"error": {"message": "x"}}\n\ndata: {"choices": [1]}\n\n', False),
        (b'data: {"type": "response.failed", "response": {"error": {"message": "x"}}}\n\n', True),
        (b"data: [DONE]\n\n", False),
        (b"", False),
    ],
)
def test_last_event_is_an_error(tail: bytes, expected: bool) -> None:
    assert ends_in_error(tail) is expected
