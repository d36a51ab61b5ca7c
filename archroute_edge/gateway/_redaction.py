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
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
    return text


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
        for number, event in enumerate(events):
            is_part = (was_cut and number == 0) or (is_cut and number == len(events) - 1)
            if is_part or read_error_event(event) is not None:
                events[number] = redacted(event, self._secrets)
        passed = b"".join(events)
        end = len(passed) - (self._n_begun(passed) if is_cut else 0)
        self._held = passed[end:]
        return passed[:end]

    def _n_begun(self, text: bytes) -> int:
        """The bytes at the end of ``text`` that a key may begin with."""
        longest = max(map(len, self._secrets), default=1) - 1
        ends = (text[-n:] for n in range(min(longest, len(text)), 0, -1))
        return next((len(end) for end in ends if any(secret.startswith(end) for secret in self._secrets)), 0)
