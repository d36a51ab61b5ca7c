"""The process in which one level is measured: ``python -m archroute_edge.bench._measuring_worker``.

It reads requests from stdin and answers each with a line on stdout, both JSON; it ends when stdin does. What a request
may ask for are the public methods of :class:`Session`; an error of ours is answered as ``{"error": message}``.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from archroute_edge.bench._workload import conversation, message, table_of
from archroute_edge.deciders import EncoderDecider, GenerativeDecider
from archroute_edge.engine import EmbeddingEngine, open_engine, sequence_batch
from archroute_edge.engine import _backend as backend
from archroute_edge.errors import ArchRouteError
from archroute_edge.evaluation import Case, evaluate
from archroute_edge.routes import Route, RouteTable
from archroute_edge.routing import Router
from archroute_edge.system import take_stdout

_PREFILL_TOKENS: Final = 256
_DECODE_STEPS: Final = 16


class Session:
    """One router at a time, and what is measured on it. Times are wall-clock times in milliseconds."""

    def __init__(self) -> None:
        self._router: Router | None = None

    def open(self, model: str, routes: Sequence[Sequence[str]] | int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Load ``model`` in place of an open one, and evaluate the static prefix of ``routes``, or of so many made-up ones."""
        self.close()
        free = _free_device_memory()
        table = table_of(routes) if isinstance(routes, int) else RouteTable(Route(*each) for each in routes)
        begun = time.perf_counter()
        router = Router(table, model=model, **settings)
        load_ms = 1000 * (time.perf_counter() - begun)
        self._router, self._free_before = router, free
        self._threads: int = settings.get("threads") or backend.physical_cores()
        prefix = router.warm()
        return {
            "load_ms": load_ms,
            "prefix_ms": prefix.total_ms,
            "prefix_tokens": prefix.tokens,
            "prefix_evaluated": prefix.evaluated,
            **_running(router.decider, self._threads),
        }

    def close(self) -> dict[str, Any]:
        """Free the router."""
        if self._router is not None:
            self._router.close()
        self._router = None
        return {}

    def first(self, seed: int) -> dict[str, Any]:
        """One decision, and the memory that the process has taken until then."""
        found = self.decide(seed, 1, n_turns=1, primed=False, n_warmup=0)
        return {"decision_ms": found["ms"][0], **_memory(), "device_memory": max(0, self._free_before - _free_device_memory())}

    def decide(self, seed: int, count: int, *, n_turns: int, primed: bool, n_warmup: int = 1) -> dict[str, Any]:
        """Decide at the ``n_turns``-th turn of ``count`` fresh conversations, after ``n_warmup`` that do not count.

        With ``primed`` each is decided one turn before as well (``before_ms``, ``before_evaluated``), as in use.
        """
        router = self._open()
        found: dict[str, list[float]] = defaultdict(list)
        for index in range(n_warmup + count):
            messages = conversation(seed + index, n_turns)
            steps = {"before_": messages[:-2], "": messages} if primed and n_turns > 1 else {"": messages}
            for name, said in steps.items():
                begun = time.perf_counter()
                tokens = router.route(said).tokens
                ms = 1000 * (time.perf_counter() - begun)
                if index >= n_warmup:
                    found[f"{name}ms"].append(ms)
                    found[f"{name}evaluated"].append(tokens.evaluated)
                    found[f"{name}reused"].append(tokens.reused)
        return found

    def rates(self, seed: int) -> dict[str, Any]:
        """Tokens a second of the model alone: a prefill of 256 tokens, and 16 steps of one token behind it.

        An encoder reads a text of 256 tokens, and decodes nothing.
        """
        decider = self._open().decider
        if isinstance(decider, EncoderDecider):
            return _reading_rate(decider, self._threads, seed)
        assert isinstance(decider, GenerativeDecider)
        # Ids of ordinary tokens come first in a vocabulary; which ones they are does not change the work.
        most = min(256, decider.model.vocabulary.n_tokens)
        tokens = [int(token) for token in np.random.default_rng(seed).integers(0, most, _PREFILL_TOKENS)]
        settings = replace(decider.engine_settings, n_ctx=2 * _PREFILL_TOKENS)
        with closing(open_engine(decider.model, settings)) as engine:
            engine.evaluate(sequence_batch(0, tokens[:32], 0, [31]))
            engine.truncate(0, 0)
            begun = time.perf_counter()
            engine.evaluate(sequence_batch(0, tokens, 0, [_PREFILL_TOKENS - 1]))
            prefilled = time.perf_counter()
            for step in range(_DECODE_STEPS):
                engine.evaluate(sequence_batch(0, tokens[step : step + 1], _PREFILL_TOKENS + step, [0]))
            ended = time.perf_counter()
        return {
            "prefill_tokens_per_s": _PREFILL_TOKENS / (prefilled - begun),
            "decode_tokens_per_s": _DECODE_STEPS / (ended - prefilled),
        }

    def callers(self, seed: int, callers: int, count: int) -> dict[str, Any]:
        """Decisions a second when ``callers`` threads decide ``count`` fresh messages on one router."""
        router = self._open()
        messages = [message(seed + index) for index in range(count)]
        with ThreadPoolExecutor(callers) as pool:
            begun = time.perf_counter()
            decided = list(pool.map(router.route, messages))
            seconds = time.perf_counter() - begun
        return {"decisions_per_s": len(decided) / seconds}

    def cases(self, source: str, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Decide labelled cases, in their order; ``source`` says where they are from."""
        # Cases of one table share one object, so that its prefix is looked up once.
        table = functools.cache(lambda routes: RouteTable(Route(*each) for each in routes))
        read = [Case(each["line"], each["messages"], table(tuple(map(tuple, each["routes"]))), each["route"]) for each in cases]
        return {"results": [each.to_dict() for each in evaluate(self._open(), read, source=source)]}

    def _open(self) -> Router:
        assert self._router is not None, "open comes first"
        return self._router


def _running(decider: object, threads: int) -> dict[str, Any]:
    """How a decider runs; what an encoder has none of is None."""
    assert isinstance(decider, (EncoderDecider, GenerativeDecider))  # contenders are single models
    running: dict[str, Any] = {"n_ctx": None, "threads": threads, "flash_attention": None, "kv_type": None}
    if isinstance(decider, GenerativeDecider):
        engine = decider.engine_settings
        running = {"n_ctx": engine.n_ctx, "threads": engine.n_threads}
        running |= {"flash_attention": engine.flash_attention, "kv_type": engine.kv_type}
    return {**running, "gpu_layers": decider.model.n_gpu_layers, "engine": decider.model.engine}


def _reading_rate(decider: EncoderDecider, threads: int, seed: int) -> dict[str, Any]:
    with closing(EmbeddingEngine(decider.model, threads, _PREFILL_TOKENS)) as engine:
        # Messages have more than eight tokens; what is too much is not read.
        text = engine.encode(" ".join(message(seed + index) for index in range(_PREFILL_TOKENS // 8)))
        engine.embed([engine.encode(message(seed))])
        begun = time.perf_counter()
        engine.embed([text])
        seconds = time.perf_counter() - begun
    return {"prefill_tokens_per_s": len(text.tokens) / seconds, "decode_tokens_per_s": None}


def _free_device_memory() -> int:
    """Free bytes of all devices but the CPU; 0 where there is none."""
    if not backend.build().gpu_offload:
        return 0
    return sum(device.memory_free for device in backend.devices() if device.name != "CPU")


def _memory() -> dict[str, Any]:
    """Peak resident memory of this process in bytes, and how much of what it holds now is mapped from no file (Linux)."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage's figure begins with what the parent held when it forked; these are of this program alone.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return {
            "peak_memory": 1024 * int(fields["VmHWM"].split()[0]),
            "memory_beyond_files": 1024 * int(fields["RssAnon"].split()[0]),
        }
    memory = psutil.Process().memory_info()
    return {"peak_memory": getattr(memory, "peak_wset", None) or _peak_by_getrusage(), "memory_beyond_files": None}


def _peak_by_getrusage() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(take_stdout(), "w", encoding="utf-8")
    session = Session()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(session, request.pop("do"))(**request)
        except ArchRouteError as exc:
            answer = {"error": str(exc)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
