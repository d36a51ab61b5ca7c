"""The decision bench at the 1.5B shape: each level beside llama-server and llama-cpp-python, deadlines, callers.

    python -m tools.measure.gpu.bench --programs work/build/bin --vocabulary ggml-vocab-qwen2.gguf --models work/models \
        --out bench.json

The file is written anew after each step, so that finished measurements stay if time runs out. Each step has the card's name and
clocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from archroute_edge.system import replaced_when_whole

LEVELS = ("F16", "Q8_0", "Q4_K_M")
_SCENARIOS = ("first-turn", "tables", "second-process", "prefill")
_ENDING_S = 15.0
_CARD = "name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit"


def card() -> dict[str, str] | None:
    """What nvidia-smi says about the first card; None without one."""
    query = ["nvidia-smi", f"--query-gpu={_CARD}", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None
    return dict(zip(_CARD.split(","), (part.strip() for part in said.split(",")), strict=True))


class Report:
    """Steps that print JSON, and the file that collects their output."""

    def __init__(self, path: Path, limit_s: float) -> None:
        self._path = path
        self._limit_s = limit_s
        self._steps: list[dict[str, Any]] = []
        self.is_whole = True

    def step(self, name: str, module: str, arguments: Sequence[str]) -> None:
        """Run a tool of this folder or the one above, and add its output, with the card and the time it took."""
        command = [sys.executable, "-m", f"tools.measure.{module}", *arguments]
        begun = time.monotonic()
        found: dict[str, Any] = {"step": name, "command": " ".join(command[1:]), "card": card()}
        # In a group of its own, so that past its time the servers that it started end with it.
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                printed, _ = process.communicate(timeout=self._limit_s)
                found |= {"status": process.returncode, "result": json.loads(printed)}
            except subprocess.TimeoutExpired:
                _end(process)
                found |= {"status": None, "failure": f"not ready after {self._limit_s:g} s"}
            except ValueError:
                found |= {"status": process.returncode, "failure": f"no JSON: {printed[-500:]!r}"}
            except BaseException:
                _end(process)
                raise
        found["seconds"] = round(time.monotonic() - begun, 1)
        self.is_whole &= "result" in found
        self._steps.append(found)
        with replaced_when_whole(self._path) as partial:
            partial.write_text(json.dumps(self._steps, indent=2) + "\n", encoding="utf-8")
        print(f"{name}: {found['seconds']} s{'' if 'result' in found else ', NO RESULT'}", file=sys.stderr, flush=True)


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it to end, as it ends its servers then; after a while by force, and whatever is left of its group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@click.command()
@click.option("--programs", type=click.Path(exists=True, path_type=Path), required=True, help="llama-server, llama-bench.")
@click.option("--vocabulary", type=click.Path(exists=True, path_type=Path), required=True, help="ggml-vocab-qwen2.gguf.")
@click.option("--models", type=click.Path(path_type=Path), required=True, help="Where models are written, 6 GB.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file of the results.")
@click.option("--level", "levels", multiple=True, default=LEVELS, show_default=True, help="May be repeated.")
@click.option("--layers", type=click.IntRange(min=1), help="Layers, where not the shape's own.")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True, help="Measured rounds a scenario.")
@click.option("--deadline", type=click.FloatRange(0, min_open=True), default=0.02, show_default=True, help="Seconds.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--limit", type=click.FloatRange(0, min_open=True), default=120.0, show_default=True, help="Seconds a step.")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    programs: Path,
    vocabulary: Path,
    models: Path,
    out: Path,
    levels: tuple[str, ...],
    layers: int | None,
    rounds: int,
    deadline: float,
    threads: int | None,
    limit: float,
) -> None:
    """Measure every level; exit with 1 if a step gave no result."""
    # Ended politely, as timeout does it, it ends the step that runs.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    models.mkdir(parents=True, exist_ok=True)
    report = Report(out, limit)
    shape = f"1.5B-{layers}-layers" if layers else "1.5B"
    more = ["--threads", str(threads)] if threads else []
    server = ["--llama-server", str(programs / "llama-server")]
    for level in levels:
        model = models / f"random-{shape}-{level}.gguf"
        if not model.exists():
            making = ["--vocabulary", str(vocabulary), "--level", level, "-o", str(model)]
            making += ["--layers", str(layers)] if layers else []
            subprocess.run([sys.executable, "-m", "tools.measure.random_model", *making], check=True)
        peers = [str(model), *server, "--llama-bench", str(programs / "llama-bench"), "--rounds", str(rounds), "--json", *more]
        for scenario in _SCENARIOS:
            report.step(f"{scenario}, {level}", "peers", [*peers, "--only", scenario])
        report.step(f"callers, {level}", "gpu.callers", [str(model), *server, *more])
        # Messages of 2,000 tokens, so that the deadline falls into an evaluation, which a GPU runs in pieces.
        late = [str(model), "--deadline", str(deadline), "--requests", "8", "--repeat", "50", *more]
        report.step(f"deadlines, {level}", "deadlines", late)
    ctx.exit(0 if report.is_whole else 1)


if __name__ == "__main__":
    main()
