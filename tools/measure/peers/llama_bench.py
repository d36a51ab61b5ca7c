"""llama-bench: how fast llama.cpp itself reads tokens at a depth."""

from __future__ import annotations

import json
from pathlib import Path

from archroute_edge.errors import PeerError
from tools.measure.peers.processes import PeerProcess


class LlamaBench(PeerProcess):
    """A run of llama-bench, under way.

    Args:
        program: the path of llama-bench.
        model: the GGUF.
        threads: threads for evaluation.
        n_tokens: tokens to read at a time.
        depth: tokens that are in the KV cache before them.
        flash_attention: whether it is on.
        repetitions: how often it reads them.
    """

    def __init__(
        self, program: Path, model: Path, threads: int, *, n_tokens: int, depth: int, flash_attention: bool, repetitions: int
    ) -> None:
        command = [str(program), "-m", str(model), "-t", str(threads), "-p", str(n_tokens), "-n", "0", "-d", str(depth)]
        flash = "on" if flash_attention else "off"
        super().__init__("llama-bench", [*command, "-r", str(repetitions), "-fa", flash, "-o", "json"], talks=True)

    def seconds(self) -> list[float]:
        """The time of each repetition, once all are done.

        Raises:
            PeerError: it failed, or printed something that cannot be read.
        """
        assert self.process.stdout is not None
        text = self.process.stdout.read()
        if self.process.wait():
            raise PeerError(self.ending() or "")
        try:
            (row,) = json.loads(text)
            return [int(sample) / 1e9 for sample in row["samples_ns"]]
        except (ValueError, KeyError, TypeError) as exc:
            raise PeerError(f"{self.name} printed no single row of samples: {text[:200]!r}") from exc
