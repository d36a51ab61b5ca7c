"""What a configuration says about forwarding: how models are reached, what they take and cost, and how traffic is shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Upstream:
    """How a model is reached, as its provider entry writes it. Nothing is filled in: keys stay names of variables.

    Args:
        base_url: where the provider's API is; None for the built-in address of a known provider.
        interface: ``provider_interface``: which API is spoken there; None for the provider's own.
        access_key: ``$NAME`` or ``${NAME}`` for an environment variable, or the key itself.
        passthrough_auth: whether the client's own credentials go upstream instead.
        headers: further headers of every request; a value may name variables.
        lines: field to its line in the file, counted from 1, for messages.
    """

    base_url: str | None = field(default=None, repr=False)
    interface: str | None = None
    access_key: str | None = field(default=None, repr=False)
    passthrough_auth: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    lines: Mapping[str, int] = field(default_factory=dict, hash=False, compare=False, repr=False)


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens; ``cached`` is for prompt tokens that the provider had in its cache."""

    input: float
    output: float
    cached: float | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model; None where nothing is stated, and then nothing is filtered by it.

    Args:
        context_window: tokens that prompt and answer may have together.
        images: whether it reads images.
        tools: whether it calls tools.
        price: from the configuration or the price file.
        first_byte_timeout: seconds to wait for the first byte of an answer.
    """

    context_window: int | None = None
    images: bool | None = None
    tools: bool | None = None
    price: Price | None = None
    first_byte_timeout: float | None = None


@dataclass(frozen=True)
class Ramp:
    """A growing share of traffic for one target, linear in time; computed from the clock, so that it needs no state.

    Args:
        model: the target.
        first: its share at ``start``, 0 to 1; before that it gets none.
        last: its share at the end and afterwards, 0 to 1.
        start: when it begins, with a time zone.
        seconds: how long it takes.
    """

    model: str
    first: float
    last: float
    start: datetime
    seconds: float


@dataclass(frozen=True)
class Canary:
    """When a new target is drawn back: it did worse than the incumbent, the target with the largest share, by a margin.

    Args:
        model: the target on trial.
        window: requests of each side that are compared, the latest ones; both must have that many.
        error_margin: by how much its share of failed requests may be larger, 0 to 1.
        latency_margin: by which part its median time to the first byte may be longer: 0.5 for half as long again.
    """

    model: str
    window: int = 100
    error_margin: float = 0.05
    latency_margin: float = 0.5


@dataclass(frozen=True)
class Shadow:
    """A share of requests that another model gets as well, after the client's answer, for comparison."""

    model: str
    share: float


@dataclass(frozen=True)
class TrafficRule:
    """How the targets of one route or alias share its traffic.

    Args:
        weights: target to its share; shares need not add up to anything, and 0 leaves a target out. Empty where the order of
            the file counts. An alias of the configuration states its weights itself.
        ramp: a target whose share grows; the others share the rest by their weights, or the first of them takes it.
        canary: a target on trial.
        shadow: a model that is asked as well.
    """

    weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    ramp: Ramp | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None


@dataclass(frozen=True)
class KeyRule:
    """A client's API key and its limits; None where there is no limit.

    Args:
        name: what logs and the record call it.
        key: ``$NAME`` or ``${NAME}`` for an environment variable, or the key itself.
        requests_per_minute: requests.
        tokens_per_minute: tokens of prompts and answers together, as upstreams report them, or else as they are estimated.
        line: of the entry, for messages.
    """

    name: str
    key: str = field(repr=False)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ForwardSettings:
    """The section ``archroute`` of a configuration: what only this program reads.

    Args:
        models: model, as the configuration names it, to what is stated about it.
        prices: a file in LiteLLM's ``model_prices_and_context_window`` format.
        routes: route to the sharing of its traffic.
        aliases: the same for aliases.
        keys: further API keys of clients, with their limits.
        timeout: seconds for a whole request, all its tries and waiting together, up to the first byte of the answer.
        first_byte_timeout: seconds to wait for the first byte of one target, if its model states none. None waits 60 seconds
            for a stream; an answer in one piece has no byte until it is whole, and may take all of ``timeout``.
        rest_after: failures in a row after which a target rests.
        rest: seconds that it rests.
        max_switch_spend_pct: how much of what a conversation would have cost without any switch may be spent on switching its
            model, in percent; None lets it switch freely.
        session_ttl: seconds for which a conversation's model is remembered after its last request.
    """

    models: Mapping[str, ModelFacts] = field(default_factory=dict, hash=False)
    prices: Path | None = None
    routes: Mapping[str, TrafficRule] = field(default_factory=dict, hash=False)
    aliases: Mapping[str, TrafficRule] = field(default_factory=dict, hash=False)
    keys: tuple[KeyRule, ...] = ()
    timeout: float = 600.0
    first_byte_timeout: float | None = None
    rest_after: int = 3
    rest: float = 30.0
    max_switch_spend_pct: float | None = None
    session_ttl: float = 3600.0
