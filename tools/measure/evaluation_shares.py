"""Where the time of a decision goes: matrix products, attention, logits, the rest of the graph, and what is not the model.

    python -m tools.measure.evaluation_shares MODEL [--engine llama.cpp,ik] [--routes 5,200]

Decides fresh messages on made-up routes, whose static prefix is in the KV cache, while the library calls back after each node
of the graph. Prints a line of JSON for each engine and number of routes: the median milliseconds of a decision, and the share
of each part. The call after each node stops operations from running into one another, so the whole takes a little longer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import llama_cpp
import numpy as np

from archroute_edge import Router
from archroute_edge.conversation import Turn
from archroute_edge.deciders import GenerativeDecider
from archroute_edge.engine import EngineName, physical_cores
from archroute_edge.engine._ggml import _library_with
from archroute_edge.engine._ik_binding import binding
from tools.measure.option_types import Numbers
from tools.measure.peers.ours import agreeing, table_of
from tools.measure.peers.question import fresh_messages

_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
_LOGITS: Final = "result_output"
# What attention multiplies is no weight.
_ATTENTION: Final = ("kq", "kqv")
_PRODUCTS: Final = ("MUL_MAT", "FUSED_UP_GATE", "UP_GATE", "MUL_MAT_ID")


class NodeTimes:
    """Adds up the seconds of a graph's nodes by what they are.

    Args:
        library: has ``ggml_get_name`` and ``ggml_op_desc``.
    """

    def __init__(self, library: Any) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._began = 0.0
        self._name, self._operation = library
        self.callback = _CALLBACK(self._on_node)

    def _on_node(self, tensor: int, is_asking: bool, _data: int) -> bool:
        if is_asking:
            self._began = time.perf_counter()
        else:
            self.seconds[self._kind(tensor)] += time.perf_counter() - self._began
        return True

    def _kind(self, tensor: int) -> str:
        name, operation = self._name(tensor).decode(), self._operation(tensor).decode()
        if name == _LOGITS:
            return "logits"
        if operation.startswith("FLASH_ATTN") or name.split("-")[0] in _ATTENTION or operation == "SOFT_MAX":
            return "attention"
        return "matrix products" if operation in _PRODUCTS else "rest of the graph"


def functions_of(engine: EngineName) -> tuple[Callable[[int], bytes], Callable[[int], bytes]]:
    """``ggml_get_name`` and ``ggml_op_desc`` of the library that an engine computes with."""
    found = []
    for name in ("ggml_get_name", "ggml_op_desc"):
        library = binding()._lib if engine == "ik" else _library_with(name)
        # A function object of its own, whose types are nobody else's.
        function = library[name]
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
        found.append(function)
    return found[0], found[1]


@contextlib.contextmanager
def watched(engine: EngineName, times: NodeTimes) -> Iterator[None]:
    """Let ``times`` watch every context that is made in the block."""
    room: Any = binding() if engine == "ik" else llama_cpp
    make, kind = room.llama_init_from_model, type(room.llama_context_default_params().cb_eval)

    def make_watched(model: Any, params: Any) -> Any:
        params.cb_eval = ctypes.cast(times.callback, kind)
        return make(model, params)

    room.llama_init_from_model = make_watched
    try:
        yield
    finally:
        room.llama_init_from_model = make


def measure(model: Path, engine: EngineName, n_routes: int, rounds: int, threads: int) -> dict[str, Any]:
    """The shares of one engine with one number of routes."""
    times = NodeTimes(functions_of(engine))
    whole, parts, tokens = [], [], []
    messages = fresh_messages()
    settings: dict[str, Any] = {"model": model, "engine": engine, "threads": threads, "prefix_cache": False}
    with watched(engine, times), Router(table_of(n_routes), **settings) as router:
        decider = router.decider
        assert isinstance(decider, GenerativeDecider)
        answer = decider.prompt.answers(router.config.table)[0]
        agreed = decider.model.vocabulary.tokenize(answer.text)
        for number in range(rounds + 1):
            message = next(messages)
            n_prompt = len(decider.prompt.tokens(router.config.table, [Turn("user", message)]))
            times.seconds.clear()
            began = time.perf_counter()
            with agreeing(agreed, n_prompt):
                decision = router.route(message)
            seconds = time.perf_counter() - began
            if number:
                whole.append(seconds)
                tokens.append(decision.tokens.evaluated)
                parts.append({**times.seconds, "not the model": seconds - sum(times.seconds.values())})
    kinds = ("matrix products", "attention", "logits", "rest of the graph", "not the model")
    shares = {
        kind: float(np.median([part.get(kind, 0.0) / all_ for part, all_ in zip(parts, whole, strict=True)])) for kind in kinds
    }
    return {
        "engine": engine,
        "routes": n_routes,
        "decision_ms": round(1000 * float(np.median(whole)), 1),
        "tokens": int(np.median(tokens)),
        "shares": {kind: round(share, 4) for kind, share in shares.items()},
    }


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--engine", "engines", default="llama.cpp,ik", show_default=True, help="Engines, with commas between them.")
@click.option(
    "--routes", type=Numbers(1), default="5,200", show_default=True, help="Numbers of routes, with commas between them."
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Measured decisions.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]")
def main(model: Path, engines: str, routes: list[int], rounds: int, threads: int | None) -> None:
    """Measure the shares of a decision of MODEL."""
    for n_routes in routes:
        for engine in engines.split(","):
            name: EngineName = "ik" if engine.strip() == "ik" else "llama.cpp"
            click.echo(json.dumps(measure(model, name, n_routes, rounds, threads or physical_cores())))


if __name__ == "__main__":
    main()
