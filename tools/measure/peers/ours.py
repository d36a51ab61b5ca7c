"""archroute-edge itself, held to the canonical answer as its peers are."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from archroute_edge import Route, Router, RouteTable, load_config
from archroute_edge.conversation import Turn
from archroute_edge.deciders import GenerativeDecider
from archroute_edge.engine import BatchToken, CompletionEngine, Logits, WantedEngine
from archroute_edge.prompts import CARD
from tools.measure.peers.question import Question, Reply

EXAMPLE = "example"
"""The five routes of Arch-Router's model card."""

_EXAMPLE_ROUTES = Path(__file__).parents[3] / "archroute_edge" / "data" / "example_routes.yaml"
_ROUTE_TABLES = Path(__file__).parent / "route_tables.yaml"
_ANSWER_ON_EXAMPLE = "bug_fixing"
_TOPICS = ("parser", "login page", "csv import", "unit test", "data loader", "web socket", "build script", "cache layer")
_TROUBLES = ("raises errors", "hangs on start", "is too slow", "leaks memory", "loses lines", "crashes on exit")


def table_of(n_routes: int) -> RouteTable:
    """``n_routes`` routes with descriptions of ordinary length, bug_fixing the first."""
    routes = [
        Route(
            _ANSWER_ON_EXAMPLE,
            "Identifying and fixing errors or bugs in the provided code across different programming languages",
        )
    ]
    for number in range(1, n_routes):
        topic, trouble = _TOPICS[number % len(_TOPICS)], _TROUBLES[number % len(_TROUBLES)]
        routes.append(Route(f"topic_{number}", f"Requests about a {topic} of kind {number} that {trouble} in some way"))
    return RouteTable(routes)


@functools.cache
def route_table(name: str) -> RouteTable:
    """The table called ``name``: ``example``, one of route_tables.yaml, or a number of routes."""
    if name == EXAMPLE:
        return load_config(_EXAMPLE_ROUTES).table
    if name.isdecimal():
        return table_of(int(name))
    return RouteTable(Route(**route) for route in yaml.safe_load(_ROUTE_TABLES.read_text(encoding="utf-8"))[name])


@contextlib.contextmanager
def agreeing(answer: Sequence[int], n_prompt: int) -> Iterator[None]:
    """Make every engine prefer the tokens of ``answer`` behind a prompt of ``n_prompt`` tokens, as a trained model would."""
    original = CompletionEngine.evaluate

    def evaluate(self: CompletionEngine, batch: Sequence[BatchToken]) -> Logits:
        rows = original(self, batch)
        places = [entry.position - n_prompt + 1 for entry in batch if entry.wants_logits]
        for row, place in zip(rows, places, strict=True):
            if 0 <= place < len(answer):
                row[answer[place]] += 1e4
        return rows

    CompletionEngine.evaluate = evaluate  # type: ignore[method-assign]
    try:
        yield
    finally:
        CompletionEngine.evaluate = original  # type: ignore[method-assign]


class ArchRoute:
    """A router over a table of its own, which also takes questions on other tables.

    Args:
        model: the GGUF.
        threads: threads for evaluation.
        table: name of its own table, see :func:`route_table`.
        prefix_folder: where it keeps static prefixes; None keeps none.
        n_ctx: cells of the KV cache, where not what the router chooses.
        engine: what evaluates.
    """

    def __init__(
        self,
        model: str,
        threads: int,
        table: str = EXAMPLE,
        prefix_folder: str | None = None,
        n_ctx: int | None = None,
        engine: WantedEngine = "llama.cpp",
    ) -> None:
        self._own = table
        self.router = Router(
            route_table(table),
            model=model,
            prompt_format=CARD.name,
            threads=threads,
            n_ctx=n_ctx,
            engine=engine,
            prefix_cache=prefix_folder or False,
        )
        decider = self.router.decider
        assert isinstance(decider, GenerativeDecider)
        self._decider = decider

    def ask(self, table: str, message: str) -> Question:
        """The question whether ``message`` belongs to the table's first route (bug_fixing of the example's)."""
        routes = route_table(table)
        turns = [Turn("user", message)]
        builder = self._decider.prompt
        prompt, static = builder.tokens(routes, turns), builder.static_parts(routes)
        answer = CARD.reply(json.dumps(_ANSWER_ON_EXAMPLE if table == EXAMPLE else routes.names[0]))
        return Question(
            table,
            message,
            CARD.render(routes, turns),
            prompt,
            len(prompt) - len(static.prefix) - static.n_closing,
            answer,
            self._decider.model.vocabulary.tokenize(answer),
        )

    def decide(self, question: Question) -> Reply:
        """One decision, as an application would have it."""
        routes = None if question.table == self._own else route_table(question.table)
        with agreeing(question.answer_tokens, len(question.prompt)):
            started = time.perf_counter()
            decision = self.router.route(question.message, routes=routes)
            seconds = time.perf_counter() - started
        tokens = decision.tokens
        return Reply(
            seconds,
            CARD.reply(json.dumps(decision.route)),
            tokens.prompt,
            tokens.reused,
            tokens.evaluated,
            decision.timings.evaluate_ms / 1000,
        )

    def flash_attention(self) -> bool:
        """Whether llama.cpp's flash attention is on."""
        return self._decider.engine_settings.flash_attention
