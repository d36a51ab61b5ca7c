"""``archroute label`` at scale: killed on the way and started again, and on a Ray cluster that loses a node.

    python -m tools.measure.labelling kills --rows 100000 --processes 2 --kills 5 --compared 10000
    python -m tools.measure.labelling batches
    python -m tools.measure.labelling ray --rows 6000

Conversations are the shipped cases with a number in the last message. ``kills`` and ``ray`` print what was found as JSON, and
fail if a row was lost, is there twice, or has another label than in a run that nothing disturbed. ``batches`` compares how many
conversations an encoder gets at once. ``ray`` needs the extra of that name. It starts three nodes on this machine and
kills one after the first labels; in a second run it kills the run itself, and starts it again.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.conversation import read_messages
from archroute_edge.evaluation import largest_table, shipped_cases
from archroute_edge.routing import Router

_MODEL: Final = ("--model", "mini", "--json")
_N_NODES: Final = 3
_TOO_SHORT: Final = "the run ended before it could be disturbed; give it more --rows"
# How far two confidences of a row may differ: on Ray it may be evaluated beside other rows, which changes the rounding.
_SAME: Final = 0.02


@click.group()
def main() -> None:
    """See the module."""


@main.command()
@click.option("--rows", "n_rows", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--files", "n_files", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--processes", "n_processes", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--kills", "n_kills", type=click.IntRange(min=0), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of each process.")
@click.option("--compared", "n_compared", type=click.IntRange(min=1), help="Rows of the undisturbed run.  [default: all]")
def kills(n_rows: int, n_files: int, n_processes: int, n_kills: int, threads: int, n_compared: int | None) -> None:
    """Label with several processes; then the same, all of them killed on the way again and again.

    The undisturbed run labels all files, or some by chance: whole ones, since rounding depends on a row's neighbours.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ids = write_conversations(folder / "logs", n_rows, n_files)
        each = ("--threads", str(threads))
        rng = random.Random(0)
        n_undisturbed = n_files if n_compared is None else min(n_files, -(-n_compared * n_files // n_rows))
        (folder / "some").mkdir()
        for path in rng.sample(sorted((folder / "logs").iterdir()), n_undisturbed):
            (folder / "some" / path.name).hardlink_to(path)
        began = time.monotonic()
        for child in [start(folder, "whole", each, source="some") for _ in range(n_processes)]:
            finish(child)
        undisturbed = time.monotonic() - began
        # Of the children that have ended: what a busy machine's clock does not tell.
        spent = os.times().children_user + os.times().children_system
        whole = [*lines_of(folder / "whole")]
        seconds_a_file = undisturbed * n_processes / n_undisturbed
        n_broken_off = 0
        with ProgressLine() as progress:
            for number in range(n_kills):
                children = [start(folder, "killed", each) for _ in range(n_processes)]
                wait_for_files(children, folder / "killed", int((number + rng.random()) * n_files / (n_kills + 1)))
                time.sleep(seconds_a_file / 2 * rng.random())
                if any(child.poll() is not None for child in children):
                    raise click.ClickException(_TOO_SHORT)
                for child in children:
                    child.send_signal(signal.SIGKILL)
                    child.wait()
                n_broken_off += len([*(folder / "killed").glob(".*.partial")])
                progress("killed", number + 1, n_kills)
        left = len([*(folder / "killed").glob("*.jsonl")])
        for child in [start(folder, "killed", each) for _ in range(n_processes)]:
            finish(child)
        check(folder, ids, whole, lines_of(folder / "killed"))
        found = {
            "rows": n_rows,
            "files": n_files,
            "processes": n_processes,
            "threads": threads,
            "kills": n_kills,
            "files_broken_off": n_broken_off,
        }
        rates = {"rows_per_second": round(len(whole) / undisturbed, 1), "rows_per_cpu_second": round(len(whole) / spent, 1)}
        same = {"files_before_the_last_run": left, "lost": 0, "twice": 0, "compared": len(whole)}
        click.echo(json.dumps({**found, **same, "undisturbed": rates}))


@main.command()
@click.option("--rows", "n_rows", type=click.IntRange(min=1), default=192, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def batches(n_rows: int, rounds: int) -> None:
    """Decide on the same conversations 1, 4, 16 and 64 at once, on one thread; medians of rows a second of processor time."""
    conversations = [read_messages(case.messages) for case in itertools.islice(itertools.cycle(shipped_cases()), n_rows)]
    rates: dict[int, list[float]] = {1: [], 4: [], 16: [], 64: []}
    with Router(largest_table(shipped_cases()), model="mini", threads=1) as router:
        for number in range(rounds + 1):
            for size, found in rates.items():
                spent = time.process_time()
                n_tokens = 0
                for start in range(0, n_rows, size):
                    decisions = router.route_many(conversations[start : start + size])
                    n_tokens += sum(decision.tokens.evaluated for decision in decisions)
                # The first round warms up.
                if number:
                    found.append(n_rows / (time.process_time() - spent))
    shown = {size: round(statistics.median(found), 1) for size, found in rates.items()}
    click.echo(json.dumps({"rows": n_rows, "tokens_a_row": round(n_tokens / n_rows, 1), "rows_per_cpu_second": shown}))


@main.command()
@click.option("--rows", "n_rows", type=click.IntRange(min=1), default=6000, show_default=True)
@click.option("--files", "n_files", type=click.IntRange(min=1), default=12, show_default=True)
def ray(n_rows: int, n_files: int) -> None:
    """Label on a cluster, and kill a node, and then the run itself."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ids = write_conversations(folder / "logs", n_rows, n_files)
        finish(start(folder, "whole", ("--threads", "1")))
        whole = [*lines_of(folder / "whole")]
        node = {"num_cpus": 2, "object_store_memory": 100_000_000}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            nodes = [cluster.add_node(**node) for _ in range(_N_NODES - 1)]
            on_ray = ("--threads", "1", "--ray", cluster.address)
            child = start(folder, "node", on_ray)
            wait_for_labels(child, folder / "node")
            cluster.remove_node(nodes[0], allow_graceful=False)
            finish(child)
            check(folder, ids, whole, tables_of(folder / "node"))
            child = start(folder, "run", on_ray)
            n_before = wait_for_labels(child, folder / "run")
            child.send_signal(signal.SIGKILL)
            child.wait()
            resumed = finish(start(folder, "run", on_ray))
            check(folder, ids, whole, tables_of(folder / "run"))
        finally:
            cluster.shutdown()
        found = {"rows": n_rows, "nodes": _N_NODES, "node_killed": True, "run_killed": True, "lost": 0, "twice": 0}
        click.echo(json.dumps({**found, "files_before_the_kill": n_before, "rows_of_the_last_run": resumed["rows"]}))


def write_conversations(folder: Path, n_rows: int, n_files: int) -> list[str]:
    """Files of conversations; their ids."""
    folder.mkdir(parents=True)
    cases = itertools.cycle([[*read_messages(case.messages)] for case in shipped_cases()])
    ids = []
    for number in range(n_files):
        with (folder / f"{number:04}.jsonl").open("w", encoding="utf-8") as file:
            for row in range(number * n_rows // n_files, (number + 1) * n_rows // n_files):
                messages = [{"role": turn.role, "content": turn.content} for turn in next(cases)]
                messages[-1]["content"] += f" ({row})"
                ids.append(str(row))
                file.write(json.dumps({"id": ids[-1], "messages": messages}) + "\n")
    return ids


def start(folder: Path, name: str, more: Sequence[str] = (), source: str = "logs") -> subprocess.Popen[str]:
    """Label the conversations of a folder into another one."""
    # Relative names: on Ray, other processes read and write, in other folders.
    command = [sys.executable, "-m", "archroute_edge.cli", "label", source, "-o", name, *_MODEL, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder)


def finish(child: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary of a run, when it is there."""
    out, _ = child.communicate()
    if child.returncode:
        raise click.ClickException(f"archroute label ended with {child.returncode}: {out}")
    found: dict[str, Any] = json.loads(out)
    return found


def wait_for_files(children: Sequence[subprocess.Popen[str]], folder: Path, n_files: int) -> None:
    """Wait until so many files are labelled, and a further one is begun."""
    while len([*folder.glob("*.jsonl")]) < n_files or not [*folder.glob(".*.partial")]:
        if any(child.poll() is not None for child in children):
            raise click.ClickException(_TOO_SHORT)
        time.sleep(0.02)


def wait_for_labels(child: subprocess.Popen[str], folder: Path) -> int:
    """Wait until a run on Ray has written labels; how many files of them."""
    while child.poll() is None:
        if n_files := len([*folder.glob("*.parquet")]):
            return n_files
        time.sleep(0.05)
    raise click.ClickException(_TOO_SHORT)


def lines_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Labels in JSON lines."""
    for path in sorted(folder.glob("*.jsonl")):
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def tables_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Labels in Parquet."""
    import pyarrow.parquet as pq

    for path in folder.glob("*.parquet"):
        yield from pq.read_table(path).to_pylist()


def check(folder: Path, ids: Sequence[str], whole: Iterable[dict[str, Any]], found: Iterable[dict[str, Any]]) -> None:
    """See that each row is there once, and compare labels with those of the run that nothing disturbed."""
    labels = [*found]
    there = [label["id"] for label in labels]
    if sorted(there) != sorted(ids):
        n_twice = len(there) - len({*there})
        raise click.ClickException(f"{folder}: {len({*ids} - {*there})} rows lost, {n_twice} there twice")
    by_id = {label["id"]: label for label in labels}
    for other in whole:
        label = by_id[other["id"]]
        if label["route"] != other["route"] or abs(label["confidence"] - other["confidence"]) > _SAME:
            raise click.ClickException(f"row {label['id']}: {label} is not {other}")


if __name__ == "__main__":
    main()
