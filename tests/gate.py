"""Evaluations that wait, so that tests decide when a model is busy and do not depend on how fast a machine is."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from archroute_edge.engine import BatchToken, LlamaEngine, Logits

PATIENCE_S = 30.0
"""How long a test waits for what must come; a bound on hanging, and no measure of anything."""


class Gate:
    """While it is closed, evaluations of language models wait at it, as long ones do: until they are stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.arrived = threading.Event()
        """Set when an evaluation waits at the closed gate."""
        evaluate = LlamaEngine._evaluate_piece
        gate = self

        def wait_and_evaluate(engine: LlamaEngine, piece: Sequence[BatchToken]) -> Logits | None:
            while not gate.opened.wait(0.002):
                gate.arrived.set()
                if engine._cancellation.cancelled:
                    return None
            return evaluate(engine, piece)

        monkeypatch.setattr(LlamaEngine, "_evaluate_piece", wait_and_evaluate)

    def close(self) -> None:
        """From now on evaluations wait."""
        self.arrived.clear()
        self.opened.clear()

    def open(self) -> None:
        """Let all evaluations through."""
        self.opened.set()

    def wait_for_arrival(self) -> None:
        """Wait until an evaluation is under way."""
        assert self.arrived.wait(PATIENCE_S)


def our_threads() -> list[str]:
    """Names of the threads that the package has started and not ended."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("archroute")]
