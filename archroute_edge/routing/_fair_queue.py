"""A queue whose callers take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """One lane a caller, first in first out; lanes are served in turn. Not thread-safe."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, deque[Item]] = OrderedDict()

    def put(self, caller: Hashable, item: Item) -> None:
        """Let ``item`` wait behind everything else of ``caller``."""
        self._lanes.setdefault(caller, deque()).append(item)

    def put_back(self, caller: Hashable, item: Item) -> None:
        """Let ``item`` wait before everything else of ``caller``, whose turn it is after all others."""
        self._lanes.setdefault(caller, deque()).appendleft(item)
        self._lanes.move_to_end(caller)

    def take(self, wanted: Callable[[Item], bool] = lambda _item: True) -> Item | None:
        """The first item of the caller whose turn it is, of those whose first item is ``wanted``; None where there is none."""
        for caller, lane in self._lanes.items():
            if wanted(lane[0]):
                item = lane.popleft()
                if lane:
                    self._lanes.move_to_end(caller)
                else:
                    del self._lanes[caller]
                return item
        return None

    def remove(self, caller: Hashable, item: Item) -> bool:
        """Take ``item`` out; whether it was there."""
        lane = self._lanes.get(caller, deque())
        if item not in lane:
            return False
        lane.remove(item)
        if not lane:
            del self._lanes[caller]
        return True

    def newest_of_longest(self, caller: Hashable) -> tuple[Hashable, Item] | None:
        """What gives way where there is no room for one more item of ``caller``: the newest item of the longest lane.

        None if no lane would be longer than the caller's own with that item; then it is the caller who has to wait.
        """
        longest = max(self._lanes, key=lambda each: len(self._lanes[each]), default=None)
        if longest is None or len(self._lanes[longest]) <= len(self._lanes.get(caller, ())) + 1:
            return None
        return longest, self._lanes[longest][-1]

    def of(self, caller: Hashable) -> list[Item]:
        """What waits for ``caller``."""
        return list(self._lanes.get(caller, ()))

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[Item]:
        for lane in self._lanes.values():
            yield from lane
