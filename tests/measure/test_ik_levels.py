"""The tool that measures ik_llama.cpp's own levels, on the bundled language model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from archroute_edge.engine import LoadedModel
from archroute_edge.errors import ModelFileError
from tools.measure import ik_levels
from tools.measure.ik_levels import main


def test_a_level_of_its_own_is_compared_and_timed(bundled_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a level's weights were read from another file than its own, or refused."""
    monkeypatch.setattr(ik_levels, "crossed", lambda cases: cases[:2])
    options = ["--level", "Q8_0", "--level", "Q8_KV", "--keep", str(tmp_path), "--rounds", "2", "--tokens", "20"]
    found = CliRunner().invoke(main, [str(bundled_model), "--timed", str(bundled_model), *options, "--threads", "1"])
    assert found.exit_code == 0, found.output
    shared, own, *times = map(json.loads, found.stdout.splitlines())
    assert 0 < shared["mean_kl"] < own["mean_kl"] < 0.5
    assert own["gain"] == pytest.approx(shared["mean_kl"] - own["mean_kl"])
    assert (shared["bits"], own["bits"]) == (8.51, 8.25)
    assert [each["level"] for each in times] == ["Q8_0", "Q8_KV"]
    assert times[0]["ratio"] == 1 and times[1]["ratio"] > 0
    with pytest.raises(ModelFileError, match="unknown type"):
        LoadedModel(tmp_path / "tiny-Q8_0-Q8_KV.gguf", engine="ik")


@pytest.mark.parametrize("level", ["IQ2_XXS", "NOSUCH"])
def test_a_level_that_cannot_be_made_is_an_error_of_one_line(bundled_model: Path, level: str) -> None:
    found = CliRunner().invoke(main, ["--timed", str(bundled_model), "--level", level])
    assert found.exit_code == 1
    assert found.output.count("\n") == 1
    assert {"IQ2_XXS": "without an importance matrix", "NOSUCH": "invalid ftype"}[level] in found.output


def test_a_build_without_the_quantizer_is_an_error_of_one_line(
    bundled_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ik_levels, "folder_in_package", lambda package: tmp_path / package / "lib")
    found = CliRunner().invoke(main, ["--timed", str(bundled_model)])
    assert found.exit_code == 1
    assert found.output.count("\n") == 1
    assert "compiled without llama-quantize" in found.output
