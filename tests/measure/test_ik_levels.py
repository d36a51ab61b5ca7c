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


@pytest.fixture
def quantizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for llama-quantize, which a build from source lacks; it fails until a test writes something else."""
    program = tmp_path / "llama-quantize"
    program.write_text("#!/bin/sh\necho 'loading'\necho 'invalid ftype' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(ik_levels, "quantizer", lambda: program)
    return program


def test_a_level_is_compared_and_timed(
    bundled_model: Path, quantizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a level's weights were read from another file than its own."""
    monkeypatch.setattr(ik_levels, "crossed", lambda cases: cases[:2])
    # At whatever level, it makes the bundled file: source and target stand before the level and the threads.
    quantizer.write_text(
        f'#!/bin/sh\nfor each; do target=$source; source=$level; level=$each; done\ncp "{bundled_model}" "$target"\n'
    )
    options = ["--level", "Q8_0", "--level", "Q8_KV", "--keep", str(tmp_path), "--rounds", "2", "--tokens", "20"]
    found = CliRunner().invoke(main, [str(bundled_model), "--timed", str(bundled_model), *options, "--threads", "1"])
    assert found.exit_code == 0, found.output
    first, second, *times = map(json.loads, found.stdout.splitlines())
    # The file's own F16 is the source.
    assert 0 < first["mean_kl"] == second["mean_kl"] < 0.01
    assert second["gain"] == 0 and first["bits"] == 8.51
    assert [each["level"] for each in times] == ["Q8_0", "Q8_KV"]
    assert times[0]["ratio"] == 1 and times[1]["ratio"] > 0
    assert (tmp_path / "tiny-Q8_0-Q8_KV.gguf").exists() and not [*tmp_path.glob("*.partial")]


def test_types_of_its_own_stay_refused(bundled_model: Path, tmp_path: Path) -> None:
    """A GGUF of types that llama.cpp lacks is read by this tool alone."""
    content = bytearray(bundled_model.read_bytes())
    name = b"blk.0.attn_k.weight"
    # Behind the name: the number of axes (4 bytes), their lengths (8 bytes each), and the type.
    place = content.index(name) + len(name) + 4 + 2 * 8
    assert content[place : place + 4] == (8).to_bytes(4, "little")
    content[place : place + 4] = (144).to_bytes(4, "little")
    path = tmp_path / "own.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="unknown type"):
        LoadedModel(path, engine="ik")


def test_a_level_that_cannot_be_made_is_an_error_of_one_line(bundled_model: Path, quantizer: Path) -> None:
    found = CliRunner().invoke(main, ["--timed", str(bundled_model), "--level", "NOSUCH"])
    assert found.exit_code == 1
    assert found.output.count("\n") == 1
    assert "made no NOSUCH of it (1): invalid ftype" in found.output


def test_a_build_without_the_quantizer_is_an_error_of_one_line(
    bundled_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ik_levels, "folder_in_package", lambda package: tmp_path / package / "lib")
    found = CliRunner().invoke(main, ["--timed", str(bundled_model)])
    assert found.exit_code == 1
    assert found.output.count("\n") == 1
    assert "compiled without llama-quantize" in found.output
