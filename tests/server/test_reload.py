"""A new configuration while the server runs: taken whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archroute_edge.config import parse_config
from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http._app import ServerApp
from archroute_edge.server.http._reload import ConfigReload
from tests.server.conftest import CONFIG, Client, configure

NEW = """\
routing_preferences:
  - {name: bug_fixing, description: Identifying and fixing errors or bugs in the provided code, models: [m/new]}
  - {name: poems, description: Writing poems}
"""
BUG = "there is a bug in my code, please fix it"


async def until(happened: Callable[[], bool]) -> None:
    for _ in range(500):
        if happened():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")


@pytest.fixture
def app(service: RoutingService, tmp_path: Path) -> Iterator[ServerApp]:
    path = tmp_path / "routes.yaml"
    path.write_text(NEW)
    yield ServerApp(service, ServerSettings(), path)
    configure(service, CONFIG)


def test_the_new_routes_and_models_are_answered(app: ServerApp) -> None:
    client = Client(app)
    assert client.post("/v1/route", {"messages": BUG}).json()["models"] == ["m/a", "m/b"]
    assert asyncio.run(app.reload.reload())
    decision = client.post("/v1/route", {"messages": BUG, "scores": True}).json()
    assert decision["models"] == ["m/new"]
    assert set(decision["scores"]) == {"bug_fixing", "poems", "other"}
    assert client.metric('archroute_config_reloads_total{outcome="taken"}') == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("routing_preferences: [{name: a}, {name: a}]", "defined twice"),
        ("routing_preferences: [", "malformed YAML"),
        ("", "the file is empty"),
        (None, "no such file"),
        ("routing_preferences: [{name: a, description: '" + "long " * 30_000 + "'}]", "does not fit"),
    ],
)
def test_one_that_cannot_be_used_changes_nothing(
    app: ServerApp, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None, reason: str
) -> None:
    """A typing error in a file must not stop a server that works."""
    path, client = tmp_path / "routes.yaml", Client(app)
    path.unlink() if text is None else path.write_text(text)
    with caplog.at_level(logging.INFO, logger="archroute_edge.server"):
        assert not asyncio.run(app.reload.reload())
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith("the configuration stays as it was: ")
    assert reason in record.getMessage()
    assert client.post("/v1/route", {"messages": BUG}).json()["models"] == ["m/a", "m/b"]
    assert client.metric('archroute_config_reloads_total{outcome="refused"}') == 1


def test_a_file_that_changes_is_read_when_it_is_whole(app: ServerApp, tmp_path: Path) -> None:
    """Editors write a file in pieces, or move another one into its place."""
    path = tmp_path / "routes.yaml"
    watch = ConfigReload(path, app.serving, poll=0.04)

    async def watched() -> None:
        assert await watch.reload()
        task = asyncio.create_task(watch.run())
        path.unlink()
        await asyncio.sleep(0.1)
        assert app.serving.config.default_model is None
        other = tmp_path / "other"
        other.write_text("default_model: m/newer\n" + NEW)
        other.rename(path)
        await until(lambda: app.serving.config.default_model == "m/newer")
        task.cancel()

    asyncio.run(watched())
    assert app.serving.config.table.names == ("bug_fixing", "poems")


def test_a_file_that_was_changed_while_the_model_was_loaded_is_read(app: ServerApp) -> None:
    """Loading takes seconds, and nobody would touch the file again."""

    async def watched() -> None:
        assert app.serving.config == CONFIG
        task = asyncio.create_task(app.reload.run())
        await until(lambda: "poems" in app.serving.config.table)
        task.cancel()

    asyncio.run(watched())


def test_a_file_that_says_the_same_leaves_sessions_on_their_models(app: ServerApp) -> None:
    """Tools write files anew, and supervisors send SIGHUP, without anything having changed."""
    client, path = Client(app), "/routing/v1/chat/completions"
    assert asyncio.run(app.reload.reload())
    session = {"X-Model-Affinity": "s"}
    client.post(path, {"messages": [{"role": "user", "content": BUG}]}, headers=session)
    assert asyncio.run(app.reload.reload())
    other = {"messages": [{"role": "user", "content": "a poem about the sea"}]}
    assert client.post(path, other, headers=session).json()["pinned"]


def test_what_is_no_file_is_not_looked_after(service: RoutingService, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A shell's ``<(...)`` is a pipe: read again, it would be an empty file, and an error in the log."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    app = ServerApp(service, ServerSettings(), pipe)
    with caplog.at_level(logging.INFO, logger="archroute_edge.server"):
        assert not asyncio.run(app.reload.reload())
    assert [record.levelname for record in caplog.records] == ["WARNING"]

    async def watched() -> None:
        task = asyncio.create_task(ConfigReload(pipe, app.serving, poll=0.01).run())
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()

    asyncio.run(watched())
    assert len(caplog.records) == 1


def test_what_cannot_be_reached_leaves_the_old_configuration(
    service: RoutingService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is decided, too: half a configuration would send routes to models that are not there."""
    path = tmp_path / "routes.yaml"
    text = "model_providers: [{model: openai/new, access_key: $NEW_KEY, default: true}]\n" + NEW.replace("m/new", "openai/new")
    path.write_text(text)
    local = parse_config(NEW.replace("m/new", "ollama/new"))
    configure(service, local)
    try:
        app = ServerApp(service, ServerSettings(forward=True), path)
        monkeypatch.delenv("NEW_KEY", raising=False)
        assert not asyncio.run(app.reload.reload())
        assert service.router.config is local
        assert app.gateway is not None
        assert not app.gateway.knows("openai/new")
        monkeypatch.setenv("NEW_KEY", "sk-0123456789")
        assert asyncio.run(app.reload.reload())
        assert app.gateway.knows("openai/new")
    finally:
        configure(service, CONFIG)
