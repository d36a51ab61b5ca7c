"""Commands with a model on another machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from archroute_edge.engine import LoadedModel
from archroute_edge.models import find_model
from tests.cli.conftest import Run, one_line
from tests.deciders.remote_server import RemoteModelServer, haphazard
from tests.evaluation.labelled_cases import write_cases


@pytest.fixture
def server() -> Iterator[RemoteModelServer]:
    with LoadedModel(find_model("tiny").path, vocabulary_only=True) as model:
        n_vocabulary = model.vocabulary.n_tokens
    with RemoteModelServer("vllm", haphazard(n_vocabulary), n_vocabulary) as server:
        server.model = "tiny"
        yield server
        assert server.problems == []


def test_a_decision(run: Run, routes: str, server: RemoteModelServer) -> None:
    """Also one for a route whose name has two spellings."""
    result = run("route", "fix this bug", "--config", routes, "--model", f"{server.url}#tiny", "--scores")
    assert result.exit_code == 0
    assert {line.split()[1] for line in result.stdout.splitlines()[1:]} == {"bug_fixing", "traducción", "other"}
    assert f"decided by {server.url}#tiny" in result.stderr


def test_the_encoder_in_its_place(run: Run, routes: str, server: RemoteModelServer) -> None:
    model = f"mini+{server.url}#tiny"
    server.models_fault = "cut"
    result = run("route", "fix this bug", "--config", routes, "--model", model, "--switch-over", "1")
    assert result.exit_code == 0
    assert "no answer from the remote model; decided by mini" in result.stderr


def test_a_server_that_is_away(run: Run, routes: str, server: RemoteModelServer) -> None:
    server.models_fault = "cut"
    result = run("route", "x", "--config", routes, "--model", f"{server.url}#tiny")
    assert one_line(result).startswith(f"{server.url}#tiny: ")


def test_labelled_cases(run: Run, server: RemoteModelServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Measured and calibrated like a model on this machine."""
    folder = tmp_path_factory.mktemp("cases")
    cases = str(write_cases(folder / "cases.jsonl"))
    result = run("eval", cases, "--model", f"{server.url}#tiny", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)


def test_without_the_extra(run: Run, routes: str, server: RemoteModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "archroute_edge.deciders._remote_server", None)
    result = run("route", "x", "--config", routes, "--model", f"{server.url}#tiny")
    assert one_line(result).endswith("a remote model needs an HTTP client; install archroute-edge[remote]")
