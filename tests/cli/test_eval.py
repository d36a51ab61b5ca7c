"""``archroute eval``."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Router
from archroute_edge.deciders import Calibration
from archroute_edge.engine import model_fingerprint, read_header
from archroute_edge.evaluation import _evaluation as evaluation
from archroute_edge.evaluation import runs_folder
from tests.cli.conftest import Run, one_line
from tests.evaluation.labelled_cases import MIXED, case, write_cases


@pytest.fixture
def cases(tmp_path: Path) -> str:
    return str(write_cases(tmp_path / "cases.jsonl"))


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ctrl-C before the decision of that number, counted from now."""

    def at(number: int) -> None:
        calls = iter(range(1, number + 1))
        decide = evaluation._decide

        def decide_or_stop(router: Router, each: Any) -> Any:
            if next(calls, number) == number:
                monkeypatch.setattr(evaluation, "_decide", decide)
                raise KeyboardInterrupt
            return decide(router, each)

        monkeypatch.setattr(evaluation, "_decide", decide_or_stop)

    return at


def untimed(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what differs from run to run: times, and what rounding makes of probabilities."""
    for model in report["models"]:
        for key in ("milliseconds", "calibration", "coverage"):
            del model[key]
        for result in model["results"]:
            for key in ("milliseconds", "scores", "confidence", "reused", "evaluated"):
                del result[key]
    del report["comparison"]["mean_kl"]
    return report


def test_the_report_as_json(run: Run, model: tuple[str, ...], cases: str) -> None:
    result = run("eval", cases, *model, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["source"], report["cases"], report["partial"]) == (cases, len(MIXED), False)
    (found,) = report["models"]
    assert [each["expected"] for each in found["results"]] == [each["route"] for each in MIXED]
    right = sum(each["expected"] == each["decided"] for each in found["results"])
    assert (found["accuracy"]["right"], found["accuracy"]["total"]) == (right, len(MIXED))
    assert {tag: share["total"] for tag, share in found["by_tag"].items()} == {"english": 1, "multi-turn": 5, "single": 4}
    assert {key: share["total"] for key, share in found["conversations"].items()} == {
        "turns": 5,
        "spans": 4,
        "conversations": 2,
    }
    assert report["comparison"] is None
    assert not list(runs_folder().iterdir())


def test_the_report_on_the_terminal(run: Run, model: tuple[str, ...], cases: str) -> None:
    """Names that look like markup stand as they are, and nothing but the report is on stdout."""
    result = run("eval", cases, *model)
    assert result.exit_code == 0, result.stderr
    assert f"\n{len(MIXED)} cases over 2 route tables, from {cases}.\n" in result.stdout
    assert "random-F32.gguf decides " in result.stdout.splitlines()[1]
    for title in ("Accuracy by tag", "By route", "Worst confusions", "decided instead", "Answering only the surest"):
        assert title in result.stdout
    assert re.search(r"accuracy \(95 % interval\) +\d+\.\d % \(\d", result.stdout)
    assert "<script>alert('good morning')</script>" in result.stdout


def test_a_row_a_case(run: Run, model: tuple[str, ...], cases: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    result = run("eval", cases, *model, "--json", "--csv", str(path), "--compare", model[1], "--limit", "6")
    assert result.exit_code == 0, result.stderr
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["line"] for row in rows] == [str(number) for number in range(1, 7)]
    assert rows[2]["message"] == "turn off the lights / yes please"
    for row, found in zip(rows, json.loads(result.stdout)["models"][0]["results"], strict=True):
        assert (row["expected"], row["decided"], row["right"]) == (
            found["expected"],
            found["decided"],
            str(int(found["expected"] == found["decided"])),
        )
        assert row["compare_decided"] == row["decided"]
        assert float(row["kl"]) == pytest.approx(0, abs=1e-4)


def test_a_model_compared_with_itself_does_not_differ(run: Run, model: tuple[str, ...], cases: str) -> None:
    report = json.loads(run("eval", cases, *model, "--compare", model[1], "--json").stdout)
    comparison = report["comparison"]
    assert comparison["models"] == ["random-F32.gguf", "random-F32.gguf (again)"]
    assert (comparison["agreement"]["share"], comparison["differing"]) == (1, [])
    assert comparison["mean_kl"] == pytest.approx(0, abs=1e-4)
    assert comparison["mcnemar"] == {"only_first": 0, "only_second": 0, "p_value": 1.0}


def test_the_page_is_whole_in_itself(run: Run, model: tuple[str, ...], cases: str, tmp_path: Path) -> None:
    """A page that fetches something does not work offline, and one that runs what a case says is a hole."""
    path = tmp_path / "report.html"
    result = run("eval", cases, *model, "--compare", model[1], "--json", "--html", str(path))
    assert result.exit_code == 0, result.stderr
    page = path.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?!#)[^"'#\s]""", page)
    assert not re.findall(r"url\((?!#)|@import|<(?:script|iframe|object|embed|link|img)\b", page)
    assert "&lt;script&gt;alert(" in page
    # Tags, reliability, coverage.
    assert page.count("<svg ") == 3
    assert "prefers-color-scheme: dark" in page


def test_an_interrupted_run_reports_its_part_and_goes_on(run: Run, model: tuple[str, ...], cases: str, interrupt: Any) -> None:
    """Stopped within the second model's cases: the first's are whole."""
    stop = len(MIXED) + 5
    arguments = ("eval", cases, *model, "--compare", model[1], "--json")
    interrupt(stop)
    stopped = run(*arguments)
    assert stopped.exit_code == 130
    part = json.loads(stopped.stdout)
    assert part["partial"]
    assert [each["decided"] for each in part["models"]] == [len(MIXED), 4]
    assert part["comparison"]["cases"] == 4
    assert f"interrupted after {stop - 1} of {2 * len(MIXED)} decisions" in stopped.stderr
    resumed = run(*arguments, "--resume")
    assert resumed.exit_code == 0
    assert f"{stop - 1} of {2 * len(MIXED)} decisions are there" in resumed.stderr
    whole = json.loads(run(*arguments).stdout)
    assert untimed(json.loads(resumed.stdout)) == untimed(whole)


def test_a_part_says_so_and_counts_no_unfinished_conversation(
    run: Run, model: tuple[str, ...], cases: str, interrupt: Any
) -> None:
    """The run's order is the first table's four cases, then the conversations; it stops in the middle of one."""
    interrupt(7)
    stopped = run("eval", cases, *model)
    assert stopped.exit_code == 130
    assert "PARTIAL: the run was interrupted; decided were 6 of them" in stopped.stdout
    assert "conversations right" not in stopped.stdout


def test_an_interrupt_between_two_models_leaves_the_first_ones_report(
    run: Run, model: tuple[str, ...], cases: str, interrupt: Any
) -> None:
    """Would break if a report without its comparison passed for whole."""
    interrupt(len(MIXED) + 1)
    part = json.loads(run("eval", cases, *model, "--compare", model[1], "--json").stdout)
    assert (part["partial"], len(part["models"]), part["comparison"]) == (True, 1, None)


def test_nothing_finished_is_no_report(run: Run, model: tuple[str, ...], cases: str, interrupt: Any) -> None:
    interrupt(1)
    stopped = run("eval", cases, *model, "--json")
    assert (stopped.exit_code, stopped.stdout) == (130, "")


def test_routes_come_from_a_configuration(run: Run, model: tuple[str, ...], routes: str, tmp_path: Path) -> None:
    path = str(write_cases(tmp_path / "bare.jsonl", [case("fix it", "bug_fixing", None), case("hola", "traducción", None)]))
    report = json.loads(run("eval", path, "--routes", routes, *model, "--json").stdout)
    assert set(report["models"][0]["results"][0]["scores"]) == {"bug_fixing", "traducción", "other"}
    assert "bare.jsonl:1: no routes; give them" in one_line(run("eval", path, *model))


def test_a_calibration_is_used(run: Run, bundled_model: Path, tmp_path: Path) -> None:
    """A bound of 1 leaves nothing but other, in eval and in route."""
    tiny = ("--model", str(bundled_model), "--threads", "1", "--no-prefix-cache", "--json")
    cases = str(write_cases(tmp_path / "cases.jsonl", MIXED[:1]))
    fingerprint = model_fingerprint(read_header(bundled_model))
    Calibration(1.0, 1.0, bundled_model.name, fingerprint, "card").save(tmp_path / "calibration.yaml")
    (plain,) = json.loads(run("eval", cases, *tiny).stdout)["models"]
    assert (plain["results"][0]["decided"], plain["low_confidence"]) == ("bug_fixing", 0)
    arguments = (*tiny, "--calibration", str(tmp_path / "calibration.yaml"))
    (found,) = json.loads(run("eval", cases, *arguments).stdout)["models"]
    assert (found["results"][0]["decided"], found["low_confidence"]) == ("other", 1)
    # The model's own answer is what greedy decoding is compared with.
    assert found["greedy_is_not_most_probable"]["total"] == 0
    decision = json.loads(run("route", "my test fails with an IndexError", *arguments).stdout)
    assert (decision["route"], decision["reason"]) == ("other", "low_confidence")


def test_a_bad_case_is_named_with_its_line(run: Run, tmp_path: Path) -> None:
    path = write_cases(tmp_path / "cases.jsonl", MIXED[:1])
    path.write_text(f'{path.read_text(encoding="utf-8")}\n{{"messages": "x", "route": "a", "rout": 1}}\n', encoding="utf-8")
    message = one_line(run("eval", str(path), "--json"))
    assert message.startswith(f"{path}:3: ")
    assert "'rout'" in message


def test_what_cannot_be_done_is_said_before_anything_is_run(
    run: Run, cases: str, model: tuple[str, ...], routes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if an hour of decisions ended in an error that was there to be seen at the start."""
    monkeypatch.setattr(evaluation, "_decide", None)
    (tmp_path / "empty.jsonl").write_text("\n")
    Calibration(1.0, 1.0, "another.gguf", "abc", "card").save(tmp_path / "other.yaml")
    for arguments, said in (
        ((str(tmp_path / "missing.jsonl"),), "missing.jsonl: cannot be read (No such file or directory)"),
        ((str(tmp_path / "empty.jsonl"),), "holds no cases"),
        ((cases, "--compare", "gpt-5"), "'gpt-5'"),
        ((cases, "--csv", str(tmp_path / "none" / "x.csv")), "there is no folder"),
        ((cases, "--html", str(tmp_path)), "a folder, not a file"),
        ((cases, "--routes", routes), "is for cases without routes"),
        ((cases, "--calibration", str(tmp_path / "other.yaml")), "fitted for the model another.gguf"),
    ):
        assert said in one_line(run("eval", *arguments, *model))
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'archroute-edge[bench]'" in one_line(run("eval", cases, *model))
    assert "pip install 'archroute-edge[bench]'" in one_line(run("eval", cases, *model, "--json", "--html", "x.html"))


def test_a_setting_may_be_about_one_of_two_models(
    run: Run, cases: str, random_encoder: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if an hour of the first model's decisions ended in what the second refuses."""
    encoder, model = str(random_encoder), str(random_model)
    both, cheap = f"{encoder}+{model}", ("--threads", "1", "--no-prefix-cache", "--json", "--limit", "1")
    for first, second, setting in (
        (both, model, ("--switch-over", "0.8")),
        (model, encoder, ("--n-ctx", "4096")),
        (encoder, model, ("--prompt-format", "gateway", "--budget", "300")),
    ):
        result = run("eval", cases, "--model", first, "--compare", second, *setting, *cheap)
        assert result.exit_code == 0, result.stderr
        assert len(json.loads(result.stdout)["models"]) == 2
    monkeypatch.setattr(evaluation, "_decide", None)
    for first, second, setting, said in (
        (model, encoder, ("--switch-over", "0.8"), "switch_over is about a cascade"),
        (encoder, encoder, ("--n-ctx", "4096"), "n_ctx is about a model that is given a prompt"),
        (encoder, model, ("--n-ctx", "256"), "n_ctx is 256"),
    ):
        assert said in one_line(run("eval", cases, "--model", first, "--compare", second, *setting, *cheap))


def test_json_and_csv_need_no_extra(
    run: Run, cases: str, model: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rich", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    for more in (["--json"], []):
        path = tmp_path / f"cases{len(more)}.csv"
        result = run("eval", cases, *model, "--csv", str(path), "--limit", "1", *more)
        assert result.exit_code == 0
        assert path.is_file()
        assert bool(result.stdout) is bool(more)
    assert "no tables: they need rich" in result.stderr


def test_without_a_file_the_shipped_cases_are_run(
    run: Run, cases: str, model: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    Path(cases).rename(tmp_path / "data" / "cases.jsonl")
    monkeypatch.setattr("archroute_edge.evaluation._cases.resources.files", lambda _package: tmp_path)
    report = json.loads(run("eval", *model, "--json", "--limit", "2").stdout)
    assert (report["source"], report["cases"]) == ("the cases that come with archroute-edge", 2)
