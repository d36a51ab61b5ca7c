"""Keys of ours that an upstream quotes are blanked out, in its errors and where an error may be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

from archroute_edge.gateway._usage import read_error_event

_REDACTED: Final = b"[redacted]"
_BORDER: Final = re.compile(rb"(\n\n|\r\n\r\n|\r\r)")


def redacted(text: bytes, secrets: Sequence[bytes]) -> bytes:
    """``text`` without keys of ours; keys that overlap become one mark.

    Args:
        text: an error.
        secrets: the keys.
    """
    return _redacted(text, len(text), secrets)[0]


def _redacted(text: bytes, end: int, secrets: Sequence[bytes], n_marked: int = 0) -> tuple[bytes, int]:
    """``text`` up to ``end`` without keys, and how many of the bytes behind that the last mark stands for.

    Args:
        text: reaches beyond ``end`` as far as a key may that begins before it.
        end: where it is cut.
        secrets: the keys.
        n_marked: the same of the text before: for so many bytes there is a mark already.
    """
    parts, at, over = [], 0, 0
    for start, stop in _spans(text, secrets, n_marked):
        is_marked = n_marked > 0 and start == 0
        if start >= end and not is_marked:
            break
        parts += [text[at:start], b"" if is_marked else _REDACTED]
        at, over = min(stop, end), max(0, stop - end)
    return b"".join([*parts, text[at:end]]), over


def _spans(text: bytes, secrets: Sequence[bytes], n_marked: int) -> list[tuple[int, int]]:
    """Where keys are, in order; those that overlap each other, or what has its mark, are one span."""
    found = [(0, n_marked)] if n_marked else []
    for secret in secrets:
        found += _places(text, secret)
    spans: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
        else:
            spans.append((start, stop))
    return spans


def _places(text: bytes, secret: bytes) -> Iterator[tuple[int, int]]:
    """Where a key is; a run in which it overlaps itself counts as one place, so that the work is linear in the text."""
    at, period = text.find(secret), 0
    while at >= 0:
        period = period or len(secret) - _borders(secret)[-1]
        stop = at + len(secret)
        while period < len(secret) and text.startswith(secret[-period:], stop):
            stop += period
        yield at, stop
        at = text.find(secret, stop - len(secret) + 1)


def _borders(secret: bytes) -> list[int]:
    """For each beginning of a key, in order, the length of the longest shorter one that it ends in."""
    found, length = [0], 0
    for each in secret[1:]:
        length = _grown(secret, found, length, each)
        found.append(length)
    return found


def _grown(secret: bytes, borders: Sequence[int], length: int, byte: int) -> int:
    """How much of a key a text ends in after one more byte; it ended in ``length`` bytes of it, not in all."""
    while length and secret[length] != byte:
        length = borders[length - 1]
    return length + (secret[length] == byte)


class RedactedEvents:
    """Blanks out keys of ours in the events of one stream: in errors, and in events that pass in parts.

    Whether those are errors is not known before they are whole. All other events stay as they are.

    Args:
        secrets: the keys.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._held = b""
        """The end of a part, if a key may begin there."""
        self._n_marked = 0
        """How many of its bytes belong to a key whose mark has passed."""
        self._is_cut = False

    def add(self, text: bytes, *, is_cut: bool) -> bytes:
        """What may pass of the stream's next bytes.

        Args:
            text: the bytes.
            is_cut: whether they end within an event.
        """
        was_cut, self._is_cut = self._is_cut, is_cut
        if not (was_cut or is_cut) and not any(secret in text for secret in self._secrets):
            return text
        events = _BORDER.split(self._held + text)
        n_marked, self._held = self._n_marked, b""
        self._n_marked = 0
        for number, event in enumerate(events):
            is_last = is_cut and number == len(events) - 1
            if is_last or (was_cut and number == 0) or read_error_event(event) is not None:
                end = self._end(event) if is_last else len(event)
                passed, over = _redacted(event, end, self._secrets, n_marked if number == 0 else 0)
                events[number] = passed
                if is_last:
                    self._held, self._n_marked = event[end:], over
        return b"".join(events)

    def _end(self, text: bytes) -> int:
        """Where the end of ``text`` begins that may be the beginning of a key."""
        longest = 0
        for secret, borders in self._read_secrets:
            length = 0
            for byte in text[max(0, len(text) - len(secret) + 1) :]:
                length = _grown(secret, borders, length, byte)
            longest = max(longest, length)
        return len(text) - longest

    @cached_property
    def _read_secrets(self) -> list[tuple[bytes, list[int]]]:
        return [(secret, _borders(secret)) for secret in self._secrets]
