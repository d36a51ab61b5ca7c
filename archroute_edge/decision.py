"""What the router answers with: typed results that carry their counts and timings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Reason = Literal["low_confidence", "deadline", "no_user_text"]
"""Why a decision's route is not the model's own answer."""


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of a decision.

    ``evaluated`` is everything the models computed for this decision: ``prompt - reused + answer``. A table's first decision
    evaluates its static prefix as well, which a prompt that starts with an assistant turn shares all but a few tokens of.

    Of an encoder the prompt is the conversation and the texts of all routes, whose vectors are reused. Where a cascade asked
    a second model, both are added up.
    """

    prompt: int
    """Tokens of the whole prompt."""
    reused: int
    """Tokens of it that were in a cache already, or loaded from disk."""
    evaluated: int
    """Tokens that were put through the model."""
    answer: int
    """Those among them that belong to the answer: guessed, chosen or scored."""
    evaluations: int
    """How often something was evaluated; more than 512 tokens at once go to llama.cpp in pieces. Of messages that shared an
    evaluation the first one has it."""


@dataclass(frozen=True)
class Timings:
    """Wall-clock times in milliseconds. ``total_ms`` is from the call to the result, waiting for other threads included.

    Messages of a batch that were evaluated together each have an equal share of what they took together.
    """

    total_ms: float
    wait_ms: float
    """Until other decisions on the same router were done."""
    prompt_ms: float
    """Rendering and tokenizing."""
    evaluate_ms: float
    """Evaluating, and picking the answer."""
    score_ms: float
    """What confidence and scores took beyond that."""


@dataclass(frozen=True)
class Verdict:
    """What a decider found for one conversation: the route, how sure it is, and who says so."""

    route: str
    confidence: float
    scores: Mapping[str, float] | None
    tokens: TokenCounts
    timings: Timings
    dropped_turns: int
    cut_turns: int
    decided_by: str
    prompt_format: str | None
    reason: Reason | None = None
    """Why it is not the answer that was to be had: there was no time for it, or a cascade's encoder was calibrated."""


@dataclass(frozen=True)
class Decision:
    """Where a conversation should go.

    Args:
        route: the route's name, ``other`` where none fits.
        matched: whether a route fits.
        model: the model to ask, or None where the configuration names none.
        models: all models in the order to try them; empty where there is none.
        confidence: probability of ``route`` among all answers, 0 to 1.
        scores: probability of every route and of ``other``, where asked for; sums to 1.
        tokens: token counts.
        timings: times in milliseconds.
        trimmed: whether parts of the conversation were left out: too much for a prompt, or more than an encoder reads.
        dropped_turns: earlier turns that were left out whole.
        cut_turns: turns whose middle was left out.
        decided_by: name of the model that decided; None if none did, for one of the reasons below. Confidence and token
            counts are 0 then, and there are no scores.
        prompt_format: the format it was asked in; None for an encoder, which is asked without a prompt.
        reason: why the route is not the model's own answer: ``low_confidence`` where a calibration holds ``other`` for the
            better one, ``deadline`` where the time was up before the model had answered, ``no_user_text`` if there was nothing
            to read (a picture alone, no messages), else None.
    """

    route: str
    matched: bool
    model: str | None
    models: tuple[str, ...]
    confidence: float
    scores: Mapping[str, float] | None
    tokens: TokenCounts
    timings: Timings
    trimmed: bool
    dropped_turns: int
    cut_turns: int
    decided_by: str | None
    prompt_format: str | None
    reason: Reason | None = None

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain values for ``json.dumps``; ``scores`` only where they were asked for."""
        values = asdict(self)
        values["models"] = list(self.models)
        if self.scores is None:
            del values["scores"]
        values["timings"] = {name: round(value, 3) for name, value in values["timings"].items()}
        return values


@dataclass(frozen=True)
class Warmup:
    """What :meth:`archroute_edge.Router.warm` did: tokens of the prompt's beginning, and how many were new."""

    tokens: int
    evaluated: int
    total_ms: float

    @staticmethod
    def reply(done: Warmup | None) -> dict[str, Any]:
        """A warm-up as plain values; None stands for one that was called off, or gave way to a newer one."""
        found = Warmup(0, 0, 0.0) if done is None else done
        return {"done": done is not None, **asdict(found), "total_ms": round(found.total_ms, 3)}
