"""Entries for tests, and what is kept of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archroute_edge.errors import RecordError
from archroute_edge.record import Content, Entry, Try, Usage, open_record

NOON = 1_800_000_000.0


def entry(number: int = 1, **fields: Any) -> Entry:
    """A request that came ``number`` minutes after noon and was answered by the second target."""
    told: dict[str, Any] = {
        "id": f"{number:032x}",
        "time": NOON + 60.0 * number,
        "operation": "chat",
        "outcome": "completed",
        "status": 200,
        "asked_model": "auto",
        "route": "bug_fixing",
        "confidence": 0.75,
        "scores": {"bug_fixing": 0.75, "other": 0.25},
        "decided_by": "mini",
        "reason": None,
        "model_reason": "weights",
        "expected_scores": {"openai/one": 0.5, "openai/two": 0.875},
        "model": "openai/two",
        "response_model": "two-2026",
        "tries": (
            Try("openai/one", "openai", 500, "server_error", 12.5, 13.0),
            Try("openai/two", "openai", 200, None, 25.0, 100.0),
        ),
        "streamed": True,
        "decision_ms": 2.0,
        "first_byte_ms": 40.5,
        "total_ms": 115.5,
        "usage": Usage(input=100, output=20, cached=60),
        "cost": 0.0125,
        "default_cost": 0.05,
        "session": "ab" * 16,
        "client": "alice",
        "shadow_of": None,
        "content": Content('{"messages": []}', '{"choices": []}'),
    }
    return Entry(**told | fields)


def kept(file: Path) -> list[Entry]:
    with open_record(file) as found:
        return found.entries()


def seen(file: Path) -> list[Entry]:
    """As :func:`kept`, while a recorder may be making the file."""
    try:
        return kept(file)
    except RecordError:
        return []


def until(met: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
