from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from archroute_edge.gateway import Gateway, Health, past_tries
from archroute_edge.record import Entry, Recorder, Try, open_record
from tests.gateway.conftest import Kept, ask, configure, request, run
from tests.gateway.test_health import BUGS, on_trial
from tests.upstream import Answer, Upstream, garbage, never, plain, resets, status, streamed
from tests.upstream_replies import chat_events, chat_reply

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


@pytest.mark.parametrize("kind", ["aborted", "refused", "overloaded", "shadow", "fallback"])
def test_what_says_nothing_about_a_canary_withdraws_none(health: Health, tmp_path: Path, kind: str) -> None:
    """A client that goes away or asks for something impossible, too much here, a copy, and what another target has failed."""

    def new() -> Entry:
        if kind == "shadow":
            return entry("a/new", "server_error", shadow_of="0" * 32)
        return entry("a/new", "server_error", first="a/last") if kind == "fallback" else entry("a/new", kind)

    fill(health, tmp_path, [each for _ in range(60) for each in (entry("a/old"), new())])
    assert not health.is_withdrawn(BUGS, "a/new")


def error(code: int) -> bytes:
    return json.dumps({"error": {"message": "no", "code": code}}).encode()


@pytest.mark.parametrize(
    "answers",
    [
        [plain(chat_reply())],
        *([status(code)] for code in (400, 404, 409, 415, 422, 429, 431, 500)),
        *([plain(error(code))] for code in (400, 413, 500)),
        *([streamed([b"data: " + error(code) + b"\n\n"])] for code in (422, 529)),
        [streamed(chat_events()[:2], then=resets)],
        [garbage, plain(error(400))],
        [never],
        [status(500), never],
    ],
)
def test_the_record_says_of_targets_what_the_live_server_counted(
    answers: Sequence[Answer], upstream: Upstream, second: Upstream, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a client that sends nonsense, or is impatient, had a canary withdrawn at the next start."""
    config = configure({"p/one": upstream.url, "p/two": second.url}, aliases={"both": ["p/one", "p/two"]})
    counted: list[tuple[str, bool]] = []

    def ended(model: str, ok: bool | None, *_more: object) -> None:
        if ok is not None:
            counted.append((model, ok))

    gateway = Gateway(config, kept)
    monkeypatch.setattr(gateway.health, "ended", ended)
    for each, answer in zip((upstream, second), answers, strict=False):
        each.will(answer)

    async def ask_and_go() -> None:
        asking = asyncio.ensure_future(ask(gateway, request({"model": "both", "stream": True})))
        if never in answers:
            await asyncio.sleep(0)
            while not (upstream, second)[len(answers) - 1].arrivals:
                await asyncio.sleep(0.01)
            asking.cancel()
        await asyncio.wait({asking})

    run(gateway, ask_and_go)
    with closing(Recorder(tmp_path / "requests.sqlite")) as recorder:
        for entry in kept:
            recorder.add(entry)
    with open_record(tmp_path / "requests.sqlite") as record:
        assert [(each.model, each.ok) for each in past_tries(record, config)] == counted
