"""Behind archgw and Plano: the configuration files of docs/clients.md, and requests of exactly the shapes that they send."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.config import RoutingConfig, parse_config
from archroute_edge.routing import RoutingService
from tests.server.conftest import CONFIG, Client, configure

CLIENTS = Path(__file__).parents[2] / "docs" / "clients.md"

# As the releases hold them, with the sha256 of each; the braces of the last are doubled there, too.
GATEWAY = (
    "\nYou are a helpful assistant designed to find the best suited route.\nYou are provided with route description within "
    "<routes></routes> XML tags:\n<routes>\n{routes}\n</routes>\n\n<conversation>\n{conversation}\n</conversation>\n\nYour "
    "task is to decide which route is best suit with user intent on the conversation in <conversation></conversation> XML "
    "tags.  Follow the instruction:\n1. If the latest intent from user is irrelevant or user intent is full filled, response "
    'with other route {"route": "other"}.\n2. You must analyze the route descriptions and find the best match route for user '
    "latest intent.\n3. You only response the name of the route that best matches the user's request, use the exact name in "
    "the <routes></routes>.\n\nBased on your analysis, provide your response in the following JSON formats if you decide to "
    'match any route:\n{"route": "route_name"}\n'
)
ORCHESTRATOR = (
    "\nYou are a helpful assistant that selects the most suitable routes based on user intent.\nYou are provided with a list "
    "of available routes enclosed within <routes></routes> XML tags:\n<routes>\n{routes}\n</routes>\n\nYou are also given the "
    "conversation context enclosed within <conversation></conversation> XML tags:\n<conversation>\n{conversation}\n"
    "</conversation>\n\n## Instructions\n1. Analyze the latest user intent from the conversation.\n2. Compare it against the "
    "available routes to find which routes can help fulfill the request.\n3. Respond only with the exact route names from "
    "<routes>.\n4. If no routes can help or the intent is already fulfilled, return an empty list.\n\n## Response Format\n"
    'Return your answer strictly in JSON as follows:\n{{"route": ["route_name_1", "route_name_2", "..."]}}\nIf no routes are '
    "needed, return an empty list for `route`.\n"
)
SHA256 = {
    GATEWAY: "8004153a5e58066139d261d56392543ef29c63487ad4872aaba4d29929890dde",
    ORCHESTRATOR: "394e1dab0c2609822f9efbacf9a1faba18b63d645d547e7686adb00e51028882",
}

MESSAGES = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "Hi! How can I help?"},
    {"role": "user", "content": "there is a bug in my code, please fix it: naïve = {routes}"},
]
HEADERS = {
    "Content-Type": "application/json",
    "x-arch-llm-provider-hint": "arch-router",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x-request-id": "5e9d0e6c-8f6c-4b27-a4b2-6a6c3a5ecb6e",
    "model": "arch-router",
}


def documented(name: str) -> RoutingConfig:
    """A configuration file as the page shows it."""
    (text,) = re.findall(rf"```yaml\n(# {re.escape(name)}\n.*?)```", CLIENTS.read_text(encoding="utf-8"), re.DOTALL)
    return parse_config(text)


def as_gateway(config: RoutingConfig) -> str:
    """The prompt as archgw writes it: compact JSON, nothing escaped that need not be."""
    routes = [{"name": route.name, "description": route.description} for route in config.table]
    return _filled(GATEWAY, _compact(routes), _compact(MESSAGES))


def as_orchestrator(config: RoutingConfig) -> str:
    """The prompt as Plano writes it: an object a line, the conversation indented."""
    parameters: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    routes = [{"name": each.name, "description": each.description, "parameters": parameters} for each in config.table]
    lines = "\n".join(json.dumps(route, ensure_ascii=False) for route in routes)
    return _filled(ORCHESTRATOR, lines, json.dumps(MESSAGES, indent=4, ensure_ascii=False))


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _filled(template: str, routes: str, conversation: str) -> str:
    assert hashlib.sha256(template.encode()).hexdigest() == SHA256[template]
    before, _, rest = template.partition("{routes}")
    middle, _, after = rest.partition("{conversation}")
    return before + routes + middle + conversation + after


def request(prompt: str) -> bytes:
    return _compact({"model": "arch-router", "messages": [{"role": "user", "content": prompt}], "temperature": 0.01}).encode()


@pytest.fixture
def configured(service: RoutingService) -> Iterator[RoutingService]:
    yield service
    configure(service, CONFIG)


@pytest.mark.parametrize("knows_the_routes", [True, False])
def test_plano_gets_a_list(client: Client, configured: RoutingService, knows_the_routes: bool) -> None:
    """With a name in its place, Plano fails every request."""
    config = documented("plano.yaml")
    if knows_the_routes:
        configure(configured, config)
    answer = client("POST", "/v1/chat/completions", content=request(as_orchestrator(config)), headers=HEADERS)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == '{"route": ["bug fixing"]}'
    assert configured.router.route(MESSAGES, routes=config.table).route == "bug fixing"
    table, route = ("config", "bug fixing") if knows_the_routes else ("inline", "inline")
    assert client.metric(f'archroute_decisions_total{{route="{route}",table="{table}"}}') == 1


def test_archgw_gets_a_name(client: Client, configured: RoutingService) -> None:
    config = documented("arch_config.yaml")
    configure(configured, config)
    answer = client("POST", "/v1/chat/completions", content=request(as_gateway(config)), headers=HEADERS)
    assert answer.status_code == 200, answer.text
    route = json.loads(answer.json()["choices"][0]["message"]["content"])["route"]
    assert route == configured.router.route(MESSAGES).route


def test_programs_that_ask_plano_can_ask_us(client: Client, configured: RoutingService) -> None:
    """The same body, the same answer, and the file's own models."""
    configure(configured, documented("plano.yaml"))
    body = {"model": "gpt-4o-mini", "messages": MESSAGES, "temperature": 0.5, "tools": [], "stream": True}
    value = client.post("/routing/v1/chat/completions", body, headers=HEADERS).json()
    assert value == {
        "models": ["openai/gpt-4o"],
        "route": "bug fixing",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "session_id": None,
        "pinned": False,
        "switched": False,
    }
