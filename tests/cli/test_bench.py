"""``archroute bench``: every figure is there, what is interrupted goes on, and mistakes are one line."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from archroute_edge.bench import BenchPlan, describe_machine, named_contenders
from archroute_edge.bench._measuring_process import MeasuringProcess
from archroute_edge.cli import main
from archroute_edge.evaluation import Journal
from archroute_edge.models import AUTO
from archroute_edge.quantize import quantize
from tests.cli.conftest import PROGRAM, Run, one_line
from tests.small_model import write_small_model

LEVEL_KEYS = """
    level quantization path file_bytes bits_per_weight first_turn_ms first_turn_ratio first_turn_evaluated_tokens
    later_turn_ms later_turn_evaluated_tokens load_ms prefix_ms prefix_tokens cold_start_ms cold_start_saved_prefix_ms
    prefill_tokens_per_s decode_tokens_per_s decisions_per_s peak_memory_bytes memory_beyond_files_bytes device_memory_bytes
    quality running
"""
CSV_COLUMNS = """
    level sweep value file_bytes bits_per_weight first_turn_ms_p50 first_turn_ms_p50_low first_turn_ms_p50_high
    first_turn_ms_p95 first_turn_ratio later_turn_ms_p50 later_turn_ms_p50_low later_turn_ms_p50_high later_turn_ms_p95
    load_ms prefix_ms prefix_tokens cold_start_ms cold_start_saved_prefix_ms prefill_tokens_per_s decode_tokens_per_s
    decisions_per_s_1_callers decisions_per_s_4_callers decisions_per_s_16_callers peak_memory_bytes
    memory_beyond_files_bytes device_memory_bytes accuracy agreement mean_kl decision_ms_p50 decision_ms_p50_low
    decision_ms_p50_high decision_ms_p95 unseen_conversation_ms evaluated_tokens failed
"""
"""Keys that programs read: a name that changes breaks them."""
FEWEST = ("--threads", "1", "--rounds", "1", "--decisions", "1", "--budget", "1024")
ROUTES = [{"name": "bug_fixing", "description": "fixing errors"}, {"name": "travel", "description": "planning trips"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights at F32 and Q8_0, and labelled cases."""
    folder = tmp_path_factory.mktemp("bench")
    write_small_model(folder / "small-F32.gguf")
    quantize(folder / "small-F32.gguf", folder / "small-Q8_0.gguf", "Q8_0", threads=1)
    lines = [{"messages": f"question {number}", "routes": ROUTES, "route": "travel"} for number in range(3)]
    (folder / "cases.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path, kernel_verdict: Path) -> tuple[Result, Path]:
    """One run with everything: levels that lie there and are made, cases, sweeps, JSON, CSV and a page."""
    cache = folder / "cache"
    cache.mkdir(mode=0o700)
    shutil.copy(kernel_verdict, cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCHROUTE_CACHE_DIR", str(cache))
        patch.setattr("archroute_edge.bench._plan.SWEEP_ROUNDS", 1)
        patch.setattr("archroute_edge.bench._run.LONGEST_SWEEP_S", 0)
        levels = ("--from", str(folder / "small-F32.gguf"), "--quant", "q4_0,Q8_0,IQ2_M")
        sweeps = ("--kv-type", "f16,q8_0", "--turns", "1,2", "--n-routes", "2,240")
        outputs = ("--json", "--csv", str(folder / "b.csv"), "--html", str(folder / "b.html"))
        cases = ("--cases", str(folder / "cases.jsonl"), "--reference", "Q8_0")
        return CliRunner().invoke(main, ["bench", *levels, *sweeps, *cases, *outputs, *FEWEST], prog_name="archroute"), cache


def test_every_figure_is_there_and_they_agree_with_each_other(whole: tuple[Result, Path], folder: Path) -> None:
    result, _ = whole
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert not report["partial"]
    assert [each["level"] for each in report["levels"]] == ["Q4_0", "Q8_0"]
    assert [*report["levels"][0]] == LEVEL_KEYS.split()
    assert report["notes"][0] == "left out: IQ2_M (made with an importance matrix only: --imatrix FILE)"
    for each in report["levels"]:
        for name in ("first_turn_ms", "later_turn_ms", "load_ms", "prefix_ms", "cold_start_ms", "cold_start_saved_prefix_ms"):
            assert 0 < each[name]["p50"] <= each[name]["p95"], name
            assert len(each[name]["round_medians"]) == 1
        for rate in (each["prefill_tokens_per_s"], each["decode_tokens_per_s"], *each["decisions_per_s"].values()):
            assert rate["p50"] > 0
        assert list(each["decisions_per_s"]) == ["1", "4", "16"]
        # A process that starts has to load the model and evaluate the prefix before it decides.
        assert each["cold_start_ms"]["p50"] > each["load_ms"]["p50"] + each["prefix_ms"]["p50"]
        assert each["peak_memory_bytes"] > each["memory_beyond_files_bytes"] > 10_000_000
        assert each["prefix_tokens"] > 100
        # A later turn evaluates the assistant's reply as well.
        assert each["later_turn_evaluated_tokens"] > each["first_turn_evaluated_tokens"] > 10
    q4, q8 = report["levels"]
    assert q4["bits_per_weight"] < q8["bits_per_weight"] < 32
    assert q8["file_bytes"] == (folder / "small-Q8_0.gguf").stat().st_size
    assert (q8["path"], q4["path"]) == (str(folder / "small-Q8_0.gguf"), None)
    assert min(each["first_turn_ratio"] for each in report["levels"]) == 1
    assert report["recommendation"]["level"] in ("Q4_0", "Q8_0")
    assert report["machine"]["cpu"]
    assert "not known" in report["noise"]["text"]


def test_quality_is_that_of_the_cases_and_beside_the_reference(whole: tuple[Result, Path]) -> None:
    report = json.loads(whole[0].stdout)
    q4, q8 = (each["quality"] for each in report["levels"])
    assert report["reference"] == "Q8_0"
    assert (q8["agreement"]["share"], q8["mean_kl"]) == (1, 0)
    assert q4["mean_kl"] > 0
    assert q4["accuracy"]["total"] == q8["accuracy"]["total"] == 3
    assert report["recommendation"]["quality_measured"]


def test_a_sweep_has_a_point_for_each_value_over_the_first_level_if_time_is_short(whole: tuple[Result, Path]) -> None:
    report = json.loads(whole[0].stdout)
    found = {sweep["kind"]: {point["value"]: point for point in sweep["points"]} for sweep in report["sweeps"]}
    assert {name: list(points) for name, points in found.items()} == {
        "kv_type": ["f16", "q8_0"],
        "routes": [2, 240],
        "turns": [1, 2],
    }
    for sweep in report["sweeps"]:
        assert {point["level"] for point in sweep["points"]} == {"Q4_0"}
        assert sweep["note"].startswith("over Q4_0 alone: all levels would take about ")
    assert found["kv_type"]["q8_0"]["peak_memory_bytes"] < found["kv_type"]["f16"]["peak_memory_bytes"]
    assert found["turns"][2]["ms"]["samples"] == 3
    assert found["turns"][2]["unseen_ms"]["p50"] > 0
    # A value that cannot be had is said to be so, and the other values are measured all the same.
    assert found["routes"][240]["ms"] is None
    assert "the table of 240 routes does not fit" in found["routes"][240]["failed"]
    assert found["routes"][2]["ms"]["p50"] > 0


def test_the_csv_has_a_row_a_level_and_point(whole: tuple[Result, Path], folder: Path) -> None:
    report = json.loads(whole[0].stdout)
    with (folder / "b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 + 6
    assert [*rows[0]] == CSV_COLUMNS.split()
    for row, level in zip(rows, report["levels"], strict=False):
        assert row["level"] == level["level"]
        assert float(row["first_turn_ms_p50"]) == level["first_turn_ms"]["p50"]
        assert float(row["mean_kl"]) == level["quality"]["mean_kl"]


def test_the_page_stands_alone(whole: tuple[Result, Path], folder: Path) -> None:
    page = (folder / "b.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4  # levels, and three sweeps
    for text in ("Recommended here", "Pareto front", "CPU features", "Length of the conversation", "· archroute bench --from "):
        assert text in page
    assert page.index('class="answer"') < page.index("<h2>")
    assert "src=" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_nothing_is_left_behind(whole: tuple[Result, Path], folder: Path) -> None:
    """Levels that were made, saved prefixes and the journal of a finished run go."""
    left = [path for path in whole[1].rglob("*") if not path.name.startswith("kernels-")]
    assert left == [whole[1] / "runs"]
    assert sorted(path.name for path in folder.glob("*.gguf")) == ["small-F32.gguf", "small-Q8_0.gguf"]


@pytest.mark.usefixtures("tried_kernels")
def test_an_interrupted_run_reports_what_it_has_and_goes_on(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle: the finished part is reported and kept, temporary files go, and --resume does the rest only."""
    cache = tmp_path / "prefixes"
    arguments = ("bench", "--from", str(folder / "small-F32.gguf"), "--quant", "Q4_0", *FEWEST, "--json")
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    deadline = time.monotonic() + 60
    while not any('"part": "decide' in path.read_text() for path in cache.glob("runs/*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert list(cache.glob("runs/bench-*/*.gguf"))
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command with --resume goes on" in stderr
    assert "Traceback" not in stderr
    before = json.loads(stdout)
    assert before["partial"]
    assert before["levels"][0]["first_turn_ms"]["p50"] > 0
    assert before["levels"][0]["decisions_per_s"] == {}
    assert not list(cache.glob("runs/bench-*"))
    monkeypatch.setattr("archroute_edge.bench._plan.CALLERS", (1,))
    result = run(*arguments, "--resume")
    assert result.exit_code == 0
    after = json.loads(result.stdout)
    assert not after["partial"]
    assert after["levels"][0]["first_turn_ms"] == before["levels"][0]["first_turn_ms"]
    assert after["levels"][0]["cold_start_ms"]["p50"] > 0


@pytest.mark.usefixtures("tried_kernels")
def test_a_level_whose_process_dies_is_one_line(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = MeasuringProcess.ask

    def killed(self: MeasuringProcess, do: str, **arguments: Any) -> Any:
        if do == "rates":
            os.kill(self.pid, signal.SIGKILL)
        return ask(self, do, **arguments)

    monkeypatch.setattr(MeasuringProcess, "ask", killed)
    message = one_line(run("bench", str(folder / "small-Q8_0.gguf"), *FEWEST))
    assert message == "small-Q8_0: the measuring process was ended by signal 9 (out of memory?)"


def test_without_rich_and_matplotlib_there_are_json_and_csv(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out before anything is measured."""
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    model = str(folder / "small-Q8_0.gguf")
    assert "pip install 'archroute-edge[bench]'" in one_line(run("bench", model))
    assert "pip install 'archroute-edge[bench]'" in one_line(run("bench", model, "--json", "--html", "x.html"))


@pytest.mark.usefixtures("tried_kernels")
def test_an_encoder_is_measured_beside_a_language_model(
    folder: Path, random_encoder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an encoder has none of is no figure, and without cases nothing says which of the two to take."""
    monkeypatch.setattr("archroute_edge.bench._plan.SWEEP_ROUNDS", 1)
    monkeypatch.setattr("archroute_edge.bench._plan.CALLERS", (1,))
    files = (str(random_encoder), str(folder / "small-Q8_0.gguf"))
    result = run("bench", *files, "--threads", "1", "--rounds", "1", "--decisions", "1", "--n-routes", "2", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    encoder, small = report["levels"]
    assert encoder["level"] == random_encoder.stem
    for each in (encoder, small):
        for name in ("first_turn_ms", "later_turn_ms", "cold_start_ms", "cold_start_saved_prefix_ms", "prefill_tokens_per_s"):
            assert each[name]["p50"] > 0, name
    assert (encoder["prefix_ms"], encoder["decode_tokens_per_s"], encoder["running"]["n_ctx"]) == (None, None, None)
    assert encoder["running"]["threads"] == 1
    assert small["decode_tokens_per_s"]["p50"] > 0
    assert report["recommendation"] is None
    assert "bits a weight do not compare an encoder with a language model" in report["notes"][0]
    points = {(each["level"], each["value"]) for each in report["sweeps"][0]["points"] if each["ms"]}
    assert points == {(each["level"], 2) for each in (encoder, small)}


def test_without_a_model_the_one_that_decides_by_default_is_measured() -> None:
    """Would break if the demonstration of the language-model path stood in for it."""
    assert [each.label for each in named_contenders([AUTO])] == ["mini-Q8_0"]
    assert [each.label for each in named_contenders(["mini", "tiny"])] == ["mini-Q8_0", "tiny-Q8_0"]


def test_no_folder_for_temporary_files_is_found_out_before_anything_is_measured(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_usable(*_args: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("archroute_edge.bench._measuring_process.tempfile.TemporaryFile", none_usable)
    message = one_line(run("bench", str(folder / "small-Q8_0.gguf"), *FEWEST, "--json"))
    assert message.startswith("no temporary file can be written (No usable temporary directory found in ")
    assert message.endswith("; set TMPDIR to a folder for it")


def test_mistakes(folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, before anything is measured or made."""
    monkeypatch.setattr(MeasuringProcess, "__init__", None)
    source, q8 = str(folder / "small-F32.gguf"), str(folder / "small-Q8_0.gguf")
    (tmp_path / "no.gguf").write_bytes(b"GGUF, or so it says")
    for arguments, message in (
        (("--model", "arch-router", "--quant", "Q4_0,Q2_K"), "python -m tools.convert katanemo/Arch-Router-1.5B"),
        (("--model", "arch-router", "--quant", "Q2_K"), "get it with: archroute models pull arch-router --quant Q2_K"),
        (("--model", "arch-router", "--quant", "all"), "get it with: archroute models pull arch-router --quant Q4_K_M"),
        (("--model", "arch-router", "--quant", "Q9"), "has no level 'Q9'; its levels: Q2_K, Q3_K_S"),
        (("--model", "tiny", "--quant", "all"), "tiny is one file and has no levels; leave --quant out, or name a file"),
        (("--model", q8, "--quant", "Q4_0"), "is a file and has no levels; leave --quant out, or make levels of an"),
        (("--model", "mini", "--quant", "ALL"), "mini is one file and has no levels"),
        (("--model", "mini", "--quant", "Q8_0"), "mini is one file and has no levels"),
        (("--model", "mini+tiny"), "mini+tiny: a cascade is two models; measure each: archroute bench mini tiny"),
        (("--model", "http://gpu-box#tiny"), "http://gpu-box#tiny: a remote model runs elsewhere"),
        (("--quant", "Q8_0"), "--model NAME"),
        ((str(tmp_path / "no.gguf"),), f"{tmp_path / 'no.gguf'}: "),
        ((str(tmp_path / "none.gguf"),), "no such model file"),
        (("--from", source, "--quant", "Q9"), "no quantization level 'Q9'; there are Q2_K"),
        (("--from", source, "--quant", "IQ2_M"), "python -m tools.convert imatrix"),
        (("--from", q8, "--quant", "Q4_0"), "is quantized already"),
        (("--from", source), "--from needs --quant"),
        ((q8, "--imatrix", source), "--imatrix is for making levels"),
        ((q8, "--cases", str(tmp_path / "none.jsonl")), "none.jsonl: cannot be read"),
        ((q8, "--reference", "Q8_0"), "give --cases as well"),
        ((q8, "--cases", str(folder / "cases.jsonl"), "--reference", "Q3"), "no level 'Q3' is measured; there are small-Q8_0"),
        ((q8, "--threads", "1,x"), "'1,x' is not a whole number from 1 to 512, with commas between several"),
        ((q8, "--gpu-layers", "some"), "a whole number from 0 to 65536, or all"),
        ((q8, "--kv-type", "f16,q9"), "is not one of f32, f16"),
        ((q8, "--flash-attention", "maybe"), "is not one of on, off"),
        ((q8, "--n-routes", "5,500"), "a whole number from 1 to 240"),
        ((q8, "--csv", str(tmp_path / "no" / "b.csv")), "there is no folder"),
    ):
        assert message in one_line(run("bench", *arguments)), arguments


def test_parts_that_another_machine_measured_are_not_taken_over(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a folder that machines share mixed their times in one report."""

    def measured_in_part(_plan: BenchPlan, journal: Journal, *_rest: object) -> None:
        journal.finish("a part", {})
        raise KeyboardInterrupt

    monkeypatch.setattr("archroute_edge.bench.run_bench", measured_in_part)
    arguments = ("bench", str(folder / "small-Q8_0.gguf"), *FEWEST, "--resume")
    here = describe_machine()
    cores = {**here["cores"], "usable": here["cores"]["usable"] + 1}
    for machine, n_parts in (
        (here, 0),
        (here, 1),
        ({**here, "memory": here["memory"] - (1 << 20)}, 1),
        ({**here, "cpu": "another"}, 0),
        ({**here, "cores": cores}, 0),
        ({**here, "kernels": "another"}, 0),
        ({**here, "devices": []}, 0),
    ):
        monkeypatch.setattr("archroute_edge.bench.describe_machine", lambda found=machine: found)
        assert f"{n_parts} parts are there" in run(*arguments).stderr


def test_cases_may_have_routes_of_their_own_or_those_of_the_configuration(
    folder: Path, run: Run, tmp_path: Path, routes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if --config, which says what the times are of, refused cases that have routes."""
    plans: list[BenchPlan] = []
    monkeypatch.setattr("archroute_edge.bench.run_bench", lambda plan, *_: plans.append(plan))
    cases = [{"messages": "hello", "routes": ROUTES, "route": "travel"}, {"messages": "hello", "route": "traducción"}]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("".join(f"{json.dumps(each)}\n" for each in cases))
    q8 = str(folder / "small-Q8_0.gguf")
    for name in ("shipped", str(folder / "cases.jsonl"), str(mixed)):
        assert run("bench", q8, *FEWEST, "--config", routes, "--cases", name).exit_code == 130, name
    assert [[case.table.names for case in plan.cases.cases][-1] for plan in plans if plan.cases][1:] == [
        ("bug_fixing", "travel"),
        ("bug_fixing", "traducción"),
    ]
    assert "no routes; give them" in one_line(run("bench", q8, *FEWEST, "--cases", str(mixed)))


def test_too_little_room_for_the_levels_is_found_out_before_they_are_made(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used = shutil.disk_usage(tmp_path)._replace(free=200 << 20)
    monkeypatch.setattr("archroute_edge.bench._levels.shutil.disk_usage", lambda _path: used)
    message = one_line(run("bench", "--from", str(folder / "small-F32.gguf"), "--quant", "Q4_0"))
    assert "the levels to make take 0.0 GB and there are 0.2 GB free" in message
    assert not list(tmp_path.rglob("*.gguf"))
