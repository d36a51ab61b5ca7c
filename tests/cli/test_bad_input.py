"""Whatever is wrong with the input: one line that says what and where, exit code 2, no traceback."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from archroute_edge.cli.route import route as route_command
from archroute_edge.errors import ArchRouteError
from tests.cli.conftest import ROUTES, Run, one_line
from tests.engine.gguf_file import read_gguf


def test_an_error_of_the_library_is_one_line_and_exit_code_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise ArchRouteError("file.yaml: a name\nwith a line break\r\n")

    monkeypatch.setattr(route_command, "callback", fail)
    assert one_line(run("route", "x")) == "file.yaml: a name with a line break"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty", b"", "the file is empty"),
        ("one-byte", b"G", "too few"),
        ("random", bytes((7 * n * n + 3) % 256 for n in range(5000)), "not a GGUF file"),
        ("zeros", bytes(5000), "not a GGUF file"),
    ],
)
def test_model_files_that_are_none(run: Run, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / f"{name}.gguf"
    path.write_bytes(content)
    message = one_line(run("route", "x", "--model", str(path)))
    assert message.startswith(f"{path}: ")
    assert said in message


@pytest.mark.parametrize("length", [100, 2000, 9000, 200_000])
def test_truncated_model_files(run: Run, tmp_path: Path, random_model: Path, length: int) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(random_model.read_bytes()[:length])
    message = one_line(run("route", "x", "--model", str(path)))
    assert message.startswith(f"{path}: ")
    assert "truncated" in message


def test_a_link_into_a_folder_that_is_missing_is_said_before_a_long_run(run: Run, tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to("none/x.csv")
    said = one_line(run("eval", "--csv", str(link)))
    assert f"leads to {os.path.realpath(tmp_path / 'none/x.csv')}, and there is no folder" in said


def test_a_model_with_a_vocabulary_only(run: Run, tmp_path: Path, random_model: Path) -> None:
    file = read_gguf(random_model)
    file.tensors, file.data = [], b""
    path = file.write(tmp_path / "vocabulary.gguf")
    for command in ("route", "prompt"):
        assert "vocabulary only" in one_line(run(command, "x", "--model", str(path)))
    for words in (("prompt", "x"), ("grammar",)):
        found, whole = (run(*words, "--model", f"http://gpu-box?vocabulary={each}#m") for each in (path, random_model))
        assert (found.exit_code, found.stdout) == (0, whole.stdout)


@pytest.mark.usefixtures("tried_kernels")
def test_a_models_words_do_not_reach_the_terminal_as_codes(run: Run, tmp_path: Path, random_model: Path) -> None:
    """GGUFs come from strangers, and a terminal can be told to type commands."""
    file = read_gguf(random_model)
    file["tokenizer.chat_template"].value = "{{ raise_exception('no\x1b[2J\u202e\x07 user') }}".encode()
    message = one_line(run("route", "x", "--model", str(file.write(tmp_path / "rude.gguf"))))
    assert message.isprintable()
    assert message.endswith(r"no\x1b[2J\u202e\x07 user")


def test_missing_models(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    assert one_line(run("route", "x", "--model", str(missing))).startswith(f"{missing}: no such model file")
    assert "'gpt-5'" in one_line(run("route", "x", "--model", "gpt-5"))
    assert "get it with" in one_line(run("route", "x", "--model", "arch-router"))
    assert "levels" in one_line(run("route", "x", "--model", "arch-router:Q9"))
    assert "folder" in one_line(run("route", "x", "--model", str(tmp_path)))
    assert "the name of the model is empty" in one_line(run("route", "x", "--model", ""))
    for command in ("prompt", "grammar"):
        arguments = [command, *(["x"] if command == "prompt" else []), "--model", str(missing)]
        assert one_line(run(*arguments)).startswith(f"{missing}: no such model file")


def test_every_command_refuses_a_configuration_that_cannot_be_used(run: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"routing_preferences: 7")
    for arguments in (["route", "x", *model], ["prompt", "x", *model[:2]], ["grammar", *model[:2]], ["serve", "--port", "0"]):
        assert one_line(run(*arguments, "--config", str(path))).startswith(f"{path}:1: routing_preferences")
    assert one_line(run("check", str(path))).startswith(f"{path}:1: routing_preferences")


@pytest.mark.parametrize("command", ["check", "route"])
def test_a_configuration_that_is_not_there(run: Run, tmp_path: Path, command: str) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        arguments = ["check", str(path)] if command == "check" else ["route", "x", "--config", str(path)]
        assert one_line(run(*arguments)).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ": empty; expected JSON"),
        (b'[{"role": "user",\n "content": }]', ":2: not JSON"),
        (b'"text"', "expected a list"),
        (b'{"messages": {}}', "expected a list"),
        (b'[{"role": "user", "content": "x"}, {"role": "robot", "content": "x"}]', "message 1 has the role 'robot'"),
    ],
)
def test_messages_that_cannot_be_routed(run: Run, model: tuple[str, ...], content: bytes, said: str) -> None:
    message = one_line(run("route", "--messages", "-", *model, stdin=content))
    assert message.startswith("standard input:")
    assert said in message


def test_a_file_of_messages_is_named(run: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "messages.json"
    path.write_bytes(b"7")
    for command, options in (("route", model), ("prompt", model[:2])):
        assert one_line(run(command, "--messages", str(path), *options)).startswith(f"{path}: expected a list")


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_message(run: Run, model: tuple[str, ...], text: str) -> None:
    """There is no prompt without a message; a decision there is, by tests/routing/test_no_user_text.py."""
    assert "no user message" in one_line(run("prompt", text, *model[:2]))
    assert "cannot be read" in one_line(run("route", "--messages", text.strip()))


def test_files_that_are_not_there(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    for option in ("--messages", "--batch"):
        assert one_line(run("route", option, str(missing))) == f"{missing}: cannot be read (No such file or directory)"
        assert one_line(run("route", option, str(tmp_path))).startswith(f"{tmp_path}: cannot be read")


def test_messages_given_twice_or_not_at_all(run: Run) -> None:
    assert "either a message or --messages" in one_line(run("route"))
    assert "either a message or --messages" in one_line(run("route", "x", "--messages", "-"))
    assert "either a message or --messages" in one_line(run("prompt"))
    assert "--batch stands alone" in one_line(run("route", "x", "--batch", "-"))
    assert "--batch stands alone" in one_line(run("route", "--messages", "-", "--batch", "-"))


def test_routes_that_do_not_fit_into_the_context(run: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(f"routing_preferences:\n  - name: a\n    description: {'word ' * 30_000}\n", encoding="utf-8")
    message = one_line(run("route", "x", "--config", str(path), *model))
    assert "does not fit" in message
    assert "16384" in message
    assert "larger n_ctx" not in message
    message = one_line(run("route", "x", *model, "--n-ctx", "300"))
    assert "n_ctx is 300" in message
    assert "larger n_ctx" in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["unheard-of"], "No such command 'unheard-of'"),
        (["route", "x", "--unheard-of"], "--unheard-of"),
        (["route", "x", "y"], "unexpected extra argument"),
        (["route", "x", "--model"], "'--model' requires an argument"),
        (["route", "x", "--n-ctx", "0"], "0 is not in the range"),
        (["route", "x", "--n-ctx", "many"], "'many' is not a valid integer"),
        (["route", "x", "--threads", "0"], "0 is not in the range"),
        (["route", "x", "--gpu-layers", "-2"], "-2 is not in the range"),
        (["route", "x", "--budget", "1"], "1 is not in the range"),
        (["route", "x", "--decoder", "slow"], "'slow' is not one of"),
        (["route", "x", "--prompt-format", "chatml"], "'chatml' is not one of"),
        (["check"], "Missing argument 'FILE'"),
        (["grammar", "x"], "unexpected extra argument"),
    ],
)
def test_arguments_that_make_no_sense(run: Run, arguments: list[str], said: str) -> None:
    message = one_line(run(*arguments))
    assert said in message
    assert re.search(rf"; see archroute( {arguments[0]})? --help$", message)


def test_a_cache_folder_that_cannot_be_written_only_costs_the_cache(
    run: Run, model: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(tmp_path / "file" / "folder"))
    cached = [each for each in model if each != "--no-prefix-cache"]
    result = run("route", "hello", *cached)
    assert result.exit_code == 0
    assert "->" in result.stdout


def test_file_names_that_are_no_text(run: Run, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml"))
    path.write_text("routing_preferences: 7", encoding="utf-8")
    assert "udcff" in one_line(run("check", str(path)))
    path.write_text(ROUTES, encoding="utf-8")
    assert run("check", str(path)).exit_code == 0
