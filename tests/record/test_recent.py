"""The last entries and the totals, as the page of the server shows them."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archroute_edge.record import Content, Entry, RecentEntries, Share, Try, Usage

pytestmark = pytest.mark.quick

HOUR = 1_790_000_040.0
"""The beginning of a minute."""


def entry(number: int = 0, **changes: object) -> Entry:
    made = Entry(id=f"{number:032x}", time=HOUR, operation="chat", outcome="completed", status=200, route="bugs", model="m/a")
    return replace(made, **changes)  # type: ignore[arg-type]


ENTRIES = st.lists(
    st.builds(
        Entry,
        id=st.just("0"),
        time=st.just(HOUR),
        operation=st.sampled_from(["route", "chat"]),
        outcome=st.sampled_from(["completed", "failed", "aborted"]),
        status=st.just(200),
        route=st.sampled_from([None, "a", "b", "other"]),
        model=st.sampled_from([None, "m/a", "m/b"]),
        usage=st.builds(Usage, *[st.none() | st.integers(0, 1000)] * 3),
        cost=st.none() | st.integers(0, 64).map(lambda n: n / 64),
        default_cost=st.none() | st.integers(0, 64).map(lambda n: n / 64),
        shadow_of=st.none() | st.just("1"),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(ENTRIES, st.integers(1, 5))
def test_totals_are_of_all_entries_and_not_of_those_kept(entries: list[Entry], most: int) -> None:
    """The page's sums must not shrink when old entries go."""
    recent = RecentEntries(most, clock=lambda: HOUR)
    for each in entries:
        recent.add(each)
    found = recent.look()
    asked = [each for each in entries if each.shadow_of is None]
    priced = [(each.default_cost, each.cost) for each in asked if each.cost is not None and each.default_cost is not None]
    shadow_cost = sum(each.cost or 0 for each in entries if each.shadow_of is not None)
    assert found.number == len(entries)
    assert found.entries == tuple(entries[-most:])
    assert found.totals.requests == len(asked) == sum(minute.requests for minute in found.minutes)
    assert found.totals.failures == sum(each.outcome == "failed" for each in asked) == found.minutes[-1].failures
    assert found.totals.shadows == len(entries) - len(asked)
    assert {share.name: share.requests for share in found.routes} == {
        name: sum(each.route == name for each in asked) for name in {each.route for each in asked} - {None}
    }
    assert sum(share.requests for share in found.models) == sum(each.model is not None for each in asked)
    assert found.totals.input_tokens == sum(each.usage.input or 0 for each in entries)
    assert found.totals.cost == sum(each.cost or 0 for each in entries)
    assert found.totals.priced == len(priced)
    assert found.totals.saved == sum(default - cost for default, cost in priced) - shadow_cost


def test_what_came_after_is_found_by_its_number() -> None:
    recent = RecentEntries(3)
    for number in range(5):
        recent.add(entry(number))
    assert [each.id for each in recent.look(after=4).entries] == [f"{4:032x}"]
    assert [each.id for each in recent.look(after=1).entries] == [f"{number:032x}" for number in (2, 3, 4)]
    assert recent.look(after=5).entries == recent.look(after=99).entries == ()


def test_no_text_is_kept_and_names_are_cut() -> None:
    """Names may come with a request; 200 entries of them must not fill the memory."""
    recent = RecentEntries()
    long = "x" * 5000
    recent.add(
        entry(
            route=long,
            model=long,
            asked_model=long,
            response_model=long,
            scores={long: 1.0},
            content=Content("secret", None),
            tries=(Try(long, "p", 200, None, 1.0, 2.0),),
        )
    )
    shown = repr(recent.look())
    assert "secret" not in shown
    assert "x" * 257 not in shown
    assert "x" * 256 in shown


def test_names_beyond_the_bound_are_counted_together() -> None:
    """Every request may bring routes of its own."""
    recent = RecentEntries(1)
    for number in range(600):
        recent.add(entry(route=f"r{number}"))
    recent.add(entry(route="r0"))
    routes = recent.look().routes
    assert routes[0] == Share("r0", 2)
    assert routes[-1] == Share(None, 600 - 512)
    assert len(routes) == 513


def test_the_last_hour_moves_on() -> None:
    now = [HOUR]
    recent = RecentEntries(clock=lambda: now[0])
    recent.add(entry(outcome="failed"))
    now[0] += 60 * 59
    recent.add(entry(time=now[0]))
    # Two that took long: one that began within the last hour, one before it.
    recent.add(entry())
    recent.add(entry(time=HOUR - 1))
    minutes = recent.look().minutes
    assert [minute.start for minute in minutes] == [int(HOUR) + 60 * number for number in range(60)]
    assert [(minutes[0].requests, minutes[0].failures), (minutes[-1].requests, minutes[-1].failures)] == [(2, 1), (1, 0)]
    now[0] += 60
    assert [minute.requests for minute in recent.look().minutes] == [*[0] * 58, 1, 0]


def test_a_clock_that_is_set_back_leaves_the_chart_right() -> None:
    now = [HOUR]
    recent = RecentEntries(clock=lambda: now[0])
    recent.add(entry())
    now[0] -= 7200
    for _ in range(3):
        recent.add(entry(time=now[0]))
    assert [minute.requests for minute in recent.look().minutes] == [*[0] * 59, 3]


def test_watchers_are_bounded_woken_and_never_fail_a_request() -> None:
    recent = RecentEntries()
    woken: list[int] = []

    def broken() -> None:
        woken.append(-1)
        raise RuntimeError("Event loop is closed")

    def watcher() -> None:
        woken.append(recent.look().number)

    assert recent.watch(broken)
    assert recent.watch(watcher)
    accepted = [recent.watch(lambda: None) for _ in range(20)]
    assert 0 < sum(accepted) < 20
    recent.add(entry())
    recent.add(entry())
    recent.unwatch(watcher)
    recent.add(entry())
    assert woken == [-1, 1, 2]


def test_closing_wakes_watchers_and_lets_no_more_in() -> None:
    recent = RecentEntries()
    woken = threading.Event()
    recent.watch(woken.set)
    recent.close()
    assert woken.is_set()
    assert recent.is_closed
    assert not recent.watch(woken.set)


def test_threads_lose_no_entry() -> None:
    recent = RecentEntries(10)

    def add() -> None:
        for _ in range(500):
            recent.add(entry())

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = recent.look()
    assert found.number == found.totals.requests == found.routes[0].requests == 2000
