"""All that forwards requests, for one configuration at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from archroute_edge.config import RoutingConfig
from archroute_edge.gateway._account import Account
from archroute_edge.gateway._answer_text import AnswerText
from archroute_edge.gateway._error_bodies import dump, error_body
from archroute_edge.gateway._forward_request import AUTO, ForwardRequest
from archroute_edge.gateway._forwarding import Forwarding
from archroute_edge.gateway._headers import Headers, reply_headers
from archroute_edge.gateway._health import Health
from archroute_edge.gateway._key_limits import KeyLimits
from archroute_edge.gateway._passing_answer import BrokenAnswerError, Forwarded
from archroute_edge.gateway._reach import Reach
from archroute_edge.gateway._redaction import redacted
from archroute_edge.gateway._request_facts import needs_facts, request_facts
from archroute_edge.gateway._sessions import Conversations
from archroute_edge.gateway._shadowing import LONGEST_S, Shadows
from archroute_edge.gateway._stream import HEAD, KeptEnds
from archroute_edge.gateway._target import Target
from archroute_edge.gateway._tries import Began, Trier, TryResult
from archroute_edge.http_client import UpstreamClient
from archroute_edge.record import Entry, EntrySink, Outcome
from archroute_edge.routes import OTHER
from archroute_edge.targets import RequestFacts, TargetOrder, order_targets

logger = logging.getLogger(__name__)

_KEPT_TEXT = 1 << 20
_CLIENT_GONE = 499


@dataclass(frozen=True)
class _Serving:
    """What one configuration comes to."""

    config: RoutingConfig
    reach: Reach
    needs_facts: bool


class Gateway:
    """Sends requests to the models that a configuration names. Belongs to one event loop.

    Args:
        config: the models, and how traffic is shared.
        entries: gets one of every request, when it has ended.
        environment: holds the keys that the configuration names; None for the process's own.
        keep_content: whether entries hold texts.
        proxy: address of a proxy for all upstreams but those on this machine.

    Raises:
        ConfigError: a model cannot be reached as the configuration says: no key, no address, no interface; with file and line.
    """

    def __init__(
        self,
        config: RoutingConfig,
        entries: EntrySink,
        *,
        environment: Mapping[str, str] | None = None,
        keep_content: bool = False,
        proxy: str | None = None,
    ) -> None:
        self._entries = entries
        self._environment = environment
        self._keep_content = keep_content
        self._now = self._serving(config)
        self._client = UpstreamClient(proxy)
        self._shadows = Shadows()
        self.health = Health(config)
        """How the targets do; the record of earlier runs may be filled in."""
        self.limits = KeyLimits(config.forward.keys)
        """What each client's key has used."""
        self._conversations = Conversations(config)
        self._is_closed = False

    def _serving(self, config: RoutingConfig) -> _Serving:
        return _Serving(config, Reach(config, self._environment), needs_facts(config))

    def replace(self, config: RoutingConfig) -> None:
        """Take a new configuration; requests that run finish with the old one.

        Raises:
            ConfigError: as the constructor; the old one stays.
        """
        self._now = self._serving(config)
        self.health.replace(config)
        self.limits.replace(config.forward.keys)
        self._conversations.replace(config)

    def chooses(self, model: str) -> bool:
        """Whether what answers a request for it may depend on the conversation: for :data:`AUTO` and for an alias."""
        return model == AUTO or model in self._now.config.aliases

    def knows(self, model: str) -> bool:
        """Whether a request may ask for it: :data:`AUTO`, an alias, or a model that can be reached."""
        return self.chooses(model) or self._now.reach.find(model) is not None

    @property
    def models(self) -> tuple[str, ...]:
        """What requests may ask for, wildcards excepted."""
        return tuple(dict.fromkeys((AUTO, *self._now.config.aliases, *self._now.reach.models)))

    @property
    def client_keys(self) -> Mapping[str, str]:
        """The keys of clients, by their names."""
        return self._now.reach.client_keys

    def label(self, model: str) -> str:
        """What stands for a model in metrics: never a name that a client has chosen."""
        target = self._now.reach.find(model)
        return "other" if target is None else target.label

    def facts_of(self, body: Mapping[str, Any]) -> RequestFacts:
        """What a target must be able to take, if anything depends on that. Any thread may ask; a long body takes its time.

        Args:
            body: the request's JSON object.
        """
        return request_facts(body) if self._now.needs_facts else RequestFacts()

    async def forward(self, request: ForwardRequest) -> Forwarded:
        """The first target's answer that is one, as soon as its first byte is there.

        Cancelling it ends the request at the upstream.
        """
        now = self._now
        account = Account(request, now.config, self._keep_content)
        order = self._order(now, request)
        account.order = order
        found = [target for model in order.models if (target := now.reach.find(model)) is not None]
        targets = [target for target in found if request.operation in target.urls]
        if not targets:
            return self._refused(account, *_no_target(request, order, found), "model")
        timeout = now.config.forward.timeout
        trier = Trier(self._client, request, stall=timeout)

        def failed(result: TryResult, number: int) -> None:
            places = order.places if number == 1 and result.target.model == order.first else ()
            self.health.ended(result.target.model, None if result.is_blameless else False, None, places)

        def begins(target: Target) -> None:
            self.health.started(target.model, target.limit(request.is_stream))

        forwarding = Forwarding(trier, targets, request.started + timeout, begins=begins, failed=failed)
        try:
            result = await forwarding.run()
        except asyncio.CancelledError:
            account.tries = forwarding.tries_with_current("aborted")
            self._gone(account)
            raise
        account.tries = forwarding.tries
        if result is None:
            return self._refused(account, 504, f"the decision took all of the {timeout:g} s that a request may take", "timeout")
        if result.began is None:
            assert result.whole is not None
            whole = result.whole
            return self._answer(account, whole.status, [*whole.headers, *account.headers()], whole.body)
        began = result.began
        self.health.answering(account.tries[-1].model)
        account.is_answered = True
        account.first_byte_ms = account.elapsed_ms
        if self.limits.counts_tokens(request.client):
            account.text = AnswerText(request.operation, is_events=began.is_events)
        account.ends = KeptEnds(_KEPT_TEXT if self._keep_content else HEAD, account.text.add if account.text else None)
        holds_request = self._keep_content or order.shadow is not None
        if not holds_request:
            # A long answer must not hold it.
            account.request = request.without_body()
        # An error event may be added to a stream, and keys in one are replaced.
        passing = reply_headers(began.reply.headers, keeps_length=not began.is_events)
        headers = [*((name, redacted(value, began.secrets)) for name, value in passing), *account.headers()]

        def ended(outcome: Outcome, word: str | None) -> None:
            self._ended(account, began, outcome, word)

        return Forwarded(request.operation, began.status, headers, began, account.ends, ended, holds_request=holds_request)

    def _order(self, now: _Serving, request: ForwardRequest) -> TargetOrder:
        """The targets of a request, by what is known now."""
        direct = request.found is None
        decision = request.found.decision if request.found is not None else None
        name = request.model if direct else decision.route if decision is not None else None
        if not direct and name is not None and name != OTHER and name not in now.config.table:
            # The configuration was replaced meanwhile.
            name = None
        ranked = None if decision is None else decision.targets
        anchor = None
        if request.session is not None:
            anchor = self._conversations.find(_conversation(request), request.model)
        return order_targets(
            now.config,
            now.reach.canonical(name) if direct and name is not None else name,
            direct=direct,
            stand_in=now.reach.stand_in(request.operation),
            facts=request.facts,
            key=request.session,
            now=time.time(),
            knowledge=self.health,
            anchor=anchor,
            values=None if ranked is None else {each.model: each.value for each in ranked},
        )

    def _refused(self, account: Account, status: int, message: str, code: str, param: str | None = None) -> Forwarded:
        """An error of ours, without a try."""
        body = dump(error_body(account.request.operation, status, message, code, param))
        headers = [(b"content-type", b"application/json"), *account.headers()]
        return self._answer(account, status, headers, body)

    def _answer(self, account: Account, status: int, headers: Headers, body: bytes) -> Forwarded:
        """A whole error, whose length is known."""
        headers = [*headers, (b"content-length", str(len(body)).encode())]

        def ended(outcome: Outcome, word: str | None) -> None:
            self._entries.add(account.entry(status, outcome, word))

        return Forwarded(account.request.operation, status, headers, body, account.ends, ended)

    def _gone(self, account: Account) -> None:
        """The client went away before there was an answer."""
        if account.tries:
            self.health.ended(account.tries[-1].model, None)
            self.limits.used(account.request.client, account.request.facts.prompt_tokens or 0)
        self._entries.add(account.entry(_CLIENT_GONE, "aborted", None))

    def _ended(self, account: Account, began: Began, outcome: Outcome, word: str | None) -> None:
        """An answer has come to its end, or broke, or its client went away."""
        request, order, last = account.request, account.order, account.tries[-1]
        assert order is not None
        if self._is_closed and outcome == "failed":
            # The connection was closed here.
            outcome = "aborted"
        entry = account.entry(began.status, outcome, word)
        places = order.places if len(account.tries) == 1 and last.model == order.first else ()
        ok = {"completed": True, "failed": False, "aborted": None}[outcome]
        self.health.ended(last.model, ok, last.first_byte_ms, places)
        if request.session is not None and outcome != "failed":
            place = order.places[0] if order.places else None
            conversation, prompt_tokens = _conversation(request), request.facts.prompt_tokens
            self._conversations.answered(conversation, request.model, last.model, entry.usage, prompt_tokens, place)
        if self.limits.counts_tokens(request.client):
            self.limits.used(request.client, _tokens(account, entry))
        self._entries.add(entry)
        if order.shadow is not None and outcome == "completed":
            self._copy(request, order.shadow, entry.id)

    def _copy(self, request: ForwardRequest, model: str, of: str) -> None:
        """Send a request to a shadow model, too."""
        now = self._now
        target = now.reach.find(model)
        if target is None or request.operation not in target.urls:
            return
        copied = replace(request, started=time.perf_counter())
        account = Account(copied, now.config, self._keep_content, shadow_of=of)
        if self._keep_content:
            account.ends = KeptEnds(_KEPT_TEXT)

        async def copy() -> None:
            result = await Trier(self._client, copied, stall=now.config.forward.timeout).attempt(target, LONGEST_S)
            account.tries = [result.noted]
            if result.began is None:
                self._entries.add(account.entry(result.whole.status if result.whole else 502, "failed", None))
                return
            account.is_answered = True
            account.first_byte_ms = account.elapsed_ms
            began = result.began

            def ended(outcome: Outcome, word: str | None) -> None:
                self._entries.add(account.entry(began.status, outcome, word))

            answer = Forwarded(copied.operation, began.status, (), began, account.ends, ended)
            try:
                async for _ in answer.content:
                    pass
            except BrokenAnswerError:
                pass
            finally:
                await answer.close()

        self._shadows.send(len(request.raw), copy)

    async def close(self) -> None:
        """End what still runs, and close the connections."""
        self._is_closed = True
        await self._shadows.close()
        await self._client.close()


def _conversation(request: ForwardRequest) -> str:
    """A session's name; those of different clients are not the same."""
    return request.session or "" if request.client is None else f"{request.client}\0{request.session}"


def _tokens(account: Account, entry: Entry) -> int:
    """The tokens that a request has used, as its upstream reports them; else about as many.

    A stream that ends early has reported none, or those of its beginning.
    """
    request, usage = account.request, entry.usage
    prompt = (request.facts.prompt_tokens or 0) if usage.input is None else usage.input
    if usage.output is not None and entry.outcome == "completed":
        return prompt + usage.output
    return prompt + max(usage.output or 0, account.text.tokens if account.text is not None else 0)


def _no_target(request: ForwardRequest, order: TargetOrder, found: list[Target]) -> tuple[int, str, str]:
    """Status, message and code of the error for a request that no target can take."""
    if found:
        path = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
        names = ", ".join(target.model for target in found)
        spoken = sorted({path[each] for target in found for each in target.urls})
        message = (
            f"{names} does not speak the API of {path[request.operation]}; ask for it at {' or '.join(spoken)}, or choose a "
            "model whose provider speaks this one"
        )
        return 400, message, "unsupported_api"
    if order.models:
        return 404, f"{order.models[0]} is no model of the configuration; name it under model_providers", "model_not_found"
    return 404, "no route fits, and the configuration names no model; state a default_model", "no_target"
