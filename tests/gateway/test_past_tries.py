from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from archroute_edge.gateway import Health, past_tries
from archroute_edge.record import Entry, Recorder, Try, open_record
from tests.gateway.test_health import BUGS, on_trial

NUMBERS = count()


def entry(model: str, error: str | None = None, *, first: str | None = None, shadow_of: str | None = None) -> Entry:
    tries = [Try(each, "a", 500, "server_error", None, 1.0) for each in ([] if first is None else [first])]
    tries.append(Try(model, "a", 400 if error == "refused" else 200, error, None if error else 70.0, 80.0))
    number = next(NUMBERS)
    return Entry(
        id=f"{number:032x}",
        time=1000.0 + number,
        operation="chat",
        outcome="completed" if error is None else "aborted" if error == "aborted" else "failed",
        status=200,
        asked_model="auto",
        route="bugs",
        model=model,
        tries=tuple(tries),
        shadow_of=shadow_of,
    )


@pytest.fixture
def health() -> Iterator[Health]:
    yield Health(on_trial(40))


def fill(health: Health, folder: Path, entries: list[Entry]) -> None:
    with closing(Recorder(folder / "requests.sqlite")) as recorder:
        for each in entries:
            recorder.add(each)
    with open_record(folder / "requests.sqlite") as record:
        health.fill(past_tries(record, on_trial(40)), now=entries[-1].time)


def test_a_canary_that_failed_stays_withdrawn_at_the_next_start(health: Health, tmp_path: Path) -> None:
    fill(health, tmp_path, [each for _ in range(40) for each in (entry("a/old"), entry("a/new", "server_error"))])
    assert health.is_withdrawn(BUGS, "a/new")
    assert health.latency_ms("a/old") == 70.0
    assert health.latency_ms("a/new") is None


@pytest.mark.parametrize("kind", ["aborted", "refused", "shadow", "fallback"])
def test_what_says_nothing_about_a_canary_withdraws_none(health: Health, tmp_path: Path, kind: str) -> None:
    """A client that goes away or asks for something impossible, a copy, and what another target has failed."""

    def new() -> Entry:
        if kind == "shadow":
            return entry("a/new", "server_error", shadow_of="0" * 32)
        return entry("a/new", "server_error", first="a/last") if kind == "fallback" else entry("a/new", kind)

    fill(health, tmp_path, [each for _ in range(60) for each in (entry("a/old"), new())])
    assert not health.is_withdrawn(BUGS, "a/new")
