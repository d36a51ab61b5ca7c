"""What docs/clients.md shows of chat clients is done: its configuration, its curl, its two packages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.gateway_server import GatewayServer
from tests.upstream import Upstream
from tests.upstream_replies import TEXT, chat_events

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Chat clients\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.DOTALL)
ADDRESS = "localhost:8642"


def block(kind: str, beginning: str) -> str:
    (found,) = (text for each, text in BLOCKS if each == kind and text.startswith(beginning))
    return str(found)


@pytest.fixture
def server(
    forwarding: Callable[..., GatewayServer], one: Upstream, two: Upstream, monkeypatch: pytest.MonkeyPatch
) -> GatewayServer:
    config = block("yaml", "# chat.yaml")
    for name, upstream in (("OPENAI_API_KEY", one), ("ANTHROPIC_API_KEY", two)):
        monkeypatch.setenv(name, "sk-of-the-provider")
        assert f"${name}" in config
        config = config.replace(f"${name}", f'${name}, base_url: "{upstream.url}"')
    return forwarding(config)


def test_curl(server: GatewayServer, two: Upstream) -> None:
    (line,) = (line for line in block("console", "$ archroute serve").splitlines() if line.startswith("$ curl"))
    _, curl, option, url, data, body = shlex.split(line)
    assert (curl, option, data) == ("curl", "-N", "-d")
    # What curl says of the body that -d gives it.
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = server.client.post(f"http://{url}".replace(f"http://{ADDRESS}", ""), content=body, headers=form)
    assert answer.content == b"".join(chat_events(model="claude-sonnet-4-6"))
    assert answer.headers["x-archroute-route"] == "bug_fixing"


@pytest.mark.parametrize(
    ("package", "said"), [("openai", f"bug_fixing anthropic/claude-sonnet-4-6\n{TEXT}{TEXT}"), ("anthropic", TEXT)]
)
def test_packages(server: GatewayServer, package: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = block("python", f"from {package}")
    assert f"http://{ADDRESS}" in code
    namespace: dict[str, object] = {}
    exec(code.replace(f"http://{ADDRESS}", server.address), namespace)
    namespace["client"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.strip() == said
