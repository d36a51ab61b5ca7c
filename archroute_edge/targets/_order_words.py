"""What the order of a request's targets depends on, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from archroute_edge.conversation import Conversation, estimate_tokens
from archroute_edge.decision import ModelReason


@dataclass(frozen=True)
class RequestFacts:
    """What a target must be able to take.

    Args:
        prompt_tokens: of the prompt, as ``estimate_tokens`` counts them; None if nothing is known.
        answer_tokens: the most that the answer may have, if the request says so.
        images: whether there are images in it.
        tools: whether it offers tools.
    """

    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    images: bool = False
    tools: bool = False

    @classmethod
    def of(cls, conversation: Conversation) -> RequestFacts:
        """The facts of messages alone."""
        tokens = estimate_tokens(text for _, text in conversation.texts)
        return cls(tokens, None, conversation.has_images, conversation.offers_tools)


class Place(NamedTuple):
    """Where traffic is shared: a route, ``other`` among them, or an alias. A model alone shares nothing."""

    kind: Literal["route", "alias", "model"]
    name: str


class TargetKnowledge(Protocol):
    """What is known of targets from earlier requests."""

    def latency_ms(self, model: str) -> float | None:
        """The usual time to the first byte; None if too little is known."""

    def is_resting(self, model: str) -> bool:
        """Whether it failed so often of late that it is only asked if no other is left."""

    def is_withdrawn(self, place: Place, model: str) -> bool:
        """Whether it was on trial in ``place`` and did worse than the incumbent."""


@dataclass(frozen=True)
class Anchor:
    """The model that a conversation has, and what leaving it costs.

    Args:
        model: that answered last.
        first_model: that answered first; never switching would have meant to stay with it.
        context_tokens: of the last prompt and its answer: what another model would have to read anew.
        cached_tokens: of the last prompt, as the upstream found them in its cache; None if it does not say.
        spent: US dollars, the sum of what switches have cost.
        baseline: US dollars, what reading the conversation would have cost until now if it had never switched.
        is_warm: whether the upstream probably still has the conversation in its cache.
        chosen: place to the model that answered last there: a conversation may go to and fro between routes.
    """

    model: str
    first_model: str
    context_tokens: int = 0
    cached_tokens: int | None = None
    spent: float = 0.0
    baseline: float = 0.0
    is_warm: bool = True
    chosen: Mapping[Place, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LeftOut:
    """A target that does not stand in the order, and why."""

    model: str
    why: Literal["context_window", "images", "tools", "withdrawn"]


@dataclass(frozen=True)
class TargetOrder:
    """Targets in the order in which to try them; a caller falls back along it when one fails.

    Args:
        models: the targets, as the configuration names them. Those that rest stand last.
        reason: why the first stands first; None if there is none.
        left_out: targets that cannot take the request, or were withdrawn.
        shadow: a model to ask as well, after the client's answer.
        places: where traffic was shared on the way, for :class:`TargetKnowledge`.
    """

    models: tuple[str, ...]
    reason: ModelReason | None
    left_out: tuple[LeftOut, ...] = ()
    shadow: str | None = None
    places: tuple[Place, ...] = ()

    @property
    def first(self) -> str | None:
        """The model to ask first; None if the configuration names none."""
        return self.models[0] if self.models else None
