"""Deciding with a language model on another machine, behind vLLM, SGLang or llama-server.

Prompts are written here, with the model's own vocabulary, so that they are those of :class:`GenerativeDecider`, and no message
can forge a control token. The server is asked how probable the tokens are between which answers part.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from archroute_edge.conversation import TrimmedConversation, Turn, trim
from archroute_edge.deciders._decider import Decider
from archroute_edge.deciders._remote_server import RemoteServer, together
from archroute_edge.deciders._settings import remote_fingerprint
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.decoding import AnswerScorer, AnswerSet, Path
from archroute_edge.engine import Cancellation, LoadedModel, Logits
from archroute_edge.errors import ContextOverflowError, EngineError, RemoteError
from archroute_edge.prompts import PromptBuilder, PromptFormat, StaticParts, common_prefix_length
from archroute_edge.routes import RouteTable

_MOST_TABLES: Final = 64
_SLACK_TOKENS: Final = 64
KEPT_S: Final = 60.0
"""A server may get another model without a word. So much later a verdict of the former one answers no question."""


@dataclass(frozen=True)
class _Table:
    """What is worked out once for a route table."""

    static: StaticParts
    answers: AnswerSet
    scorer: AnswerScorer


@dataclass(frozen=True)
class _Prompt:
    """A conversation that is ready to be asked about."""

    table: _Table
    tokens: list[int]
    kept: TrimmedConversation
    seconds: float


class RemoteDecider(Decider):
    """A vocabulary on this machine, and a server that has the model.

    Args:
        model: loaded without its weights; closed with the decider.
        name: stands in decisions as :attr:`Verdict.decided_by`.
        server: closed with the decider.
        prompt_format: how the model wants to be asked.
        budget: tokens of conversation in a prompt.
    """

    kept_s = KEPT_S

    def __init__(self, model: LoadedModel, name: str, server: RemoteServer, prompt_format: PromptFormat, budget: int) -> None:
        self.model = model
        self.model.fingerprint = remote_fingerprint(server.address, model.path)
        self.name = name
        self.prompt = PromptBuilder(model, prompt_format)
        self.batch_size = self.list_size = server.address.concurrency
        self._server = server
        self._budget = budget
        self._tables: OrderedDict[RouteTable, _Table] = OrderedDict()
        self._lock = threading.Lock()

    def connect(self, table: RouteTable, cancellation: Cancellation) -> None:
        """Reach the server, see whether it does what it is asked to, and whether ``table`` fits.

        Raises:
            RemoteError: it cannot be reached, or cannot be used.
            ContextOverflowError: the table does not fit.
        """
        self._prepare(table)
        self._server.wait_for(self._server.deciding(self._server.ready), cancellation)
        self.check_table(table)

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """As :meth:`Decider.decide_many` says, side by side.

        Raises:
            RemoteError: the server gave no answer to one of them.
        """
        found = self.decide_each(table, conversations, scores=scores, keep=keep, cancellation=cancellation)
        for each in found:
            if isinstance(each, RemoteError):
                raise each
        return [each for each in found if isinstance(each, Verdict)]

    def decide_each(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict | RemoteError]:
        """As :meth:`Decider.decide_each` says. From any thread."""
        cancellation = cancellation or Cancellation()
        found: list[Verdict | RemoteError] = []
        for start in range(0, len(conversations), self.list_size):
            prompts = [self._prompt(table, turns, cancellation) for turns in conversations[start : start + self.list_size]]
            found += self._server.wait_for(self._decide_all(prompts, scores), cancellation)
        return found

    async def _decide_all(self, prompts: Sequence[_Prompt], scores: bool) -> list[Verdict | RemoteError]:
        found = await asyncio.gather(
            *(self._server.deciding(partial(self._decide, prompt, scores)) for prompt in prompts), return_exceptions=True
        )
        for each in found:
            if not isinstance(each, (Verdict, RemoteError)):
                raise each
        return [each for each in found if isinstance(each, (Verdict, RemoteError))]

    async def _decide(self, prompt: _Prompt, scores: bool) -> Verdict:
        started = time.perf_counter()
        asked = _Asked(self._server, prompt.tokens)
        route = await _decode(asked, prompt.table.answers)
        decided = time.perf_counter()
        scorer = prompt.table.scorer
        await asked.complete(scorer.branches(None if scores else route))
        probabilities = {each: scorer.probability(each, asked.rows) for each in (scorer.routes if scores else [route])}
        ended = time.perf_counter()
        n_prompt, n_reused = len(prompt.tokens), min(asked.n_cached, len(prompt.tokens))
        n_answer = len({path[:length] for path in asked.found for length in range(1, len(path) + 1)})
        spans = (prompt.seconds + ended - started, 0.0, prompt.seconds, decided - started, ended - decided)
        return Verdict(
            route=route,
            confidence=probabilities[route],
            scores=probabilities if scores else None,
            tokens=TokenCounts(n_prompt, n_reused, n_prompt - n_reused + n_answer, n_answer, len(asked.found)),
            timings=Timings(*(1000 * seconds for seconds in spans)),
            dropped_turns=prompt.kept.dropped,
            cut_turns=prompt.kept.cut,
            decided_by=self.name,
            prompt_format=self.prompt.format.name,
        )

    def warm(
        self, table: RouteTable, turns: Sequence[Turn] | None, *, keep: bool = True, cancellation: Cancellation | None = None
    ) -> Warmup:
        """As :meth:`Decider.warm` says: the server keeps what it has evaluated, if its own cache does.

        Raises:
            RemoteError: the server gave no answer.
        """
        started = time.perf_counter()
        cancellation = cancellation or Cancellation()
        prepared = self._prepare(table)
        beginning: Sequence[int] = prepared.static.prefix
        if turns is not None:
            kept = self._trim(turns, cancellation).turns
            prompt = self.prompt.tokens(table, kept)
            longer = self.prompt.tokens(table, [*kept[:-1], replace(kept[-1], content=kept[-1].content + " go on")])
            beginning = prompt[: max(common_prefix_length(prompt, longer), 1)]
        ids = prepared.answers.allowed(b"")[0][:1].tolist()
        found = self._server.wait_for(self._server.deciding(partial(self._server.ask, beginning, ids)), cancellation)
        return Warmup(len(beginning), len(beginning) - found.n_cached, 1000 * (time.perf_counter() - started))

    def check_table(self, table: RouteTable) -> None:
        """As :meth:`Decider.check_table` says: whether the server takes such long prompts, if it has named a limit."""
        served = self._server.served
        if served is None or served.n_ctx is None:
            return
        prepared = self._prepare(table)
        n_rest = prepared.static.n_closing + max(map(len, prepared.answers.canonical)) + _SLACK_TOKENS
        needed = len(prepared.static.prefix) + self._budget + n_rest
        if needed > served.n_ctx:
            raise ContextOverflowError(
                f"the table of {len(table)} routes does not fit: {len(prepared.static.prefix)} tokens of routes, "
                f"{self._budget} of conversation and {n_rest} of instructions and answer are {needed}, and {self.name} takes "
                f"{served.n_ctx}; use fewer or shorter routes, a smaller budget, or start the server with a larger context"
            )

    @property
    def epoch(self) -> int:
        """As :meth:`Decider.epoch` says."""
        return self._server.n_breaks

    def close(self) -> None:
        """Close the connections and the vocabulary."""
        self._server.close()
        self.model.close()

    def _prepare(self, table: RouteTable) -> _Table:
        with self._lock:
            found = self._tables.pop(table, None)
            if found is None:
                answers = AnswerSet(self.model.vocabulary, self.prompt.answers(table))
                found = _Table(self.prompt.static_parts(table), answers, AnswerScorer(answers))
            self._tables[table] = found
            while len(self._tables) > _MOST_TABLES:
                self._tables.popitem(last=False)
            return found

    def _prompt(self, table: RouteTable, turns: Sequence[Turn], cancellation: Cancellation) -> _Prompt:
        started = time.perf_counter()
        prepared = self._prepare(table)
        kept = self._trim(turns, cancellation)
        return _Prompt(prepared, self.prompt.tokens(table, kept.turns), kept, time.perf_counter() - started)

    def _trim(self, turns: Sequence[Turn], cancellation: Cancellation) -> TrimmedConversation:
        def count(turn: Turn) -> int:
            cancellation.check()
            return self.prompt.count_tokens(turn)

        return trim(turns, self._budget, count)


class _Asked:
    """What a server has said of one prompt: the logarithms of probabilities after each path of the answer."""

    def __init__(self, server: RemoteServer, prompt: Sequence[int]) -> None:
        self._server = server
        self._prompt = prompt
        self.found: dict[Path, dict[int, float]] = {}
        self.n_cached = 0
        """Tokens of the prompt that the server had in its cache when it was first asked."""

    async def after(self, path: Path, ids: Sequence[int]) -> dict[int, float]:
        """Those of ``ids`` after ``path``."""
        reply = await self._server.ask([*self._prompt, *path], ids)
        if not self.found:
            self.n_cached = reply.n_cached
        self.found[path] = reply.logarithms
        return reply.logarithms

    async def complete(self, branches: Mapping[Path, Sequence[int]]) -> None:
        """Ask about those branches that were not met yet."""
        await together(self.after(path, ids) for path, ids in branches.items() if path not in self.found)

    def rows(self, path: Path, tokens: Sequence[int]) -> Logits:
        """As :meth:`AnswerScorer.probability` reads them."""
        return np.array([self.found[path][token] for token in tokens], np.float32)


async def _decode(asked: _Asked, answers: AnswerSet) -> str:
    """The route that greedy decoding gives.

    The server is asked only where answers part: what all of them share is taken for granted.
    """
    path: Path = ()
    consumed = b""
    while True:
        shared = answers.shared(consumed)
        for token in answers.guess(path, consumed):
            piece = answers.piece(token)
            if not shared.startswith(consumed + piece):
                # Others of the answers that are still possible are written with other tokens here.
                break
            path, consumed = (*path, token), consumed + piece
        ids, pieces = answers.allowed(consumed)
        if not len(ids):
            raise EngineError(f"no token continues the answer after {consumed!r}; the vocabulary lacks bytes")
        row = await asked.after(path, ids.tolist())
        token = min(row, key=lambda each: (-row[each], each))
        path, consumed = (*path, token), consumed + pieces[token]
        routes = answers.routes(answers.alive(consumed))
        if len(routes) == 1:
            return routes.pop()
