"""Every command under odd environments: an answer, or one line of error; never a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PROGRAM, ROUTES, one_line
from tests.cli.every_command import COMMANDS
from tests.small_model import write_small_model

Results = dict[str, tuple[int, str, str]]

NO_HUB = "http://127.0.0.1:9"
"""Nothing listens there."""

HUB_SETTINGS: dict[str, dict[str, str]] = {
    "HF_HUB_DOWNLOAD_TIMEOUT": {"HF_HUB_DOWNLOAD_TIMEOUT": "30s"},
    "HF_HUB_ETAG_TIMEOUT": {"HF_HUB_ETAG_TIMEOUT": "1.5", "HF_HUB_DOWNLOAD_TIMEOUT": "20"},
    "HF_HUB_DOWNLOAD_TIMEOUT ": {"HF_HUB_DOWNLOAD_TIMEOUT": "-1"},
    "HF_HUB_ETAG_TIMEOUT ": {"HF_HUB_ETAG_TIMEOUT": "9" * 30},
    "HF_HOME": {"HF_HOME": "/dev/null"},
    "HF_ENDPOINT": {"HF_ENDPOINT": "hub.example"},
    "HF_ENDPOINT ": {"HF_ENDPOINT": "http://[::1"},
    "HTTPS_PROXY": {"HTTPS_PROXY": "socks5://127.0.0.1:9"},
    "ALL_PROXY": {"ALL_PROXY": "socks://127.0.0.1:9"},
    "all_proxy": {"all_proxy": "socks4://127.0.0.1:9"},
    "http_proxy": {"http_proxy": "http://127.0.0.1:port", "HTTP_PROXY": "http://127.0.0.1:9"},
    "https_proxy": {"https_proxy": "http://[::1"},
    "https_proxy ": {"https_proxy": "http://"},
    "HTTP_PROXY": {"HTTP_PROXY": "127.0.0.1:9"},
    "HF_TOKEN": {"HF_TOKEN": "hf_é"},
    "HF_TOKEN ": {"HF_TOKEN": "hf_a b"},
    "SSL_CERT_FILE": {"SSL_CERT_FILE": "/nothing/here.pem"},
}
"""Variables that the hub's client cannot use, by the one that the error has to name."""

FOLDERS: dict[str, dict[str, str | None]] = {
    "no-home": {"HOME": None},
    "no-home-but-a-cache": {"HOME": None, "ARCHROUTE_CACHE_DIR": "FOLDER/cache", "HF_HOME": "FOLDER/hf"},
    "missing-home": {"HOME": "/proc/nothing/here"},
    "home-is-a-file": {"HOME": "/dev/null"},
    "home-cannot-be-written": {"HOME": "/proc"},
    "cache-is-a-file": {"ARCHROUTE_CACHE_DIR": "/dev/null"},
    "cache-cannot-be-made": {"ARCHROUTE_CACHE_DIR": "/proc/nothing"},
    "cache-of-nobody": {"ARCHROUTE_CACHE_DIR": "~nobody-at-all/cache"},
    "models-missing": {"ARCHROUTE_MODELS_DIR": "/proc/nothing", "HF_HOME": "/proc/nothing"},
    "models-a-file": {"ARCHROUTE_MODELS_DIR": "/dev/null"},
    "models-of-a-name-too-long": {"ARCHROUTE_MODELS_DIR": "/" + "x" * 300},
}
"""Folders that are missing or useless; what is None is unset."""

READ_AT_IMPORT = ("HF_HUB", "HF_HOME", "HF_ENDPOINT")
"""Variables that huggingface_hub reads when it is imported; the others it reads when it asks."""

TOGETHER = "all-settings-of-the-hub"

NO_HOME = ("route", "pull", "list", "path", "doctor")
"""What is run without a home and without a cache; every command is without a home and with all settings of the hub."""

NEED_A_FOLDER = {"pull", "doctor"}
"""The first has to write there, and the other says what is wrong."""

UNTRIED = {"no-home", "cache-cannot-be-made"}
"""Where doctor tries ik_llama.cpp anew, which takes seconds: without a name for a folder, and with that of one that fails."""

USELESS_TO_DOCTOR = set(FOLDERS) - {"no-home-but-a-cache"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, kernel_verdict: Path, random_encoder: Path) -> dict[str, Results]:
    folder = tmp_path_factory.mktemp("environments")
    (folder / "routes.yaml").write_text(ROUTES, encoding="utf-8")
    model = write_small_model(folder / "random-F32.gguf")
    usual = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(folder),
        "ARCHROUTE_CACHE_DIR": str(kernel_verdict.parent),
        "HF_ENDPOINT": NO_HUB,
        "OPENBLAS_NUM_THREADS": "1",
    }
    environments: dict[str, Any] = {
        name: {"variables": {**usual, **changes}, "commands": ["pull"], "hub": not name.startswith(READ_AT_IMPORT)}
        for name, changes in HUB_SETTINGS.items()
    }
    together = {key: value for changes in reversed(HUB_SETTINGS.values()) for key, value in changes.items()}
    homeless = {name: value for name, value in usual.items() if name != "HOME"}
    environments[TOGETHER] = {"variables": {**homeless, **together}, "commands": list(COMMANDS), "no_user": True}
    for name, changes in FOLDERS.items():
        variables: dict[str, str | None] = {**usual, **changes}
        if "HOME" in changes and "ARCHROUTE_CACHE_DIR" not in changes:
            del variables["ARCHROUTE_CACHE_DIR"]
        found = {key: value.replace("FOLDER", str(folder)) for key, value in variables.items() if value is not None}
        environments[name] = {"variables": found, "no_user": changes.get("HOME", "") is None, "untried": name in UNTRIED}
        # Which model is taken by default depends on the folder of models alone.
        route = "route" if name.startswith("models") else "route-small"
        environments[name]["commands"] = list(NO_HOME) if name == "no-home" else [route, "doctor"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.every_command", str(folder), str(model), str(random_encoder)],
        input=json.dumps(environments),
        env=usual,
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        encoding="utf-8",
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Results] = json.loads(done.stdout)
    return results


def complaint(result: tuple[int, str, str]) -> str:
    """The last line of a command that failed as it should."""
    code, out, err = result
    assert code == 2, (code, out, err)
    line = err.splitlines()[-1]
    assert line.startswith("archroute: error: "), err
    return line


@pytest.mark.parametrize("name", [TOGETHER, *FOLDERS])
def test_no_environment_ends_in_a_traceback(outcomes: dict[str, Results], name: str) -> None:
    """What needs neither the hub nor a folder works; the rest says in one line why it does not."""
    for command, (code, out, err) in outcomes[name].items():
        assert "Traceback" not in out + err, (command, err)
        if command not in NEED_A_FOLDER:
            assert code == 0, (command, out, err)
    if "route" in outcomes[name]:
        assert outcomes[name]["route"][1] == "bug_fixing -> openai/gpt-4o\n"
    else:
        assert re.fullmatch("[a-z_]+ -> .+\n", outcomes[name]["route-small"][1])
    if "pull" in outcomes[name]:
        complaint(outcomes[name]["pull"])
    assert outcomes[name]["doctor"][0] == (2 if name in USELESS_TO_DOCTOR else 0)


@pytest.mark.parametrize("name", HUB_SETTINGS)
def test_what_asks_the_hub_names_the_variable(outcomes: dict[str, Results], name: str) -> None:
    """Blamed on HF_ENDPOINT, which is right, the fault would be looked for in the wrong place."""
    line = complaint(outcomes[name]["pull"])
    assert name.strip() in line
    assert len(outcomes[name]["pull"][2].splitlines()) == 1
    if "ENDPOINT" not in name and "PROXY" not in name:
        assert "HF_ENDPOINT" not in line


def test_a_socks_proxy_says_what_to_install(outcomes: dict[str, Results]) -> None:
    assert "pip install socksio" in complaint(outcomes["HTTPS_PROXY"]["pull"])


def test_a_proxy_that_is_down_is_named_beside_the_hub(outcomes: dict[str, Results]) -> None:
    assert f"{NO_HUB} cannot be reached" in complaint(outcomes["HTTP_PROXY"]["pull"])
    assert "through the proxy of HTTP_PROXY (127.0.0.1:9)" in complaint(outcomes["HTTP_PROXY"]["pull"])


@pytest.mark.parametrize("name", [name for name in FOLDERS if "cache" in name and name != "no-home-but-a-cache"])
def test_a_cache_that_is_of_no_use_is_named_by_doctor(outcomes: dict[str, Results], name: str) -> None:
    out = outcomes[name]["doctor"][1].partition("problems:")[2]
    assert "ARCHROUTE_CACHE_DIR" in out


def test_no_file_is_left_where_the_home_should_be(outcomes: dict[str, Results]) -> None:
    """A ~ that stands for no home must not become a folder of that name."""
    assert outcomes["no-home"]["route"][0] == 0
    assert not (Path(__file__).parent.parent.parent / "~").exists()


Process = Callable[..., "subprocess.CompletedProcess[str]"]


def shell(command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """``archroute`` as ``$archroute`` in a shell, which can close streams."""
    program = " ".join(f"'{word}'" if " " not in word else f'"{word}"' for word in PROGRAM)
    return subprocess.run(
        ["sh", "-c", command.replace("$archroute", program)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, **settings},
        check=False,
    )


@pytest.mark.usefixtures("tried_kernels")
class TestStreams:
    @pytest.mark.parametrize(
        ("redirection", "out"),
        [
            ("<&- 2>&-", "bug_fixing -> openai/gpt-4o\n"),
            ("<&- >&- 2>&-", ""),
            ("2>/dev/full", "bug_fixing -> openai/gpt-4o\n"),
        ],
    )
    def test_closed_and_full_streams_cost_no_answer(self, redirection: str, out: str) -> None:
        """A service manager closes streams; human text on a full disk is no reason to fail."""
        done = shell(f"$archroute route 'fix my bug' {redirection}")
        assert (done.returncode, done.stdout) == (0, out)
        assert "Traceback" not in done.stderr

    def test_a_result_that_cannot_be_written_is_an_error(self) -> None:
        done = shell("$archroute grammar >/dev/full 2>/dev/full")
        assert done.returncode == 2

    def test_closed_standard_input_holds_no_messages(self) -> None:
        message = one_line(shell("$archroute route --messages - <&-"))
        assert message.startswith("standard input: empty; expected JSON")


@pytest.mark.parametrize("locale", ["C", "de_DE.ISO-8859-1"])
def test_odd_locales(process: Process, tmp_path: Path, locale: str) -> None:
    """Letters beyond ASCII arrive on the command line in an encoding that Python takes to be ASCII."""
    (tmp_path / "größe.yaml").write_text(ROUTES, encoding="utf-8")
    settings = {"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    options = ("--config", str(tmp_path / "größe.yaml"), "--model", "tiny", "--json")
    done = process("prompt", "fix the bug in größe(é)", *options, **settings)
    assert done.returncode == 0, done.stderr
    (turn,) = json.loads(json.loads(done.stdout)["prompt"].split("conversation>")[1].removesuffix("</"))
    assert turn["content"] == "fix the bug in größe(é)"
    message = one_line(process("check", str(tmp_path / "größer.yaml"), **settings))
    assert message == f"{tmp_path}/größer.yaml: no such file"
