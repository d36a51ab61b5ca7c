"""``archroute`` as a process: exit codes, the two streams, pipes that close, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from archroute_edge.cli.process import shown
from tests.cli.conftest import PROGRAM, Run, one_line

Process = Callable[..., "subprocess.CompletedProcess[str]"]

LINE = json.dumps({"messages": [{"role": "user", "content": "hello"}]}) + "\n"


@pytest.fixture
def batch(tried_kernels: None, model: tuple[str, ...], routes: str) -> subprocess.Popen[bytes]:
    """A batch that waits for lines on its standard input."""
    command = [*PROGRAM, "route", "--batch", "-", "--config", routes, *model]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_answer_alone_is_on_stdout(process: Process, model: tuple[str, ...], routes: str) -> None:
    messages = json.dumps([{"role": "user", "content": "fix my code"}])
    result = process("-v", "route", "--messages", "-", "--config", routes, *model, stdin=messages)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 1
    assert " -> " in result.stdout
    assert "llama_model_loader" in result.stderr
    assert "confidence" in result.stderr


@pytest.mark.parametrize("name", ["کدنویسی\u200cها", "翻訳\u3000依頼", "👩\u200d💻 code", "a\u00a0b", "co\u00adop"])
def test_names_of_any_script_are_shown_as_they_are(name: str) -> None:
    """A script compares them with its own."""
    assert shown(name) == name


@pytest.mark.parametrize("char", ["\n", "\x1b", "\x9b", "\u2028", "\u200f", "\u202e", "\u2066", "\ud800"])
def test_what_a_terminal_would_obey_is_shown_as_an_escape(char: str) -> None:
    assert shown(f"a{char}b") == f"a{ascii(char)[1:-1]}b"


def test_an_error_is_one_line_on_stderr(process: Process, tmp_path: Path, random_model: Path) -> None:
    path = tmp_path / "damaged.gguf"
    raw = random_model.read_bytes()
    path.write_bytes(raw.replace(b"qwen2.attention.head_count\x04", b"qwen2.attention.head_counx\x04"))
    assert path.read_bytes() != raw
    message = one_line(process("route", "x", "--model", str(path)))
    assert message.startswith(f"{path}: qwen2.attention.head_count is 'missing'")


def test_what_llama_cpp_itself_refuses_is_one_line_with_its_reason(
    process: Process, tmp_path: Path, random_model: Path
) -> None:
    path = tmp_path / "renamed.gguf"
    path.write_bytes(random_model.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight"))
    message = one_line(process("route", "x", "--model", str(path)))
    assert message.startswith(f"{path}: llama.cpp cannot load it: ")
    assert "blk.1.ffn_up.weight" in message


def test_a_damaged_prefix_costs_one_warning_and_not_the_answer(
    run: Run, process: Process, model: tuple[str, ...], routes: str, tmp_path: Path
) -> None:
    options = ("route", "fix my code", "--config", routes, *(each for each in model if each != "--no-prefix-cache"))
    right = run(*options)
    (path,) = (tmp_path / "prefixes").glob("*.prefix")
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    result = process(*options)
    assert result.returncode == 0
    assert result.stdout == right.stdout
    warning, cost = result.stderr.splitlines()
    assert warning.startswith(f"archroute: WARNING: {path}: ")
    assert "damaged" in warning
    assert " 0 reused" in cost
    # It was evaluated and saved again.
    assert path.read_bytes() == sound


def test_ctrl_c_ends_without_a_traceback(batch: subprocess.Popen[bytes]) -> None:
    assert batch.stdin
    assert batch.stdout
    batch.stdin.write(LINE.encode())
    batch.stdin.flush()
    assert "route" in json.loads(batch.stdout.readline())
    batch.send_signal(signal.SIGINT)
    out, err = batch.communicate(timeout=30)
    assert batch.returncode == 130
    assert out == b""
    assert err.decode().split("\n") == ["", "archroute: interrupted", ""]


def test_a_reader_that_goes_away_ends_it_without_a_traceback(batch: subprocess.Popen[bytes]) -> None:
    assert batch.stdin
    assert batch.stdout
    batch.stdin.write(LINE.encode())
    batch.stdin.flush()
    batch.stdout.readline()
    batch.stdout.close()
    batch.stdin.write(2 * LINE.encode())
    batch.stdin.close()
    batch.wait(timeout=30)
    assert batch.stderr
    assert batch.stderr.read() == b""
    batch.stderr.close()
    assert batch.returncode == 1


def test_a_full_disk_is_one_line(model: tuple[str, ...], routes: str) -> None:
    if not Path("/dev/full").exists():  # Linux has it
        return
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*PROGRAM, "grammar", "--config", routes, *model[:2]],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=60,
            check=False,
            # With a buffer, which is written once more when the process ends.
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )
    assert result.returncode == 2
    assert result.stderr == "archroute: error: [Errno 28] No space left on device\n"


def test_a_stream_that_cannot_show_a_name_shows_its_code_points(process: Process, routes: str, model: tuple[str, ...]) -> None:
    result = process("route", "hola", "--config", routes, *model, "--scores", PYTHONIOENCODING="iso8859-5")
    assert result.returncode == 0
    assert "traducci\\xf3n" in result.stdout
