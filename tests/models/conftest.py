"""A hub on this machine, the client pointed at it, and a catalogue of what it has."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session

from tests.models.hub_server import Hub, serve

CATALOGUE = """
models:
  small:
    description: A small random model
    licence: test-licence
    prompt_format: gateway
    repo: org/small.gguf
    default_level: Q4_0
    files:
      Q4_0: small-Q4_0.gguf
      F16: {file: small.gguf, size: 2 MB}
    checkpoint: {repo: org/small}
  mine:
    prompt_format: card
    file: mine.gguf
"""


REPO = "models--org--small.gguf"
"""The folder of the model's repository in the cache."""


@pytest.fixture(scope="session", autouse=True)
def closed_client() -> Iterator[None]:
    """The client keeps connections for the next request; they are closed once."""
    yield
    close_session()


@pytest.fixture
def hub(random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with two levels of a small model and its checkpoint; huggingface_hub, in this process, asks no other."""
    model = random_model.read_bytes()
    other = model[:-4] + b"\0\0\0\0"
    hub = Hub(
        {
            "org/small.gguf": {"LICENSE": b"Do as you like.\n", "small-Q4_0.gguf": model, "small.gguf": other},
            "org/small": {
                "LICENSE": b"Do as you like.\n",
                "README.md": b"# Small\n",
                "config.json": b"{}",
                "tokenizer.json": b'{"model": {}}',
                "model.safetensors": b"\x02\0\0\0\0\0\0\0{}" + bytes(1000),
                "pytorch_model.bin": b"a pickle",
            },
        }
    )
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    with serve(hub):
        # The client reads its environment once, when it is imported.
        constants = "huggingface_hub.constants."
        monkeypatch.setattr(constants + "ENDPOINT", hub.url)
        monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants + "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants + "HF_STORED_TOKENS_PATH", str(tmp_path / "stored_tokens"))
        monkeypatch.setattr(constants + "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr("archroute_edge.models._hub._PAUSES_S", (0, 0))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("ARCHROUTE_CATALOGUE", str(catalogue))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        # Nothing here is about a loss of power, and a busy disk takes a second for it.
        monkeypatch.setattr(os, "fsync", lambda handle: None)
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The hub's cache; nothing is in it."""
    return tmp_path / "hub"


def command(hub: Hub, cache: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of ``archroute models ...`` in a process of its own."""
    code = "from archroute_edge.cli import main; main()"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache.parent),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment.pop("HF_HUB_CACHE", None)
    environment.pop("HF_HUB_OFFLINE", None)
    return [sys.executable, "-c", code, "models", *arguments], environment


def named_files(cache: Path) -> list[str]:
    """Everything in the cache under a name that is used: snapshots, and blobs without a suffix."""
    found = [path for path in cache.rglob("*") if path.is_symlink() or path.is_file()]
    return sorted(path.name for path in found if "snapshots" in path.parts or (path.parent.name == "blobs" and not path.suffix))


def partials(cache: Path) -> list[Path]:
    return list(cache.rglob("*.incomplete"))
