"""Bytes on their way: borders of events, and what the ends say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archroute_edge.gateway._redaction import RedactedEvents
from archroute_edge.gateway._stream import EventBorders, FirstEvent, KeptEnds
from archroute_edge.gateway._usage import ends_in_error, estimate_answer, read_usage, response_model
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


@pytest.mark.parametrize("operation", PATHS)
@pytest.mark.parametrize("is_events", [False, True])
def test_tokens_of_an_answer_that_reports_none(operation: Operation, is_events: bool) -> None:
    """Would break if all that stands around the words of a stream were counted, or nothing."""
    text = "a word or two " * 5000
    if is_events:
        chunks = {
            "chat": chat_events(text),
            "responses": [responses_events(f"{each} ")[3] for each in text.split()],
            "messages": messages_events(text),
        }[operation]
    else:
        chunks = [{"chat": chat_reply, "responses": responses_reply, "messages": messages_reply}[operation](text)]
    ends = KeptEnds()
    for chunk in chunks:
        ends.add(chunk)
    assert 0.9 < estimate_answer(operation, ends, is_events=is_events) / (14 * 5000 / 3) < 1.3


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
