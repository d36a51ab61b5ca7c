"""Claims: one process at a time, and nothing that waits for ever."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from archroute_edge.label import Claims
from archroute_edge.label._claims import ClaimLostError, claim_path
from tests.label.conftest import die_with, names


def make_foreign(path: Path) -> None:
    """Turn a claim into one of a machine that this one cannot look at."""
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "host": "elsewhere"}))


def test_one_has_it_until_it_is_given_back(tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    claim = Claims().take(output)
    assert claim is not None
    with claim:
        assert Claims().take(output) is None
        assert Claims().take(tmp_path / "b.jsonl") is not None
    assert names(tmp_path) == {".b.jsonl.claim-1"}


def test_many_who_come_at_once(tmp_path: Path) -> None:
    """Of a free output, and of one whose process has ended."""
    output = tmp_path / "a.jsonl"
    for number in (1, 2, 3):
        barrier = threading.Barrier(8)

        def take(_: int, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return Claims().take(output) is not None

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, range(8))) == 1
        path = claim_path(output, number)
        # Of this machine, and no process any more.
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "started": 1.0}))


def test_of_a_process_of_this_machine_that_has_ended_it_is_taken_over_at_once(tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    die_with(output)
    token = json.loads(claim_path(output, 1).read_bytes())["token"]
    left = tmp_path / f".a.jsonl.{token}.partial"
    left.write_text("half")
    claim = Claims(3600).take(output)
    assert claim is not None
    with claim, claim.written() as partial:
        partial.write_text("whole")
    assert output.read_text() == "whole"
    assert names(tmp_path) == {"a.jsonl"}


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"process": 1', b'{"pid": 3}'])
def test_of_another_machine_it_is_taken_over_if_it_stays_untouched(tmp_path: Path, content: bytes | None) -> None:
    """So is one whose process ended before it had written who it is."""
    output = tmp_path / "a.jsonl"
    die_with(output)
    if content is None:
        make_foreign(claim_path(output, 1))
    else:
        claim_path(output, 1).write_bytes(content)
    claims = Claims(0.2)
    assert claims.take(output) is None
    # Whatever the clock of the other machine says.
    os.utime(claim_path(output, 1), (1.0, 1.0))
    assert claims.take(output) is None
    time.sleep(0.3)
    assert claims.take(output) is not None
    assert {".a.jsonl.claim-1", ".a.jsonl.claim-2"} == names(tmp_path)


def test_a_process_at_work_touches_its_claim(tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    claim = Claims(0.3).take(output)
    assert claim is not None
    path = claim_path(output, 1)
    make_foreign(path)
    first = path.stat().st_mtime_ns
    with claim:
        until = time.monotonic() + 60
        while path.stat().st_mtime_ns == first:
            assert time.monotonic() < until
            time.sleep(0.01)
        claim.check()


def test_a_process_that_was_held_up_drops_what_it_has(tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    claim = Claims(3600).take(output)
    assert claim is not None
    make_foreign(claim_path(output, 1))
    others = Claims(0.0)
    assert others.take(output) is None
    time.sleep(0.01)
    with claim:
        with pytest.raises(ClaimLostError), claim.written() as partial:
            partial.write_text("of the first")
            taken = others.take(output)
            assert taken is not None
            assert not partial.exists()
            with taken, taken.written() as own:
                own.write_text("of the second")
        assert output.read_text() == "of the second"
    assert names(tmp_path) == {"a.jsonl"}


def test_what_is_written_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    claim = Claims().take(output)
    assert claim is not None
    with pytest.raises(KeyboardInterrupt), claim, claim.written() as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == set()
