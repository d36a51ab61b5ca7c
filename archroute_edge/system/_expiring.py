"""Values that clients give names to: bounded in number, in bytes and in time."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ExpiringStore(Generic[Value]):
    """Keys and their values: the least recently used one gives way, and each ends after its time.

    Args:
        most: values at most.
        ttl: seconds from putting a value to its end.
        most_bytes: all of them together.
        size: bytes of a key and its value.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        most: int,
        ttl: float,
        most_bytes: int,
        size: Callable[[str, Value], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl = ttl
        self._most = most
        self._most_bytes = most_bytes
        self._size = size
        self._clock = clock
        self._n_bytes = 0
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def find(self, key: str) -> Value | None:
        """The value that was put last; None if it has ended or given way."""
        found = self._values.get(key)
        if found is None:
            return None
        put, value = found
        if put + self.ttl <= self._clock():
            self.forget(key)
            return None
        self._values.move_to_end(key)
        return value

    def last(self, key: str) -> Value | None:
        """The value whether it has ended or not; None if there was none or it has been forgotten."""
        found = self._values.get(key)
        return None if found is None else found[1]

    def put(self, key: str, value: Value) -> None:
        """Keep a value from now on, in place of an earlier one."""
        self.forget(key)
        self._values[key] = (self._clock(), value)
        self._n_bytes += self._size(key, value)
        while len(self._values) > self._most or self._n_bytes > self._most_bytes:
            self.forget(next(iter(self._values)))

    def forget(self, key: str) -> None:
        """Drop a value, if there is one."""
        found = self._values.pop(key, None)
        if found is not None:
            self._n_bytes -= self._size(key, found[1])

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return iter([(key, value) for key, (_, value) in self._values.items()])

    def __len__(self) -> int:
        return len(self._values)


def bytes_in_memory(texts: Iterable[str | None]) -> int:
    """What texts take in memory, where one emoji makes every letter of its text four bytes long."""
    return sum(sys.getsizeof(text) for text in texts)
