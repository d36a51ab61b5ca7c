"""``pyinstaller app.py``: the bundled program runs where neither Python nor this package is. It is the command itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PyInstaller.archive.readers import CArchiveReader

from archroute_edge.__pyinstaller.native_build import bundling_warning
from archroute_edge.engine import _backend as backend
from archroute_edge.engine import required_features
from tests.conftest import CARD_MESSAGE
from tests.server.stdio_host import request

pytestmark = pytest.mark.timeout(900)

APP = "from archroute_edge.cli import main\n\nmain(prog_name='archroute')\n"

# What huggingface_hub and llama_cpp could use, and this package's tests have installed for other purposes.
NOT_NEEDED = ("torch", "transformers", "fsspec", "matplotlib", "openai", "PIL", "botocore", "numpy.f2py")

WARNINGS = "warnings.txt"


@pytest.fixture(scope="module", params=["--onedir", "--onefile"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, moved away from where it was built; what PyInstaller warned of lies in ``WARNINGS`` beside its folder."""
    folder = tmp_path_factory.mktemp("build")
    (folder / "app.py").write_text(APP)
    command = [sys.executable, "-m", "PyInstaller", request.param, "--noconfirm", "--log-level", "WARN", "app.py"]
    excluded = [f"--exclude-module={name}" for name in NOT_NEEDED]
    made = subprocess.run(
        [*command, *excluded],
        cwd=folder,
        stderr=subprocess.PIPE,
        check=False,
        encoding="utf-8",
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert made.returncode == 0, made.stderr
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "program"
    (elsewhere.parent / WARNINGS).write_text(made.stderr, encoding="utf-8")
    shutil.move(folder / "dist", elsewhere)
    shutil.rmtree(folder)
    return elsewhere / "app" / "app" if request.param == "--onedir" else elsewhere / "app"


def test_bundling_warns_where_the_installed_build_is_native(built: Path) -> None:
    """Run from an environment with a portable build, it asserts that nothing is said."""
    warning = bundling_warning(required_features(backend.build().system_info))
    program = built.parent if built.parent.name == "app" else built
    said = (program.parent.parent / WARNINGS).read_text(encoding="utf-8").splitlines()
    assert [line.partition("WARNING: ")[2] for line in said if "llama.cpp" in line] == ([warning] if warning else [])


def run(program: Path, folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it in a folder that is its user's home, with nothing else in its environment."""
    return subprocess.run(
        [str(program), *arguments],
        input=stdin,
        capture_output=True,
        cwd=folder,
        env={"HOME": str(folder), "TMPDIR": str(folder)},
        timeout=120,
        check=False,
    )


def test_it_routes_with_the_bundled_models_and_starts_warm_the_next_time(built: Path, tmp_path: Path) -> None:
    """A program of one file unpacks its libraries anew at each start; saved prefixes must be found again all the same."""
    asked = ("route", CARD_MESSAGE, "--json", "--threads", "1")
    assert json.loads(run(built, tmp_path, *asked).stdout)["decided_by"] == "mini"
    first, second = (run(built, tmp_path, *asked, "--model", "tiny") for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    assert (found["route"], found["decided_by"], found["tokens"]["reused"]) == ("bug_fixing", "tiny", 0)
    assert json.loads(second.stdout)["tokens"]["reused"] > 100


def test_what_needs_a_process_of_its_own_has_it(built: Path, tmp_path: Path, random_model: Path) -> None:
    """``sys.executable`` is the program here: without the hook, quantizing would start another one of it, and so on."""
    source = Path(shutil.copy(random_model, tmp_path / "small-F32.gguf"))
    made = run(built, tmp_path, "quantize", str(source), "Q8_0", "--threads", "1")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "small-Q8_0.gguf").stat().st_size < source.stat().st_size
    measuring = run(built, tmp_path, "-m", "archroute_edge.bench._measuring_worker")
    assert (measuring.returncode, measuring.stdout, measuring.stderr) == (0, b"", b"")


def test_it_answers_over_stdio(built: Path, tmp_path: Path) -> None:
    asked = request(1, "route", messages=CARD_MESSAGE) + request(2, "models")
    done = run(built, tmp_path, "serve", "--stdio", "--threads", "1", stdin=asked)
    assert done.returncode == 0, done.stderr
    found = {reply["id"]: reply["result"] for reply in map(json.loads, done.stdout.splitlines())}
    assert found[1]["route"] == "bug_fixing"
    assert [model["name"] for model in found[2]] == ["mini", "tiny"]


def test_it_answers_over_http(built: Path, tmp_path: Path) -> None:
    """uvicorn finds its own parts by name, which following imports does not show."""
    command = [str(built), "serve", "--port", "0", "--threads", "1"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, cwd=tmp_path, env={"HOME": str(tmp_path)}, encoding="utf-8"
    ) as server:
        try:
            assert server.stderr
            said = next((line for line in server.stderr if line.startswith("listening on ")), "")
            address = said.removeprefix("listening on ").partition(",")[0]
            # Not /readyz, which is an error until the routes are evaluated.
            with urllib.request.urlopen(f"{address}/healthz", timeout=30) as reply:
                assert json.load(reply) == {"status": "ok"}
        finally:
            server.terminate()
            server.wait(30)


def test_the_licence_of_the_model_comes_with_it(built: Path) -> None:
    """CC BY-SA asks for the sources to be named wherever the model goes."""
    if built.parent.name == "app":
        (file,) = built.parent.rglob("archroute_edge/bundled/README.md")
        text = file.read_text(encoding="utf-8")
    else:
        text = CArchiveReader(str(built)).extract("archroute_edge/bundled/README.md").decode()
    assert "CC BY-SA" in text
