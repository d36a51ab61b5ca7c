"""A model behind llama-server against the same file in this process, on all shipped cases; then the server stopped and killed.

    python -m tools.measure.remote_decisions $(python -m tools.measure.build_llama_tools)/llama-server [--model MODEL.gguf]

Prints JSON; exit code 1 if a route differs though its margin exceeds ``--rounding``, a score differs by more than 0.02, or an
answer comes later than its deadline. The margin is the difference between the two best scores. Both compute attention in the
same way: llama.cpp's two ways differ by more than the rounding of one.
"""

from __future__ import annotations

import json
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from archroute_edge import Decision, Router
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.errors import RemoteError
from archroute_edge.evaluation import Case, shipped_cases
from archroute_edge.system import bundled_folder
from tools.measure.peers.llama_server import LlamaServer

_MOST_DIFFERENCE = 0.02
_DEADLINE_S = 0.5
_SLACK_S = 0.25
_CASES_AFTER = 20


def _margin(decision: Decision) -> float:
    assert decision.scores is not None
    best, second = sorted(decision.scores.values())[-1:-3:-1]
    return best - second


def compare(remote: Router, local: Router, cases: Sequence[Case], rounding: float) -> dict[str, Any]:
    """Both decisions on each case."""
    remote_ms, local_ms, requests = [], [], 0
    differences: list[tuple[float, int, float]] = []
    differ: list[dict[str, Any]] = []
    with ProgressLine() as progress:
        for number, case in enumerate(cases, 1):
            found = remote.route(case.messages, routes=case.table, scores=True)
            own = local.route(case.messages, routes=case.table, scores=True)
            assert found.scores is not None and own.scores is not None
            difference = max(abs(found.scores[name] - own.scores[name]) for name in own.scores)
            differences.append((difference, case.line, _margin(own)))
            if found.route != own.route:
                differ.append({"line": case.line, "remote": found.route, "local": own.route, "margin": _margin(own)})
            remote_ms.append(found.timings.total_ms)
            local_ms.append(own.timings.total_ms)
            requests += found.tokens.evaluations
            progress("deciding", number, len(cases))
    return {
        "cases": len(cases),
        "same_route": len(cases) - len(differ),
        "different": differ,
        "different_beyond_rounding": sum(each["margin"] > rounding for each in differ),
        "largest_difference_of_a_score": max(differences)[0],
        "largest": [{"line": line, "score": score, "margin": margin} for score, line, margin in sorted(differences)[:-6:-1]],
        "median_difference_of_a_score": statistics.median(score for score, _, _ in differences),
        "requests_a_decision": round(requests / len(cases), 2),
        "remote_ms_p50": round(statistics.median(remote_ms), 1),
        "local_ms_p50": round(statistics.median(local_ms), 1),
    }


def outcomes(router: Router, cases: Sequence[Case]) -> dict[str, Any]:
    """What decisions with a deadline come to, on the router's own routes, and the slowest of them."""
    counts: dict[str, int] = {}
    slowest = 0.0
    for case in cases:
        started = time.perf_counter()
        try:
            decision = router.route(case.messages, deadline=_DEADLINE_S)
            outcome = f"decided by {decision.decided_by or 'the default model'}, {decision.reason}"
        except RemoteError as exc:
            outcome = f"error: {str(exc).partition(': ')[2]}"
        slowest = max(slowest, time.perf_counter() - started)
        counts[outcome] = counts.get(outcome, 0) + 1
    return {"outcomes": counts, "slowest_s": round(slowest, 3)}


@click.command()
@click.argument("program", type=click.Path(exists=True, path_type=Path))
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="The GGUF; the bundled tiny unless given.")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the server and of this process."
)
@click.option("--flash-attention/--no-flash-attention", default=False, show_default=True, help="Of both.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first cases.")
@click.option(
    "--rounding", type=click.FloatRange(0), default=0.001, show_default=True, help="The margin up to which a route may differ."
)
def main(program: Path, model: Path | None, threads: int, flash_attention: bool, limit: int | None, rounding: float) -> None:
    """Compare, stop and kill."""
    model = model or bundled_folder() / "tiny-Q8_0.gguf"
    cases = shipped_cases()[:limit]
    few = cases[:_CASES_AFTER]
    options = ["-fa", "on" if flash_attention else "off"]
    with LlamaServer(program, model, threads, options=options) as server:
        address = f"{server.address}?vocabulary={model}&timeout=5"
        with (
            Router(cases[0].table, model=address) as remote,
            Router(cases[0].table, model=f"mini+{address}", switch_over=1.0) as both,
        ):
            settings: dict[str, Any] = {"model": model, "threads": threads, "flash_attention": flash_attention}
            with Router(cases[0].table, prefix_cache=False, **settings) as local:
                result = {"equality": compare(remote, local, cases, rounding)}
            for router in (remote, both):
                router.route("hello")
            server.process.send_signal(signal.SIGSTOP)
            result["stopped"] = {"alone": outcomes(remote, few[:6]), "cascade": outcomes(both, few[:6])}
            server.process.send_signal(signal.SIGCONT)
            server.process.kill()
            server.process.wait()
            result["killed"] = {"alone": outcomes(remote, few), "cascade": outcomes(both, few)}
    print(json.dumps(result, indent=2))
    equality = result["equality"]
    late = max(each["slowest_s"] for phase in ("stopped", "killed") for each in result[phase].values()) > _DEADLINE_S + _SLACK_S
    if equality["different_beyond_rounding"] or equality["largest_difference_of_a_score"] > _MOST_DIFFERENCE or late:
        sys.exit(1)


if __name__ == "__main__":
    main()
