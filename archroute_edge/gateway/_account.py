"""What is known of one forwarded request by its end, and the entry that comes of it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace

from archroute_edge.config import Price, RoutingConfig
from archroute_edge.gateway._answer_text import AnswerText
from archroute_edge.gateway._forward_request import ForwardRequest
from archroute_edge.gateway._headers import Headers, header_value
from archroute_edge.gateway._stream import KeptEnds
from archroute_edge.gateway._usage import read_usage, response_model
from archroute_edge.record import Content, Entry, Outcome, Try, Usage, session_digest
from archroute_edge.routes import OTHER
from archroute_edge.targets import TargetOrder, model_facts, request_cost


@dataclass
class Account:
    """One forwarded request.

    Args:
        request: it.
        config: what it is served by.
        keep_content: whether the entry holds texts.
        shadow_of: the entry that it repeats with another model.
        order: its targets.
        tries: those that have ended, in their order.
        ends: the first and last bytes of the answer.
        text: counts the answer's text; None if no limit needs it.
        is_answered: whether the last try has answered.
        first_byte_ms: from the request to the answer's first byte.
    """

    request: ForwardRequest
    config: RoutingConfig
    keep_content: bool = False
    shadow_of: str | None = None
    order: TargetOrder | None = None
    tries: list[Try] = field(default_factory=list)
    ends: KeptEnds = field(default_factory=KeptEnds)
    text: AnswerText | None = None
    is_answered: bool = False
    first_byte_ms: float | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def route(self) -> str | None:
        """The decision's route; None if there was no decision."""
        found = self.request.found
        return None if found is None else OTHER if found.decision is None else found.decision.route

    @property
    def reason(self) -> str | None:
        """Why the route is not the router's own answer."""
        found = self.request.found
        return None if found is None else found.reason if found.decision is None else found.decision.reason

    @property
    def elapsed_ms(self) -> float:
        """Since the request came."""
        return 1000 * (time.perf_counter() - self.request.started)

    def headers(self) -> Headers:
        """What the reply says of the decision."""
        found = self.request.found
        decision = found.decision if found is not None else None
        said: dict[bytes, str | None] = {
            b"x-archroute-route": self.route,
            b"x-archroute-model": self.tries[-1].model if self.tries else None,
            b"x-archroute-confidence": f"{decision.confidence:.4f}" if decision is not None else None,
            b"x-archroute-decided-by": decision.decided_by if decision is not None else None,
            b"x-archroute-reason": self.reason,
            b"x-archroute-tries": str(len(self.tries)),
        }
        return [(name, header_value(value)) for name, value in said.items() if value is not None]

    def entry(self, status: int, outcome: Outcome, word: str | None) -> Entry:
        """The entry, now that it has ended.

        Args:
            status: what the client got.
            outcome: how it ended.
            word: why the answer broke off.
        """
        request, total_ms = self.request, self.elapsed_ms
        decision = request.found.decision if request.found is not None else None
        if self.is_answered:
            last = self.tries[-1]
            rest_ms = total_ms - (self.first_byte_ms or total_ms)
            self.tries[-1] = replace(last, error=word or last.error, total_ms=last.total_ms + rest_ms)
        model = self.tries[-1].model if self.tries else None
        usage = read_usage(self.ends) if self.is_answered else Usage()
        default = self.config.default_model
        content = None
        if self.keep_content:
            answer = self.ends.head.decode("utf-8", "replace") if self.is_answered else None
            content = Content(request.raw.decode("utf-8", "replace"), answer)
        return Entry(
            id=self.id,
            time=time.time() - total_ms / 1000,
            operation=request.operation,
            outcome=outcome,
            status=status,
            asked_model=request.model,
            route=self.route,
            confidence=decision.confidence if decision is not None else None,
            scores=decision.scores if decision is not None else None,
            decided_by=decision.decided_by if decision is not None else None,
            reason=self.reason,
            model_reason=self.order.reason if self.order is not None else None,
            expected_scores=decision.expected_scores if decision is not None else None,
            model=model if self.is_answered else None,
            response_model=response_model(self.ends) if self.is_answered else None,
            tries=tuple(self.tries),
            streamed=request.is_stream,
            decision_ms=request.found.ms if request.found is not None else None,
            first_byte_ms=self.first_byte_ms,
            total_ms=total_ms,
            usage=usage,
            cost=self._cost(model, usage) if self.is_answered else None,
            default_cost=self._cost(default, usage) if self.is_answered else None,
            session=session_digest(request.session),
            client=request.client,
            shadow_of=self.shadow_of,
            content=content,
        )

    def _cost(self, model: str | None, usage: Usage) -> float | None:
        price = None if model is None else self._price(model)
        if price is None or usage.input is None or usage.output is None:
            return None
        return request_cost(price, usage.input, usage.output, usage.cached or 0)

    def _price(self, model: str) -> Price | None:
        targets = self.config.aliases.get(model)
        return model_facts(self.config, targets[0].model if targets else model).price
