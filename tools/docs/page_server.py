"""A server in this process whose page shows made-up traffic: real decisions, with answers of models that nobody asked."""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from types import TracebackType
from typing import Any, Final

import uvicorn

from archroute_edge import Decision, Router, RoutingConfig, RoutingService, parse_config
from archroute_edge.record import Entry, Try, Usage
from archroute_edge.server import ServerSettings
from archroute_edge.server.http import bind
from archroute_edge.server.http._app import ServerApp

CONFIG: Final = """
model_providers:
  - {model: anthropic/claude-sonnet-4-6, access_key: unused, default: true}
  - {model: openai/gpt-5-mini, access_key: unused}
  - {model: "ollama/qwen3:8b", base_url: "http://localhost:11434"}
routing_preferences:
  - {name: coding, description: "Writing of new code, functions and scripts",
     models: [anthropic/claude-sonnet-4-6, openai/gpt-5-mini]}
  - {name: bug_fixing, description: Finding and fixing of errors and bugs in code,
     models: [anthropic/claude-sonnet-4-6, openai/gpt-5-mini]}
  - {name: email_writing, description: Writing and rewording of emails and letters,
     models: ["ollama/qwen3:8b", openai/gpt-5-mini]}
  - {name: translation, description: Translation of text from one language into another,
     models: ["ollama/qwen3:8b", openai/gpt-5-mini]}
  - {name: travel_planning, description: "Planning of trips, hotels and flights",
     models: [openai/gpt-5-mini, anthropic/claude-sonnet-4-6]}
  - {name: data_analysis, description: "Analysis of data and tables, statistics and SQL queries",
     models: [openai/gpt-5-mini, anthropic/claude-sonnet-4-6]}
"""
MESSAGES: Final = (
    *("write a Python quicksort", "a bash script that renames photos by date", "add a dark theme to this page"),
    *("my test raises an IndexError", "why does this loop never end?", "the build fails with 'undefined symbol'"),
    *("email a client: we are late", "reword this letter, it is too formal", "a reply to the landlord about the heating"),
    *("'good morning' in Greek?", "translate this menu into English", "what does 'Feierabend' mean in French"),
    *("plan a weekend in Prague", "a train from Oslo to Bergen on Friday", "a hotel near the station in Lyon"),
    *("plot sales per shop in May", "the average order value by month, in SQL", "is this difference significant?"),
    *("thanks, that is all", "who are you?"),
)
# US dollars for a million tokens, prompt and answer, and milliseconds to the first byte.
_MODELS: Final = {
    "anthropic/claude-sonnet-4-6": (3.0, 15.0, 820.0),
    "openai/gpt-5-mini": (0.25, 2.0, 540.0),
    "ollama/qwen3:8b": (0.0, 0.0, 260.0),
}
_LAST_S: Final = 3540
_STARTED_WITHIN_S: Final = 30


class PageServer:
    """The application on a free port, as long as it is entered.

    Args:
        config: the routes.
        settings: further settings of the server.
    """

    def __init__(self, config: RoutingConfig | None = None, **settings: Any) -> None:
        router = Router(config=config or parse_config(CONFIG), model="mini", threads=1, prefix_cache=False)
        self.router = router
        self.app = ServerApp(RoutingService(router), ServerSettings(port=0, **settings))
        self._socket = bind(self.app.settings)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self.app.asgi, log_config=None, ws="none", lifespan="on"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> PageServer:
        self._thread.start()
        ends = time.monotonic() + _STARTED_WITHIN_S
        while not self._server.started:
            if time.monotonic() > ends or not self._thread.is_alive():
                raise RuntimeError("the server does not start")
            time.sleep(0.05)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.app.recent.close()
        self._server.should_exit = True
        self._thread.join(_STARTED_WITHIN_S)

    def make_traffic(self, count: int, seed: int = 1) -> None:
        """Let ``count`` requests have come within the last hour, more and more of them."""
        # As if the server had been there all the time.
        self.app.recent._since = min(self.app.recent._since, time.time() - _LAST_S)
        rng = random.Random(seed)
        # The machine may have other work: the shortest of some times is the router's own.
        tried = [[self.router.route(message) for _ in range(3)] for message in MESSAGES]
        decisions = [min(each, key=lambda decision: decision.timings.total_ms) for each in tried]
        now = time.time()
        # It begins slowly, and has its ups and downs.
        weights = [(0.3 + second / _LAST_S) * (1 + 0.6 * math.sin(second / 420)) for second in range(_LAST_S)]
        for seconds in sorted(rng.choices(range(_LAST_S), weights, k=count)):
            self.app.recent.add(_entry(rng.choice(decisions), now - _LAST_S + seconds, rng))


def _entry(decision: Decision, when: float, rng: random.Random) -> Entry:
    tries = []
    targets = list(decision.models)
    if rng.random() < 0.04 and len(targets) > 1:
        refused = targets.pop(0)
        tries.append(Try(refused, refused.partition("/")[0], 429, "rate_limited", None, 40 + 40 * rng.random()))
    model = targets[0]
    failed = rng.random() < 0.008
    price_in, price_out, usual = _MODELS[model]
    first = usual * rng.lognormvariate(0, 0.3)
    total = first * (2 + 3 * rng.random())
    tries.append(
        Try(model, model.partition("/")[0], 503 if failed else 200, "server_error" if failed else None, None, total)
        if failed
        else Try(model, model.partition("/")[0], 200, None, first, total)
    )
    decision_ms = decision.timings.total_ms * rng.lognormvariate(0, 0.12)
    tokens = rng.randrange(200, 6000), rng.randrange(40, 1500)
    usage = Usage() if failed else Usage(*tokens, cached=rng.choice((0, 0, tokens[0] // 2)))
    default_in, default_out, _ = _MODELS["anthropic/claude-sonnet-4-6"]
    return Entry(
        id=uuid.UUID(int=rng.getrandbits(128)).hex,
        time=when,
        operation="chat",
        outcome="failed" if failed else "completed",
        status=503 if failed else 200,
        asked_model="auto",
        route=decision.route,
        confidence=decision.confidence,
        decided_by=decision.decided_by,
        reason=decision.reason,
        model_reason=decision.model_reason,
        model=model,
        tries=tuple(tries),
        streamed=rng.random() < 0.8,
        decision_ms=decision_ms,
        first_byte_ms=None if failed else sum(each.total_ms for each in tries[:-1]) + first + decision_ms,
        total_ms=decision_ms + sum(each.total_ms for each in tries),
        usage=usage,
        cost=None if failed else (tokens[0] * price_in + tokens[1] * price_out) / 1e6,
        default_cost=None if failed else (tokens[0] * default_in + tokens[1] * default_out) / 1e6,
    )
