"""``archroute calibrate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from archroute_edge import Calibration, Route, Router
from archroute_edge.deciders import tempered
from archroute_edge.evaluation import _evaluation as evaluation
from tests.cli.conftest import Run, one_line
from tests.evaluation.labelled_cases import MIXED, conversation, write_cases


@pytest.fixture
def cases(tmp_path: Path) -> str:
    return str(write_cases(tmp_path / "cases.jsonl"))


def test_what_is_written_is_what_the_router_takes(run: Run, model: tuple[str, ...], cases: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    result = run("calibrate", cases, "-o", str(path), *model, "--json")
    assert result.exit_code == 0, result.stderr
    assert f"{len(MIXED)} cases are few" in result.stderr
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == {"file": str(path), **written}
    assert (written["model"]["name"], written["prompt_format"], written["n_cases"]) == ("random-F32.gguf", "card", len(MIXED))
    # Four cases alone and two conversations are six groups; the turns of a conversation count as one.
    assert (written["cross_validation"]["folds"], written["cross_validation"]["by"]) == (5, "conversation")
    with Router([Route("a")], model=model[1], calibration=path) as router:
        scores = router.route("hello", scores=True).scores
    with Router([Route("a")], model=model[1]) as router:
        plain = router.route("hello", scores=True).scores
    assert scores == pytest.approx(tempered(plain or {}, written["temperature"]), abs=2e-3)


def test_the_figures_are_those_of_the_file(run: Run, model: tuple[str, ...], cases: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    result = run("calibrate", cases, "-o", str(path), *model, "--folds", "2")
    assert result.exit_code == 0, result.stderr
    *table, fitted, written = result.stdout.splitlines()
    calibration = Calibration.load(path)
    assert fitted.startswith(f"temperature {calibration.temperature:.3f}, ")
    assert written == str(path)
    validated = calibration.cross_validation
    for title, stage in (("as it is", "before"), ("with the temperature", "with_temperature")):
        (line,) = (line for line in table if line.startswith(f" {title} "))
        assert f"{100 * validated[stage]['accuracy']:.1f} %" in line
        assert line.split()[-2:] == [f"{validated[stage]['nll']:.3f}", f"{validated[stage]['ece']:.3f}"]


def test_an_interrupted_run_goes_on_and_writes_nothing_before(
    run: Run, model: tuple[str, ...], cases: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calibration.yaml"
    decide = evaluation._decide
    seen: list[Any] = []

    def third_stops(router: Router, each: Any) -> Any:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(each)
        return decide(router, each)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "_decide", third_stops)
        stopped = run("calibrate", cases, "-o", str(path), *model)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert "interrupted after 2 of" in stopped.stderr
    assert not path.exists()
    assert run("calibrate", cases, "-o", str(path), *model, "--resume").exit_code == 0
    assert path.exists()


def test_what_cannot_be_calibrated_on(run: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    one = write_cases(tmp_path / "one.jsonl", conversation("c", ("play jazz", "music"), ("louder", "music")))
    output = ("-o", str(tmp_path / "calibration.yaml"))
    assert "2 cases of one conversation" in one_line(run("calibrate", str(one), *output, *model))
    assert "cannot be read" in one_line(run("calibrate", str(tmp_path / "missing.jsonl"), *output, *model))
    assert "there is no folder" in one_line(run("calibrate", str(one), "-o", str(tmp_path / "no" / "c.yaml"), *model))
    assert not (tmp_path / "calibration.yaml").exists()
