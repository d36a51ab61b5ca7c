"""Decision time beside llama-cpp-python's own completion, and beside llama-bench: one run, interleaved, medians.

    python -m tools.measure.random_model --vocabulary qwen2-vocab.gguf -o random-1.5B-Q4_0.gguf
    python -m tools.measure.speed random-1.5B-Q4_0.gguf [--llama-bench PATH]

Random weights never agree with a guess, so both sides are held to the eight tokens that a trained model's answer takes:
llama-cpp-python by a grammar of token literals, ours by adding to those tokens' logits. Everything else is what a user
runs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import llama_cpp
from llama_cpp.llama_grammar import LlamaGrammar

from archroute_edge import Route, Router, RouteTable, load_config
from archroute_edge.conversation import Turn
from archroute_edge.deciders.generative import GenerativeDecider
from archroute_edge.engine.backend import initialise, physical_cores
from archroute_edge.engine.completion import CompletionEngine
from archroute_edge.engine.interface import BatchToken, Logits
from archroute_edge.prompt import PromptBuilder

EXAMPLE_ROUTES = Path(__file__).parents[2] / "archroute_edge" / "data" / "example_routes.yaml"
ROUTE = "bug_fixing"
ANSWER = f'{{"route": "{ROUTE}"}}'

_SUBJECTS = ("parser", "login page", "csv import", "unit test", "data loader", "web socket", "build script", "cache layer")
_FAULTS = ("raises a KeyError", "hangs on start", "returns None", "leaks memory", "ignores the last line", "crashes on exit")


def fresh_messages() -> Iterator[str]:
    """One-turn messages, about 20 tokens each, all different."""
    for number, (subject, fault) in enumerate(itertools.product(_SUBJECTS, _FAULTS)):
        yield f"my {subject} {fault} since version {number}, can you tell me what is wrong with it?"


@contextlib.contextmanager
def agreeing(answer: Sequence[int]) -> Iterator[Callable[[int], None]]:
    """Make every engine prefer the tokens of ``answer``; yields a function to say how long the next prompt is."""
    length = [0]
    original = CompletionEngine.evaluate

    def evaluate(self: CompletionEngine, batch: Sequence[BatchToken]) -> Logits:
        rows = original(self, batch)
        positions = [entry.position - length[0] + 1 for entry in batch if entry.wants_logits]
        for row, index in zip(rows, positions, strict=True):
            if 0 <= index < len(answer):
                row[answer[index]] += 1e4
        return rows

    CompletionEngine.evaluate = evaluate  # type: ignore[method-assign]
    try:
        yield lambda n_prompt: length.__setitem__(0, n_prompt)
    finally:
        CompletionEngine.evaluate = original  # type: ignore[method-assign]


def token_literal_grammar(tokens: Sequence[int]) -> str:
    """GBNF that allows exactly these token ids."""
    return "root ::= " + " ".join(f"<[{token}]>" for token in tokens)


class Runner:
    """Our router and its measurements."""

    def __init__(self, model: Path, **settings: Any) -> None:
        self.config = load_config(EXAMPLE_ROUTES)
        self.router = Router(config=self.config, model=model, prompt_format="card", prefix_cache=False, **settings)
        decider = self.router._decider
        assert isinstance(decider, GenerativeDecider)
        self.decider = decider
        self.builder: PromptBuilder = decider.prompt
        self.answer = decider.model.vocabulary.tokenize(ANSWER)

    def prompt(self, message: str, table: RouteTable | None = None) -> list[int]:
        return self.builder.tokens(table or self.config.table, [Turn("user", message)])

    def decide(self, message: str, table: RouteTable | None = None) -> tuple[float, Any]:
        """Seconds for one warm decision, and the decision."""
        n_prompt = len(self.prompt(message, table))
        with agreeing(self.answer) as announce:
            announce(n_prompt)
            started = time.perf_counter()
            decision = self.router.route(message, routes=table)
            return time.perf_counter() - started, decision


def compare_with_completion(model: Path, rounds: int, n_threads: int) -> dict[str, Any]:
    """Warm first turns: ours against ``Llama.create_completion`` over the same prompts, interleaved."""
    runner = Runner(model, threads=n_threads)
    runner.router.warm()
    initialise()
    peer = llama_cpp.Llama(
        str(model), n_ctx=4096, n_threads=n_threads, n_threads_batch=n_threads, n_batch=512, verbose=False, logits_all=False
    )
    initialise.cache_clear()
    initialise()  # Llama() sets a log callback of its own
    grammar_text = token_literal_grammar(runner.answer)
    ours, theirs, counts = [], [], []
    for index, message in enumerate(itertools.islice(fresh_messages(), rounds + 1)):
        seconds, decision = runner.decide(message)
        grammar = LlamaGrammar.from_string(grammar_text, verbose=False)
        prompt = runner.prompt(message)
        started = time.perf_counter()
        answer: Any = peer.create_completion(prompt, max_tokens=len(runner.answer), temperature=0.0, grammar=grammar)
        peer_seconds = time.perf_counter() - started
        if answer["choices"][0]["text"] != ANSWER or decision.route != ROUTE:
            raise SystemExit(f"not held to the answer: {answer['choices'][0]['text']!r}, {decision.route!r}")
        if index:  # the first of each is the peer's cold start
            ours.append(seconds)
            theirs.append(peer_seconds)
            tokens = decision.tokens
            counts.append(
                (tokens.evaluations, tokens.evaluated == tokens.prompt - tokens.reused + tokens.answer, tokens.reused)
            )
        progress(f"completion {index}/{rounds}")
    runner.router.close()
    peer.close()
    return {
        "ours_median_s": statistics.median(ours),
        "completion_median_s": statistics.median(theirs),
        "ratio_of_medians": statistics.median(ours) / statistics.median(theirs),
        "evaluations": sorted({count[0] for count in counts}),
        "only_new_tokens": all(count[1] for count in counts),
        "reused": sorted({count[2] for count in counts}),
    }


def table_of(n_routes: int) -> RouteTable:
    """``n_routes`` routes with descriptions of ordinary length, bug_fixing the first."""
    routes = [Route(ROUTE, "Identifying and fixing errors or bugs in the provided code across different programming languages")]
    for number in range(1, n_routes):
        subject, fault = _SUBJECTS[number % 8], _FAULTS[number % 6]
        routes.append(Route(f"topic_{number}", f"Requests about a {subject} of kind {number} that {fault} in some way"))
    return RouteTable(routes)


def compare_with_bench(model: Path, bench: Path, rounds: int, n_threads: int, n_routes: int) -> dict[str, Any]:
    """Warm decisions over ``n_routes`` routes against llama-bench's prefill of as many tokens at that depth."""
    runner = Runner(model, threads=n_threads)
    table = table_of(n_routes)
    runner.router.warm(routes=table)
    seconds, depth, evaluated = [], 0, 0
    for index, message in enumerate(itertools.islice(fresh_messages(), rounds + 1)):
        elapsed, decision = runner.decide(message, table)
        depth, evaluated = decision.tokens.reused, decision.tokens.evaluated
        if index:
            seconds.append(elapsed)
        progress(f"{n_routes} routes {index}/{rounds}")
    flash = runner.decider._open_engine().settings.flash_attention
    runner.router.close()
    found = {}
    for attention in (0, 1):
        command = [str(bench), "-m", str(model), "-p", str(evaluated), "-n", "0", "-d", str(depth), "-t", str(n_threads)]
        done = subprocess.run(
            [*command, "-r", str(rounds), "-fa", str(attention), "-o", "json"], capture_output=True, text=True, check=True
        )
        (row,) = json.loads(done.stdout)
        found[attention] = statistics.median(row["samples_ns"]) / 1e9
    median = statistics.median(seconds)
    return {
        "routes": n_routes,
        "depth": depth,
        "evaluated": evaluated,
        "flash_attention": flash,
        "ours_median_s": median,
        "llama_bench_median_s": {"no flash attention": found[0], "flash attention": found[1]},
        "ratio_to_same_attention": median / found[int(flash)],
        "ratio_to_better": median / min(found.values()),
    }


def compare_with_residents(model: Path, rounds: int, n_threads: int, n_cells: int) -> dict[str, Any]:
    """Decisions with ``n_cells`` cells of other conversations in the cache, against decisions alone, interleaved."""
    alone, crowded = (Runner(model, threads=n_threads, n_ctx=8192) for _ in range(2))
    words = "please look at the second part of this text and say what you think about it " * 12
    resident = 0
    for number in range(16):
        if resident >= n_cells:
            break
        resident += crowded.router.warm(f"conversation {number}: {words}").evaluated
    times: dict[str, list[float]] = {"alone": [], "crowded": []}
    for index, message in enumerate(itertools.islice(fresh_messages(), rounds + 1)):
        for name, runner in (("alone", alone), ("crowded", crowded)):
            elapsed, _ = runner.decide(message)
            if index:
                times[name].append(elapsed)
        progress(f"{resident} resident cells {index}/{rounds}")
    alone.router.close()
    crowded.router.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "resident_cells": resident,
        "alone_median_s": medians["alone"],
        "crowded_median_s": medians["crowded"],
        "ratio_of_medians": medians["crowded"] / medians["alone"],
    }


def progress(text: str) -> None:
    print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=9, show_default=True, help="Fresh messages a comparison.")
@click.option("--threads", default=None, type=int, help="Threads for every side.  [default: physical cores]")
@click.option("--llama-bench", type=click.Path(exists=True, path_type=Path), help="llama-bench of the same llama.cpp.")
@click.option("--cells", default=3000, show_default=True, help="Cells of other conversations.")
def main(model: Path, rounds: int, threads: int | None, llama_bench: Path | None, cells: int) -> None:
    """Measure decision times and print them as JSON."""
    n_threads = threads or physical_cores()
    report: dict[str, Any] = {"model": model.name, "threads": n_threads, "rounds": rounds}
    report["completion"] = compare_with_completion(model, rounds, n_threads)
    report["residents"] = compare_with_residents(model, rounds, n_threads, cells)
    if llama_bench:
        report["bench"] = [compare_with_bench(model, llama_bench, rounds, n_threads, n) for n in (5, 200)]
    print(file=sys.stderr)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
