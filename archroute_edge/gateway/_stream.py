"""The bytes of an answer on their way: where events end, and what is kept of them to read the usage, without changing any."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

HEAD: Final = 8 << 10
_TAIL: Final = 64 << 10
_MOST_HELD: Final = 1 << 20
_BORDERS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LONGEST_BORDER: Final = 4
_FIELDS: Final = (b"data", b"event")
_LONGEST_FIELD: Final = 8
_BLANKS: Final = b" \t\r\n"
# How errors in one piece begin, without blanks.
_ERRORS: Final = (b'{"error":{', b'{"error":"', b'{"type":"error"')
_LONGEST_ERROR_START: Final = max(map(len, _ERRORS))


class KeptEnds:
    """The first bytes of an answer and the last ones.

    Args:
        most: bytes in between that are kept as well, from the first on; else memory would grow with the answer.
        also: gets each chunk, too.
    """

    def __init__(self, most: int = HEAD, also: Callable[[bytes], None] | None = None) -> None:
        self._most = most
        self._also = also
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._n_tail = 0

    def add(self, chunk: bytes) -> None:
        """Take note of the next bytes."""
        if self._also is not None:
            self._also(chunk)
        if len(self._head) < self._most:
            self._head += chunk[: self._most - len(self._head)]
        self._tail.append(chunk)
        self._n_tail += len(chunk)
        while self._n_tail - len(self._tail[0]) >= _TAIL:
            self._n_tail -= len(self._tail.popleft())

    @property
    def head(self) -> bytes:
        """The first bytes."""
        return bytes(self._head)

    @property
    def tail(self) -> bytes:
        """The last bytes; they may begin within an event."""
        return b"".join(self._tail)


class EventBorders:
    """Cuts a stream of server-sent events between two of them.

    A client that has half an event when the upstream breaks cannot read the error that follows.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self.is_cut = False
        """Whether what has been passed on ends within an event."""

    def add(self, chunk: bytes) -> bytes:
        """What may be passed on now that ``chunk`` has come: all whole events."""
        # An upstream's chunks are whole events nearly always.
        if not self._held and chunk.endswith((b"\n\n", b"\r\n\r\n")):
            self.is_cut = False
            return chunk
        # What is held has no border in it, but perhaps the beginning of one.
        start = max(0, len(self._held) - _LONGEST_BORDER + 1)
        self._held += chunk
        end = max((found + len(each) for each in _BORDERS if (found := self._held.rfind(each, start)) >= 0), default=0)
        self.is_cut = self.is_cut and not end
        if len(self._held) - end > _MOST_HELD:
            end = len(self._held)
            self.is_cut = True
        whole = bytes(self._held[:end])
        del self._held[:end]
        return whole

    @property
    def is_held(self) -> bool:
        """Whether there is a part of an event."""
        return bool(self._held)

    def flush(self) -> bytes:
        """What is left."""
        held = bytes(self._held)
        self._held.clear()
        self.is_cut = self.is_cut or bool(held)
        return held


class FirstEvent:
    """Looks for the first whole event of a stream; comments are none. Looks at each byte once, however small the pieces."""

    def __init__(self) -> None:
        self._line = b""
        """The beginning of the last line that came."""
        self._after_return = False
        self._has_field = False

    def has_come(self, chunk: bytes) -> bool:
        """Whether it is there with the next bytes."""
        # Between "\r" and "\n" is no line, wherever the upstream cuts.
        text = chunk[1:] if self._after_return and chunk.startswith(b"\n") else chunk
        self._after_return = chunk.endswith(b"\r") if chunk else self._after_return
        lines = (self._line + text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).split(b"\n")
        self._line = lines.pop()[:_LONGEST_FIELD]
        for line in lines:
            if line.startswith(_FIELDS):
                self._has_field = True
            elif not line and self._has_field:
                return True
        return False


class FirstBytes:
    """Looks for the first bytes of an answer in one piece: blanks are none, and what begins as an error has to be whole first.

    Looks at each byte once, however small the pieces.
    """

    def __init__(self) -> None:
        self._start = b""
        """The first bytes without blanks."""

    def has_come(self, chunk: bytes) -> bool:
        """Whether they are there with the next bytes."""
        if len(self._start) < _LONGEST_ERROR_START:
            self._start = (self._start + chunk.translate(None, _BLANKS))[:_LONGEST_ERROR_START]
        return not any(each.startswith(self._start) or self._start.startswith(each) for each in _ERRORS)
