"""``archroute label``: what it says, and what is left of runs that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archroute_edge.label import Summary
from archroute_edge.quality import load_predictor, save_predictor
from archroute_edge.system import bundled_folder
from archroute_edge.targets import BUNDLED_PREDICTOR
from tests.cli.conftest import PROGRAM, Run, one_line
from tests.label.conftest import line, names, read_lines, write_lines

N_ROWS = 15
Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def logs(tmp_path: Path) -> str:
    for number in range(4):
        write_lines(
            tmp_path / "logs" / f"{number}.jsonl", [line(f"fix bug {row}", id=f"{number}-{row}") for row in range(N_ROWS)]
        )
    return str(tmp_path / "logs")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels"


def test_labels_are_files_and_the_summary_is_a_line(
    run: Run, tmp_path: Path, model: tuple[str, ...], routes: str, labels: Path
) -> None:
    path = write_lines(tmp_path / "a.jsonl", [line("fix my code", id=1), "nonsense"])
    command = ("label", str(path), "-o", str(labels), "--config", routes, *model)
    result = run(*command)
    assert result.exit_code == 1
    assert result.stdout.startswith("labelled 2 rows of 1 file in ")
    assert result.stdout.endswith(" rows a second; 1 row with an error\n")
    good, bad = read_lines(labels / "a.jsonl")
    assert (good["row"], good["id"], good["decided_by"]) == (1, 1, "random-F32.gguf")
    assert bad["row"] == 2 and "not JSON" in bad["error"]
    again = run(*command, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["files_before"] == 1
    assert json.loads(again.stdout)["rows"] == 0


def test_another_configuration_needs_another_folder(
    run: Run, tmp_path: Path, model: tuple[str, ...], routes: str, labels: Path
) -> None:
    path = write_lines(tmp_path / "a.jsonl", [line("fix my code")])
    assert run("label", str(path), "-o", str(labels), "--config", routes, *model).exit_code == 0
    said = one_line(run("label", str(path), "-o", str(labels), *model))
    assert "has labels of another run, which differs in routes; choose another folder with -o" in said
    said = one_line(run("label", str(path), "-o", str(labels), "--config", routes, *model, "--budget", "999"))
    assert "which differs in budget;" in said
    # How fast it goes decides about nothing.
    assert run("label", str(path), "-o", str(labels), "--config", routes, *model, "--threads", "2").exit_code == 0


SHARED = """\
default_model: split
model_aliases: {split: {targets: [{model: small/a, weight: 1}, {model: big/b, weight: 1}]}}
routing_preferences:
  - name: questions
    description: questions of any kind
    models: [small/a, big/b]
    selection_policy: {prefer: quality, PREDICTOR, scored_as: {NAMES}, BUDGET}
archroute:
  models: {small/a: {price: {input: 0, output: 0}}, big/b: {price: {input: 3, output: 15}}}
  aliases: {split: {ramp: {model: big/b, from: SHARE, to: 100%, start: "2030-01-01T00:00:00Z", over: 24h}}}
"""


def test_what_shares_traffic_decides_about_labels(run: Run, tmp_path: Path, random_encoder: Path, labels: Path) -> None:
    """Half of the labels would be of five dear calls in a hundred, and half of ninety-five."""
    path = write_lines(tmp_path / "a.jsonl", [line("fix my code")])
    predictor, routes = tmp_path / "predictor.safetensors", tmp_path / "routes.yaml"

    def label(budget: str = "share: 5%", share: str = "5%", names: str = "small/a: small, big/b: frontier") -> int:
        text = SHARED.replace("BUDGET", budget).replace("SHARE", share).replace("PREDICTOR", f"predictor: {predictor}")
        routes.write_text(text.replace("NAMES", names), encoding="utf-8")
        result = run("label", str(path), "-o", str(labels), "--config", str(routes), "--model", str(random_encoder))
        assert result.exit_code == 0 or "which differs in routes" in result.stderr
        return result.exit_code

    predictor.write_bytes((bundled_folder() / BUNDLED_PREDICTOR).read_bytes())
    assert label() == 0
    assert label("share: 95%") == label("rate: 1") == label(share="95%") == 2
    assert label(names="big/b: frontier, small/a: frontier") == 2
    # The order of a mapping says nothing, nor does where the predictor stands, or the line of a route.
    predictor = predictor.rename(tmp_path / "moved.safetensors")
    assert label(names="\n      big/b: frontier, small/a: small") == 0
    save_predictor(load_predictor(predictor), predictor, trained_on="others")
    assert label() == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere", "-o", "x"), "nowhere: no such file or folder"),
        (("nowhere",), "Missing option '--output'"),
        (("-o", "x"), "Missing argument 'INPUTS...'"),
        (("nowhere", "-o", "x", "--takeover", "0"), "0.0 is not in the range"),
        (("nowhere", "-o", "x", "--takeover", "9", "--ray"), "--takeover is about files that machines share without --ray"),
    ],
)
def test_mistakes(run: Run, arguments: tuple[str, ...], said: str) -> None:
    assert said in one_line(run("label", *arguments))


def test_names_of_columns_are_escaped(run: Run, tmp_path: Path, model: tuple[str, ...], labels: Path) -> None:
    """A terminal would obey them."""
    pq.write_table(pa.table({"a\x1b[2J\x85b": [1]}), tmp_path / "a.parquet")
    result = run("label", str(tmp_path / "a.parquet"), "-o", str(labels), *model)
    assert result.exit_code == 1
    assert r"it has a\x1b[2J b: name one with --field" in result.stderr
    assert all(char.isprintable() or char == "\n" for char in result.output)


def test_parquet_without_pyarrow(
    run: Run, tmp_path: Path, model: tuple[str, ...], labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archroute_edge.label._rows.find_spec", lambda name: None)
    path = write_lines(tmp_path / "a.parquet", ["PAR1"])
    said = one_line(run("label", str(path), "-o", str(labels), *model))
    assert said.endswith("a.parquet: Parquet needs pyarrow, which is not installed: pip install 'archroute-edge[parquet]'")


def test_without_ray_the_folder_stays_free(
    run: Run, tmp_path: Path, model: tuple[str, ...], labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archroute_edge.label._ray.find_spec", lambda name: None)
    path = write_lines(tmp_path / "a.jsonl", [line("fix my code")])
    said = one_line(run("label", str(path), "-o", str(labels), "--ray=auto", *model))
    assert said.endswith("--ray needs ray, which is not installed: pip install 'archroute-edge[ray]'")
    assert not labels.exists()


def test_what_ray_prints_is_no_result(
    run: Run, tmp_path: Path, model: tuple[str, ...], labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_ray(*_: object, **__: object) -> Summary:
        sys.stdout.write("(raylet) a node is lost\n")
        return Summary(files=1, rows=1)

    monkeypatch.setattr("archroute_edge.label.need_ray", lambda: None, raising=False)
    monkeypatch.setattr("archroute_edge.label.label_on_ray", on_ray, raising=False)
    path = write_lines(tmp_path / "a.jsonl", [line("fix my code")])
    result = run("label", str(path), "-o", str(labels), "--ray=auto", "--json", *model)
    assert json.loads(result.stdout)["rows"] == 1
    assert "a node is lost" in result.stderr


def all_rows(labels: Path) -> list[str]:
    return [row["id"] for path in sorted(labels.glob("*.jsonl")) for row in read_lines(path)]


EVERY_ROW = [f"{number}-{row}" for number in range(4) for row in range(N_ROWS)]


def test_killed_again_and_again(tried_kernels: None, process: Process, logs: str, routes: str, labels: Path) -> None:
    """No row is lost, and none is there twice, whenever the process is killed."""
    command = ("label", logs, "-o", str(labels), "--config", routes, "--model", "tiny", "--threads", "1")
    for signum in (signal.SIGKILL, signal.SIGTERM):
        started = names(labels) if labels.exists() else set()
        child = subprocess.Popen(
            [*PROGRAM, *command],
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 120
        # In the middle of a file: it has a claim of its own.
        while not (labels.exists() and any(".partial" in name for name in names(labels) - started)):
            assert time.monotonic() < until and child.poll() is None
            time.sleep(0.02)
        child.send_signal(signum)
        child.wait()
        for path in labels.glob("*.jsonl"):
            assert len(read_lines(path)) == N_ROWS
    assert not any(".partial" in name for name in names(labels) - started), "SIGTERM cleans up"
    done = process(*command)
    assert done.returncode == 0, done.stderr
    assert all_rows(labels) == EVERY_ROW
    assert names(labels) == {"_label.json", *(f"{number}.jsonl" for number in range(4))}


def test_two_processes_share_the_files(tried_kernels: None, logs: str, routes: str, labels: Path) -> None:
    command = [*PROGRAM, "label", logs, "-o", str(labels), "--config", routes, "--model", "mini", "--threads", "1", "--json"]
    both = [
        subprocess.Popen(command, env={**os.environ, "GGML_NO_BACKTRACE": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    found = []
    for child in both:
        stdout, stderr = child.communicate(timeout=120)
        assert child.returncode == 0, stderr
        found.append(json.loads(stdout))
    assert sum(each["rows"] for each in found) == 4 * N_ROWS
    assert all(each["files"] + each["files_before"] + each["files_by_others"] == 4 for each in found)
    assert all_rows(labels) == EVERY_ROW
    assert names(labels) == {"_label.json", *(f"{number}.jsonl" for number in range(4))}
