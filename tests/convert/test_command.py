"""``python -m tools.convert`` as it is typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.convert import gguf_contents
from tests.convert.checkpoints import QWEN2, Shape, write_checkpoint
from tools.convert.cli import main
from tools.convert.progress import ProgressLine


class Typed:
    """Runs the command line with given words, and keeps what came out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["convert", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as exc:
            status = int(exc.code or 0)
        captured = self.capsys.readouterr()
        return status, captured.out, captured.err


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


def test_convert(typed: Typed, tmp_path: Path) -> None:
    """The result on stdout, the progress on stderr."""
    write_checkpoint(tmp_path / "router", QWEN2)
    target = tmp_path / "router.gguf"
    status, out, err = typed(tmp_path / "router", "--outtype", "bf16", "-o", target, "--prompt-format", "gateway", "--json")
    assert status == 0
    (result,) = json.loads(out)
    assert result["path"] == str(target)
    assert result["n_bytes"] == target.stat().st_size
    assert (result["level"], result["architecture"], result["n_tensors"], result["chat_template"]) == (
        "BF16",
        "qwen2",
        26,
        True,
    )
    assert "converting router  done" in err
    assert gguf_contents.read(target).metadata["archroute.prompt_format"] == "gateway"


def test_quantize_several_levels(typed: Typed, tmp_path: Path) -> None:
    """One conversion for all of them, which is gone afterwards."""
    write_checkpoint(tmp_path / "router", Shape(hidden_size=256, intermediate_size=256, num_hidden_layers=1))
    levels = ("--quantize", "Q8_0", "--quantize", "q4_k_m", "--threads", "1")
    status, out, err = typed(tmp_path / "router", "-o", tmp_path / "router-{level}.gguf", *levels)
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()] == ["Q8_0", "Q4_K_M"]
    assert err.count("converting") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router", "router-Q4_K_M.gguf", "router-Q8_0.gguf"]
    assert "Q8_0" in gguf_contents.read(tmp_path / "router-Q8_0.gguf").types.values()


def test_mistakes_are_one_line_and_status_2(typed: Typed, tmp_path: Path) -> None:
    """No traceback, no file, and what to do."""
    folder = write_checkpoint(tmp_path / "router").folder
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    target = tmp_path / "out" / "router.gguf"
    target.parent.mkdir()
    for words, message in (
        ((folder, "-o", target), "model.safetensors"),
        ((tmp_path / "nothing", "-o", target), "no such folder"),
        ((folder, "-o", target, "--quantize", "Q9"), "no quantization level 'Q9'; there are Q2_K"),
        ((folder, "-o", target, "--quantize", "Q8_0", "--quantize", "Q4_0"), "{level}"),
        ((folder, "-o", tmp_path / "no" / "x.gguf", "--quantize", "Q8_0"), "no such folder"),
        ((folder,), "Missing option '-o'"),
        ((folder, "-o", target, "--outtype", "f64"), "'f64' is not one of"),
    ):
        status, out, err = typed(*words)
        assert (status, out) == (2, "")
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert list(target.parent.iterdir()) == []


class Terminal:
    """A stream that says it is a terminal and keeps what is written."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_progress_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a quarter in 30 seconds, 90 are left."""
    now = [1000.0]
    monkeypatch.setattr("tools.convert.progress.time.monotonic", lambda: now[0])
    terminal = Terminal()
    with ProgressLine("converting", terminal) as progress:  # type: ignore[arg-type]
        now[0] += 30
        progress(25, 100)
        assert "\rconverting  25%  1:30 left" in terminal.text
        now[0] += 1
    assert terminal.text.endswith("converting  done in 0:31\n")
