"""The commands of the installed package, run in a folder that is not the clone's."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

import pytest

from tests.conftest import CARD_MESSAGE
from tests.package.conftest import Installed

pytestmark = pytest.mark.timeout(900)


def test_it_is_the_installed_package_that_runs(bare: Installed) -> None:
    done = bare.run("python", "-c", "import archroute_edge; print(archroute_edge.__file__)")
    assert done.stdout.startswith(f"{bare.folder}/lib/"), done


@pytest.mark.parametrize("model", ["mini", "tiny"])
def test_route(bare: Installed, model: str) -> None:
    done = bare.run("archroute", "route", CARD_MESSAGE, "--model", model)
    assert (done.returncode, done.stdout) == (0, "bug_fixing -> openai/gpt-4o\n"), done.stderr


def test_the_bundled_models_are_here(bare: Installed) -> None:
    done = bare.run("archroute", "models", "list")
    assert done.returncode == 0, done.stderr
    here = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if ".gguf" in line}
    assert set(here) == {"mini", "tiny"}
    for name, path in here.items():
        assert path.startswith(f"{bare.folder}/lib/"), path
        assert path.endswith(f"archroute_edge/bundled/{name}-Q8_0.gguf")


def test_doctor_finds_nothing_wrong(bare: Installed) -> None:
    done = bare.run("archroute", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "problems: none" in done.stdout


def test_without_the_extra_serving_says_what_to_install(bare: Installed) -> None:
    done = bare.run("archroute", "serve", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'archroute-edge[server]'" in done.stderr


def test_serve(serving: Installed) -> None:
    command = serving.command("archroute", "serve", "--port", "0", "--model", "mini")
    with subprocess.Popen(
        command, cwd=serving.home, env=serving.environment, stderr=subprocess.PIPE, encoding="utf-8"
    ) as server:
        try:
            assert server.stderr
            said = next((line for line in server.stderr if line.startswith("listening on ")), "")
            address = said.removeprefix("listening on ").partition(",")[0]
            asked = urllib.request.Request(
                f"{address}/v1/route",
                json.dumps({"messages": [{"role": "user", "content": CARD_MESSAGE}]}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(asked, timeout=60) as reply:
                decision = json.load(reply)
        finally:
            server.terminate()
            server.wait(60)
    assert (decision["route"], decision["models"][0]) == ("bug_fixing", "openai/gpt-4o")
    assert server.returncode == 0


def test_its_users_can_check_their_types(bare: Installed) -> None:
    """``py.typed`` counts where it is installed: without it, mypy would take everything for Any."""
    code = "from archroute_edge import Router\n\nreveal_type(Router.route)\nRouter.route(1)\n"
    used = bare.home / "user.py"
    used.write_text(code)
    python = str(bare.folder / "bin" / "python")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(bare.home), "--python-executable", python]
    done = subprocess.run([*command, str(used)], cwd=bare.home, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done
    assert "-> archroute_edge.decision.Decision" in done.stdout
    assert "import-untyped" not in done.stdout
