"""Building llama.cpp's programs: what is there is not built again, what failed is not taken for built."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from archroute_edge.errors import PeerError
from tools.measure import build_llama_tools


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were run, none of them really."""
    run: list[str] = []

    def fake(command: Sequence[str]) -> None:
        run.append(Path(command[0]).name)
        if "-B" in command:
            (Path(command[command.index("-B") + 1]) / "bin").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(build_llama_tools, "_run", fake)
    models = build_llama_tools.tools_folder("1.2.3") / "source" / "vendor" / "llama.cpp" / "models"
    models.mkdir(parents=True)
    (models / "ggml-vocab-qwen2.gguf").write_text("words")
    return run


def test_a_finished_build_is_kept(steps: list[str]) -> None:
    """It takes many minutes."""
    folder = build_llama_tools.build("1.2.3")
    assert (folder / "ggml-vocab-qwen2.gguf").read_text() == "words"
    assert steps == ["cmake", "cmake", "llama-server"]
    assert build_llama_tools.build("1.2.3") == folder
    assert len(steps) == 3


def test_a_failed_build_is_not_taken_for_one(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of half a build would be measured."""
    working = build_llama_tools._run
    with monkeypatch.context() as broken:
        broken.setattr(build_llama_tools, "_run", _fail)
        with pytest.raises(PeerError):
            build_llama_tools.build("1.2.3")
    assert build_llama_tools._run is working
    build_llama_tools.build("1.2.3")
    assert len(steps) == 3


def _fail(command: Sequence[str]) -> None:
    raise PeerError(f"{command[0]} failed")


def test_a_step_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing of it goes to standard output, where the folder is printed."""
    with pytest.raises(PeerError, match="failed with status 3"):
        build_llama_tools._run([sys.executable, "-c", "print('compiling'); raise SystemExit(3)"])
    out, err = capfd.readouterr()
    assert out == ""
    assert "compiling" in err
