"""Counts the text of an answer as it passes, for upstreams that do not report their tokens."""

from __future__ import annotations

import re
from typing import Final

from archroute_edge.record import Operation

# The keys of the new text in each API's events. Responses events repeat it under other keys at the end.
_KEYS: Final[dict[str, re.Pattern[bytes]]] = {
    operation: re.compile(rb'"(?:%b)"\s{0,8}:\s{0,8}"' % names)
    for operation, names in {
        "chat": b"content|reasoning|reasoning_content|refusal|arguments",
        "responses": b"delta",
        "messages": b"text|thinking|partial_json",
    }.items()
}
_LONGEST_KEY: Final = 40
_ESCAPE: Final = rb"\\(?:u([0-9a-fA-F]{4})|[^u])"
_ESCAPES: Final = re.compile(_ESCAPE, re.DOTALL)
# JSON strings hold no bare new lines, so one that is cut off ends there.
_STOPS: Final = re.compile(rb'["\r\n]|' + _ESCAPE, re.DOTALL)
_BEGUN_ESCAPE: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_BYTES_A_TOKEN: Final = 3


class AnswerText:
    """Counts the bytes of an answer's text in UTF-8, however the answer is cut. Keeps some 40 bytes.

    Args:
        operation: the API.
        is_events: whether it is a stream of events. All of an answer in one piece counts, JSON included.
    """

    def __init__(self, operation: Operation, *, is_events: bool) -> None:
        self._keys = _KEYS[operation]
        self._stops = _STOPS if is_events else _ESCAPES
        self._is_text = not is_events
        self._held = b""
        """The end of the last piece, where a key or an escape may begin."""
        self._n_bytes = 0

    @property
    def tokens(self) -> int:
        """About how many tokens have come: a token is three bytes of text, whatever the language."""
        return self._n_bytes // _BYTES_A_TOKEN

    def add(self, piece: bytes) -> None:
        """Count the next bytes."""
        piece, at = self._held + piece, 0
        while True:
            if not self._is_text:
                found = self._keys.search(piece, at)
                if found is None:
                    break
                at = found.end()
            end = self._count(piece, at)
            self._is_text = end is None
            if end is None:
                return
            at = end
        self._held = piece[max(at, len(piece) - _LONGEST_KEY) :]

    def _count(self, piece: bytes, at: int) -> int | None:
        """Count a text that goes on at ``at``, and give its end; None if it goes on in the next piece."""
        for stop in self._stops.finditer(piece, at):
            self._n_bytes += stop.start() - at
            at = stop.end()
            if not stop[0].startswith(b"\\"):
                return at
            self._n_bytes += 1 if stop[1] is None else _n_bytes_of(int(stop[1], 16))
        begun = _BEGUN_ESCAPE.search(piece, max(at, len(piece) - 5))
        end = len(piece) if begun is None else begun.start()
        self._n_bytes += end - at
        self._held = piece[end:]
        return None


def _n_bytes_of(unit: int) -> int:
    """The bytes in UTF-8 of one unit of UTF-16; a pair has four."""
    if unit < 0x80:
        return 1
    return 2 if unit < 0x800 or 0xD800 <= unit < 0xE000 else 3
