"""Which processes a run keeps and asks, and reports over whatever it came to; the processes' answers are made up."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.bench import (
    BenchPlan,
    Contender,
    LabelledCases,
    Sweep,
    bench_page,
    conclusion,
    describe_machine,
    level_tables,
    machine_table,
    report_on,
    run_bench,
    scratch_folder,
    sweep_table,
    to_json,
    write_levels,
)
from archroute_edge.bench import _run as bench_run
from archroute_edge.bench._page import front_line
from archroute_edge.errors import BenchmarkError, MeasuringProcessError
from archroute_edge.evaluation import Case, Journal, runs_folder
from archroute_edge.routes import Route, RouteTable

TABLE = RouteTable([Route("a", "b")])
LEVELS = tuple(Contender(f"L{n}", Path(f"L{n}.gguf"), None, f"{n}", 10**8 * n, 4.0 * n) for n in (1, 2))


class FakeProcess:
    """Answers at once. ``asked`` has what was asked of which level; ``open`` are the labels of processes not yet closed."""

    asked: list[tuple[str, str, Any]]
    open: list[str]
    most_open = 0
    started = 0.0

    def __init__(self, label: str) -> None:
        self._label = label
        FakeProcess.open.append(label)
        FakeProcess.most_open = max(FakeProcess.most_open, len(FakeProcess.open))

    def ask(self, do: str, **arguments: Any) -> Any:
        FakeProcess.asked.append((self._label, do, arguments))
        if do == "open":
            if arguments["settings"].get("n_ctx") == 7:
                raise BenchmarkError(f"{self._label}: seven is too few")
            opened = {"load_ms": 20.0, "prefix_ms": 9.0, "prefix_tokens": 100, "n_ctx": 4096, "threads": 2}
            return {**opened, "flash_attention": True, "kv_type": "f16", "gpu_layers": 0, "engine": "llama.cpp"}
        if do == "decide":
            times = [5.0 * int(self._label[1:])] * arguments["count"]
            return dict.fromkeys(("ms", "before_ms", "evaluated", "before_evaluated"), times)
        if do == "cases":
            lines = [case["line"] for case in arguments["cases"]]
            return {"results": [result(line, "a" if line % 3 else "other") for line in lines]}
        memory = {"decision_ms": 5.0, "peak_memory": 10**8, "memory_beyond_files": None, "device_memory": 0}
        return {**memory, "prefill_tokens_per_s": 100.0, "decode_tokens_per_s": 20.0, "decisions_per_s": 9.0}

    def close(self) -> None:
        FakeProcess.open.remove(self._label)

    def __enter__(self) -> FakeProcess:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def result(line: int, decided: str) -> dict[str, Any]:
    counts = {"milliseconds": 1.0, "tokens": 9, "reused": 8, "evaluated": 1, "trimmed": False}
    decision = {"decided": decided, "confidence": 0.7, "scores": {"a": 0.3, "other": 0.7}, "most_probable": "other"}
    return {"line": line, "expected": "a", "reason": None, **decision, **counts}


@pytest.fixture(autouse=True)
def fake_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    FakeProcess.asked, FakeProcess.open, FakeProcess.most_open = [], [], 0
    monkeypatch.setattr(bench_run, "MeasuringProcess", FakeProcess)
    yield
    assert FakeProcess.open == []


def plan(**more: Any) -> BenchPlan:
    settings = {"budget": 2048, "n_ctx": None}
    return BenchPlan(LEVELS, settings, (("a", "b"),), **{"rounds": 2, "decisions": 2, **more})


def everything() -> BenchPlan:
    cases = [Case(line, "hello", TABLE, "a") for line in range(25)]
    sweeps = (
        Sweep("n_ctx", (7, 4096)),
        Sweep("flash_attention", (True, False)),
        Sweep("routes", (2, 3)),
        Sweep("turns", (1, 4)),
    )
    return plan(cases=LabelledCases("nowhere", cases), reference="L2", sweeps=sweeps)


def parts_of(made: BenchPlan, tmp_path: Path) -> dict[str, Any]:
    with Journal(made.identity(), resume=False, folder=tmp_path / "runs") as journal:
        run_bench(made, journal, tmp_path)
    return journal.parts


@pytest.mark.parametrize(("together", "most"), [(True, 3), (False, 2)])
def test_levels_stay_loaded_only_where_they_fit(together: bool, most: int, tmp_path: Path) -> None:
    """Two levels and a fresh process beside them, or one and a fresh process."""
    parts_of(plan(together=together), tmp_path)
    assert FakeProcess.most_open == most
    loads = [label for label, do, arguments in FakeProcess.asked if do == "open" and not arguments["settings"]["prefix_cache"]]
    assert loads == (["L1", "L2"] if together else ["L1", "L2", "L1"])


def test_a_cold_start_with_a_saved_prefix_follows_one_without_in_the_same_folder(tmp_path: Path) -> None:
    parts_of(plan(rounds=1), tmp_path)
    folders = [arguments["settings"]["prefix_cache"] for _, do, arguments in FakeProcess.asked if do == "open"]
    assert [folder for folder in folders if folder] == [str(tmp_path / "prefixes")] * 4


def test_what_is_finished_is_not_asked_again(tmp_path: Path) -> None:
    """Would break if --resume measured the first half twice."""
    parts = parts_of(plan(), tmp_path)
    FakeProcess.asked.clear()
    with Journal(plan().identity(), resume=True, folder=tmp_path / "runs") as journal:
        assert journal.parts == parts
        del journal.parts["rates//1/L2"]
        run_bench(plan(), journal, tmp_path)
    assert [(label, do) for label, do, _ in FakeProcess.asked] == [("L2", "open"), ("L2", "rates")]


def test_time_left_counts_down(tmp_path: Path) -> None:
    shown: list[tuple[str, int, int]] = []
    with Journal({}, resume=False, folder=tmp_path / "runs") as journal:
        run_bench(plan(), journal, tmp_path, lambda step, done, total: shown.append((step, done, total)))
    assert list(dict.fromkeys(step for step, _, _ in shown)) == ["round 1 of 2", "round 2 of 2"]
    assert all(0 <= done < total for _, done, total in shown)


def test_a_value_that_cannot_be_had_is_a_note_and_a_dead_process_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(sweeps=(Sweep("n_ctx", (7, 4096)),))
    report = report_on(made, parts_of(made, tmp_path), describe_machine())
    assert report.notes == ("n ctx 7: L1: seven is too few", "n ctx 7: L2: seven is too few")
    assert not report.partial
    ask = FakeProcess.ask

    def dying(self: FakeProcess, do: str, **arguments: Any) -> Any:
        if arguments.get("settings", {}).get("n_ctx") == 4096:
            raise MeasuringProcessError("it is gone")
        return ask(self, do, **arguments)

    monkeypatch.setattr(FakeProcess, "ask", dying)
    with pytest.raises(MeasuringProcessError):
        parts_of(made, tmp_path)


@pytest.mark.parametrize("asked", ["alone", "in a sweep", "by a measurement", "not"])
def test_the_version_of_each_engine_that_ran_is_named(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a report with times of ik_llama.cpp did not say whose they are."""
    settings = {"budget": 2048, "n_ctx": None, "engine": "ik" if asked == "alone" else "auto"}
    sweeps = (Sweep("engine", ("llama.cpp", "ik")),) if asked == "in a sweep" else ()
    made = BenchPlan(LEVELS, settings, (("a", "b"),), 1, 1, sweeps=sweeps)
    parts = parts_of(made, tmp_path)
    if asked == "by a measurement":
        for key in [key for key in parts if key.startswith("cold/") and key.endswith("/L2")]:
            parts[key]["without"]["engine"] = "ik"
    monkeypatch.setattr("archroute_edge.bench._machine.ik_version", lambda: "0.1.5")
    report = report_on(made, parts, describe_machine())
    named = [row[1] for row in machine_table(report).rows if row[0] == "ik_llama.cpp"]
    assert named == ([] if asked == "not" else ["ik-llama-cpp-python 0.1.5"])
    assert to_json(report)["machine"]["ik_llama_cpp_python"] == "0.1.5"


def test_an_encoder_alone_is_described_without_what_it_has_not(tmp_path: Path) -> None:
    made = BenchPlan((replace(LEVELS[0], kind="encoder"),), {"budget": 2048}, (("a", "b"),), 1, 2)
    report = report_on(made, parts_of(made, tmp_path), describe_machine())
    assert conclusion(report)[:2] == ["Recommended here: L1.", "It is the only level measured."]
    assert not any("Pareto" in line for line in conclusion(report))
    decisions, processes, memory = level_tables(report)
    assert "An encoder has no prefix and decodes nothing" in processes.note
    assert dict(zip(processes.headers, processes.rows[0], strict=True))["decode, tokens/s"] == "–"
    assert "Quality" not in (decisions.title, memory.title)


def test_a_setting_that_is_faster_is_in_the_recommendation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a sweep found one thread faster than two, and the recommendation kept it to itself."""
    made = plan(decisions=8, sweeps=(Sweep("threads", (1, 2)), Sweep("turns", (1, 4))))
    parts = parts_of(made, tmp_path)
    for key, value in parts.items():
        if key.startswith("sweep/threads=1/") and key.endswith("/L2"):
            value["ms"] = [8.0] * 3
    chosen = report_on(made, parts, describe_machine()).recommendation
    assert chosen is not None
    assert (chosen.level, chosen.reasons[-1]) == ("L2", "--threads 1 makes it faster: 0.80 of the time with 2")
    for key, value in parts.items():
        if key.startswith("sweep/threads=1/"):
            value["ms"] = [10.0] * 3
    chosen = report_on(made, parts, describe_machine()).recommendation
    assert chosen is not None
    assert chosen.reasons[-1] == "no value of --threads is faster than 2, which it ran with, beyond chance"


def test_any_part_of_a_run_can_be_reported(tmp_path: Path) -> None:
    """Ctrl-C comes at any moment: would break if a figure that is missing were an error."""
    made = everything()
    parts, machine = parts_of(made, tmp_path), describe_machine()
    whole = report_on(made, parts, machine)
    assert not whole.partial
    assert whole.recommendation is not None
    assert to_json(whole)["levels"][0]["quality"]["accuracy"]["right"] == 16
    names, draw = sorted(parts), random.Random(1)
    for number in range(20):
        some = {name: parts[name] for name in draw.sample(names, draw.randrange(len(names)))}
        report = report_on(made, some, machine)
        assert report.partial
        assert to_json(report)["partial"]
        tables = [*level_tables(report), *(sweep_table(each) for each in report.sweeps)]
        assert all(len(row) == len(table.headers) for table in tables for row in table.rows)
        assert machine_table(report).rows
        assert conclusion(report)[0].startswith("PARTIAL")
        write_levels(report, tmp_path / "b.csv")
        if number == 0:
            assert "(partial)" in bench_page(report, "made").render()


def test_a_scratch_folder_that_is_in_use_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another container with the same folder has processes that are not among the ones here."""
    monkeypatch.setattr("psutil.pid_exists", lambda _pid: False)
    with scratch_folder() as one, scratch_folder() as two:
        assert one != two
        assert one.is_dir()
    assert list(runs_folder().iterdir()) == []


def test_the_scratch_folder_of_a_process_that_was_killed_goes() -> None:
    program = """
import sys
from archroute_edge.bench import scratch_folder
with scratch_folder() as folder:
    (folder / "level.gguf").write_bytes(b"large")
    print(folder, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        left = Path(killed.stdout.readline().strip())
        with scratch_folder():
            assert (left / "level.gguf").is_file()
        killed.kill()
    with scratch_folder():
        assert not left.exists()
    assert list(runs_folder().iterdir()) == []


def test_the_front_in_two_dimensions() -> None:
    assert front_line([(3, 5), (1, 2), (2, 1), (4, 4), (1, 1)]) == [(1, 2), (3, 5)]
