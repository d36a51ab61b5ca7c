"""Keys of ours that an upstream quotes are blanked out, in its errors and where an error may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from archroute_edge.gateway._usage import read_error_event

_REDACTED: Final = b"[redacted]"
_BORDER: Final = re.compile(rb"(\n\n|\r\n\r\n|\r\r)")


def redacted(text: bytes, secrets: Sequence[bytes]) -> bytes:
    """``text`` without keys of ours.

    Args:
        text: an error.
        secrets: the keys, longer ones first.
    """
    return _pattern(secrets).sub(_REDACTED, text) if secrets else text


def _pattern(secrets: Sequence[bytes]) -> re.Pattern[bytes]:
    """The first that fits is taken: the longest one that begins at a place."""
    return re.compile(b"|".join(map(re.escape, secrets)))


class RedactedEvents:
    """Blanks out keys of ours in the events of one stream: in errors, and in events that pass in parts.

    Whether those are errors is not known before they are whole. All other events stay as they are.

    Args:
        secrets: the keys, longer ones first.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._held = b""
        """The end of a part, if a key may begin there."""
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
        end = self._end(events[-1]) if is_cut else len(events[-1])
        events[-1], self._held = events[-1][:end], events[-1][end:]
        for number, event in enumerate(events):
            is_part = (was_cut and number == 0) or (is_cut and number == len(events) - 1)
            if is_part or read_error_event(event) is not None:
                events[number] = redacted(event, self._secrets)
        return b"".join(events)

    def _end(self, text: bytes) -> int:
        """Where the end of ``text`` begins that may be the beginning of a key.

        It may hold a whole key, if that is the beginning of a longer one; no key that ends there is cut.
        """
        if not self._secrets:
            return len(text)
        longest = max(map(len, self._secrets)) - 1
        starts = range(max(0, len(text) - longest), len(text))
        end = next((at for at in starts if any(each.startswith(text[at:]) for each in self._secrets)), len(text))
        keys = (found.span() for found in _pattern(self._secrets).finditer(text))
        return next((start for start, stop in keys if start < end < stop), end)
