"""``python -m tools.convert OWNER/NAME`` against a hub on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.convert import gguf_contents
from tests.convert.conftest import few_cases
from tests.convert.typed import Typed
from tests.models.conftest import partials
from tests.models.hub_server import COMMIT, Hub
from tools.fixtures.checkpoints import Shape, write_checkpoint

__all__ = ["few_cases"]

SMALL = Shape(hidden_size=256, intermediate_size=256, num_hidden_layers=1, n_shards=2)
CARD = b"---\nlicense: other\nlicense_name: router-research\n---\n"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


@pytest.fixture
def router(hub: Hub, tmp_path: Path) -> Hub:
    """The hub, with a whole checkpoint in two shards and a pickle that nobody should fetch."""
    folder = write_checkpoint(tmp_path / "made", SMALL).folder
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.repos["org/router"] = files | {"README.md": CARD, "LICENSE": b"Ask first.\n", "pytorch_model.bin": b"a pickle"}
    return hub


@pytest.mark.usefixtures("few_cases")
def test_pulled_converted_quantized_and_recorded(router: Hub, typed: Typed, tmp_path: Path, cache: Path) -> None:
    """One command from the hub to a checked file; a connection that is cut on the way goes on where it was."""
    router.cuts = [2000]
    words = ("--quantize", "Q4_0", "--threads", "1", "--verify", "--record")
    status, out, err = typed("org/router@v1.0", "-o", tmp_path / "router-{level}.gguf", *words)
    assert (status, out.splitlines()[0].split()[1]) == (0, "Q4_0")
    assert f"org/router@v1.0 at {COMMIT}; licence: router-research" in err
    assert [request.range for request in router.stored if request.range] == ["bytes=2000-"]
    record = json.loads((tmp_path / "router-Q4_0.json").read_text())
    assert (record["source"]["revision"], record["verification"]["passed"]) == (COMMIT, True)
    assert gguf_contents.read(tmp_path / "router-Q4_0.gguf").metadata["general.name"] == "router"
    assert not any("pytorch_model" in request.path and "resolve" in request.path for request in router.asked)
    asked = len(router.stored)
    assert typed("org/router", "-o", tmp_path / "again.gguf")[0] == 0
    assert len(router.stored) == asked, "the weights were downloaded again"


def test_what_arrives_damaged_is_not_converted(router: Hub, typed: Typed, tmp_path: Path, cache: Path) -> None:
    """Other bytes than the hub promised: one line, no GGUF, and no file that a later run would take for whole."""
    router.swapped = True
    status, out, err = typed("org/router", "-o", tmp_path / "router.gguf")
    assert (status, out) == (2, "")
    assert "nothing was kept, try again" in err.splitlines()[-1]
    assert not (tmp_path / "router.gguf").exists()
    assert not list(cache.rglob("*.safetensors"))
    router.swapped = False
    assert typed("org/router", "-o", tmp_path / "router.gguf")[0] == 0
    assert partials(cache) == []


@pytest.mark.parametrize(
    ("refusal", "message"),
    [((401, "GatedRepo"), "org/router is gated: ask for access at"), ((404, "RepoNotFound"), "has no repository org/router")],
)
def test_what_the_hub_refuses(
    router: Hub, typed: Typed, tmp_path: Path, cache: Path, refusal: tuple[int, str], message: str
) -> None:
    router.refuse = refusal
    status, out, err = typed("org/router", "-o", tmp_path / "router.gguf")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: org/router: no such folder here, and from the hub: ")
    assert message in err
