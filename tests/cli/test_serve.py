"""``archroute serve`` before it serves: what it needs, and what it says where that is missing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from archroute_edge.cli.serve import _settings as server_settings
from archroute_edge.cli.serve import serve
from tests.cli.conftest import Run, one_line

pytestmark = pytest.mark.usefixtures("tried_kernels")


def test_a_port_that_is_taken_is_one_line(run: Run) -> None:
    """Before the model is loaded, which takes its time."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = one_line(run("serve", "--port", port, "--model", "no-such-model"))
    assert message.startswith(f"cannot listen on 127.0.0.1, port {port}: Address already in use")


def test_off_loopback_without_a_key_is_one_line(run: Run, tmp_path: Path) -> None:
    assert "give an API key with --api-key-file" in one_line(run("serve", "--host", "0.0.0.0"))
    missing = str(tmp_path / "key")
    assert (
        one_line(run("serve", "--api-key-file", missing)) == f"{missing}: the API key cannot be read: No such file or directory"
    )
    Path(missing).write_text("\n")
    assert one_line(run("serve", "--api-key-file", missing)).startswith("the API key must be")
    assert "give either" in one_line(run("serve", "--api-key-file", missing, "--api-key", "k"))


@pytest.mark.parametrize(("options", "extra"), [([], "server"), (["--forward"], "gateway")])
def test_without_the_extra_it_says_what_to_install(options: list[str], extra: str) -> None:
    """And every other command works without it."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('fastapi', 'uvicorn', 'prometheus_client', 'pydantic', 'starlette')))\n"
        "from archroute_edge.cli import main; main(sys.argv[1:], prog_name='archroute')"
    )
    command = [sys.executable, "-c", code, "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert f"pip install 'archroute-edge[{extra}]'" in one_line(done)


def test_a_model_that_cannot_be_reached_is_one_line(run: Run, tmp_path: Path) -> None:
    assert one_line(run("serve", "--forward")).startswith("--forward needs --config")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "model_providers:\n  - {model: openai/a, access_key: $NOT_SET_ANYWHERE, default: true}\n"
        "routing_preferences: [{name: poems, description: Writing of poems}]\n",
        encoding="utf-8",
    )
    message = one_line(run("serve", "--forward", "--config", str(path), "--model", "mini", "--port", "0"))
    assert message.startswith(f"{path}:2: 'openai/a' cannot be reached: the environment variable NOT_SET_ANYWHERE is not set")


@pytest.mark.parametrize(
    ("options", "queue", "body", "forwarded"),
    [
        ([], 64, 4 << 20, 32 << 20),
        (["--forward"], 256, 4 << 20, 32 << 20),
        (["--forward", "--queue", "64", "--max-body", str(4 << 20)], 64, 4 << 20, 4 << 20),
    ],
)
def test_a_bound_that_is_given_holds_even_if_it_is_the_default(
    options: list[str], queue: int, body: int, forwarded: int
) -> None:
    """With ``--forward`` a queue of 64 became one of 256, as if nothing had been said."""
    settings = server_settings(serve.make_context("serve", options).params)
    assert (settings.queue_limit, settings.max_body, settings.max_forwarded_body) == (queue, body, forwarded)
