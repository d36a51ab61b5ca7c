"""The order in which callers are served."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.routing._fair_queue import FairQueue

requests = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 99)), max_size=30)


@given(requests)
def test_nobody_is_served_twice_while_another_waits(items: list[tuple[str, int]]) -> None:
    """Would break if a caller with many requests got more than every n-th turn; and each caller's own keep their order."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for caller, number in items:
        queue.put(caller, (caller, number))
    assert len(queue) == len(items)
    served = []
    while (item := queue.take()) is not None:
        served.append(item)
    for caller in "abcd":
        assert [item for item in served if item[0] == caller] == [item for item in items if item[0] == caller]
    waiting = {caller: sum(item[0] == caller for item in items) for caller in "abcd"}
    for before, after in itertools.pairwise(served):
        waiting[before[0]] -= 1
        if before[0] == after[0]:
            assert not any(count for caller, count in waiting.items() if caller != before[0])


@given(requests, st.data())
def test_taking_putting_back_and_removing_lose_nothing(items: list[tuple[str, int]], data: st.DataObject) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    left = list(items)
    for caller, number in items:
        queue.put(caller, (caller, number))
    for _ in range(len(items)):
        what = data.draw(st.sampled_from(["take", "back", "remove", "wanted"]))
        if what == "remove" and left:
            item = data.draw(st.sampled_from(left))
            assert queue.remove(item[0], item)
            assert not queue.remove(item[0], ("nobody's", -1))
            left.remove(item)
        elif what == "wanted":
            even = queue.take(lambda item: item[1] % 2 == 0)
            if even is not None:
                assert even[1] % 2 == 0
                left.remove(even)
        elif (taken := queue.take()) is not None:
            if what == "back":
                queue.put_back(taken[0], taken)
                assert queue.of(taken[0])[0] == taken
            else:
                left.remove(taken)
        assert sorted(queue) == sorted(left)


@given(requests, st.sampled_from("abcde"))
def test_the_newest_of_whoever_has_most_gives_way(items: list[tuple[str, int]], caller: str) -> None:
    """Would break if a full queue refused a caller with one request, and kept those of one with a hundred."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for owner, number in items:
        queue.put(owner, (owner, number))
    waiting = {owner: [item for item in items if item[0] == owner] for owner in "abcde"}
    most = max(map(len, waiting.values()))
    found = queue.newest_of_longest(caller)
    if most <= len(waiting[caller]) + 1:
        assert found is None
    else:
        assert found is not None
        longest, item = found
        assert longest == item[0]
        assert len(waiting[item[0]]) == most
        assert item == waiting[item[0]][-1]
