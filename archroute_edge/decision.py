"""The router's results, with their token counts and timings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Reason = Literal["low_confidence", "deadline", "no_user_text", "unreachable"]
"""Why a decision's route is not the model's own answer."""

ModelReason = Literal[
    "asked_for",
    "cheapest",
    "default_model",
    "fastest",
    "free",
    "listed",
    "no_default_model",
    "no_latencies",
    "no_prices",
    "no_pricing",
    "no_scores",
    "none_fits",
    "only_one_fits",
    "only_target",
    "over_cap",
    "quality",
    "ramp",
    "resting",
    "same_anchor",
    "sticky",
    "weights",
    "within_cap",
    "withdrawn",
]
"""Why the first model stands first; docs/gateway.md, "Traffic", says what each means."""

TargetReason = Literal[
    "best_value", "equal_value", "lower_value", "only_one_fits", "none_fits", "context_window", "images", "tools"
]
"""Why a model that was ranked by its expected score stands where it does."""


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of a decision.

    ``evaluated`` is everything that the models computed for this decision: ``prompt - reused + answer``. A table's first
    decision also evaluates its static prefix; a prompt that starts with an assistant turn shares all but a few tokens of it.

    A decision that a warm-up made ahead of time has evaluated nothing: ``reused`` is the whole prompt.

    For an encoder, the prompt is the conversation and the texts of all routes, whose vectors are reused. If a cascade asked
    both models, the counts are sums.
    """

    prompt: int
    """Tokens of the whole prompt."""
    reused: int
    """Prompt tokens already in a cache, or loaded from disk."""
    evaluated: int
    """Tokens that the model had to read."""
    answer: int
    """Evaluated tokens that belong to the answer: guessed, chosen or scored."""
    evaluations: int
    """Number of evaluations; more than 512 tokens at once go to llama.cpp in pieces. If messages shared an evaluation, only the
    first one counts it."""


@dataclass(frozen=True)
class Timings:
    """Wall-clock times in milliseconds. ``total_ms`` is from the call to the result, waiting for other threads included.

    Messages that were evaluated together have equal shares of the time.
    """

    total_ms: float
    wait_ms: float
    """Waiting for other decisions on the same router."""
    prompt_ms: float
    """Rendering and tokenizing."""
    evaluate_ms: float
    """Evaluating, and picking the answer."""
    score_ms: float
    """What confidence and scores took beyond that."""

    def after(self, wait_ms: float) -> Timings:
        """These, counted from ``wait_ms`` earlier on."""
        return replace(self, total_ms=self.total_ms + wait_ms, wait_ms=self.wait_ms + wait_ms)


@dataclass(frozen=True)
class RankedTarget:
    """A model that was ranked by its expected score and its price.

    Args:
        model: as the configuration names it.
        expected_score: how well it is expected to answer, 0 to 1.
        price: US dollars of this request there, its answer estimated; None if the configuration knows no price.
        value: the expected score less the price times the rate of the route's policy.
        why: ``best_value`` of the first; ``lower_value``, or ``equal_value`` and further down in the file; ``only_one_fits``;
            or why it cannot take the request (``context_window``, ``images``, ``tools``), in which case it is not among the
            decision's models. If no model can, all are, and the first has ``none_fits``.
    """

    model: str
    expected_score: float
    price: float | None
    value: float
    why: TargetReason


@dataclass(frozen=True)
class Verdict:
    """A decider's result for one conversation."""

    route: str
    confidence: float
    scores: Mapping[str, float] | None
    tokens: TokenCounts
    timings: Timings
    dropped_turns: int
    cut_turns: int
    decided_by: str
    prompt_format: str | None
    engine: str | None = None
    """The library that evaluated: ``llama.cpp`` or ``ik``; None for a model on another machine."""
    reason: Reason | None = None
    """Why the route is not the model's own answer: time ran out, the server of a cascade's second model gave none, or the
    calibration of its encoder changed it."""
    vector: Any = field(default=None, repr=False, compare=False)
    """The encoder's vector of the conversation, (width,); None if no encoder read it."""


@dataclass(frozen=True)
class Decision:
    """Where a conversation should go.

    Args:
        route: the route's name, ``other`` if none fits.
        matched: whether a route fits.
        model: the model to ask, or None if the configuration names none.
        models: all models in the order to try them; may be empty.
        confidence: probability of ``route`` among all answers, 0 to 1.
        scores: probability of every route and of ``other``, if asked for; sums to 1.
        tokens: token counts.
        timings: times in milliseconds.
        trimmed: whether parts of the conversation were left out, because it is longer than a prompt holds or an encoder reads.
        dropped_turns: number of earlier turns left out.
        cut_turns: number of turns whose middle was left out.
        decided_by: name of the model that decided; None if none did, for one of the reasons below. Then confidence and token
            counts are 0, and there are no scores.
        prompt_format: the format of the prompt; None for an encoder, which has no prompt.
        engine: the library that evaluated it: ``llama.cpp``, or ``ik`` for ik_llama.cpp; None if none did on this machine.
        reason: why the route is not the model's own answer: ``low_confidence`` if the calibration prefers ``other``,
            ``deadline`` if time ran out before the model had answered, ``no_user_text`` if there was nothing to read (a picture
            alone, no messages), ``unreachable`` if a cascade's encoder decided because the server of the second model gave no
            answer, else None.
        model_reason: why ``model`` stands first among ``models``: ``listed`` for the order of the configuration, ``weights``,
            ``cheapest`` and so on (docs/gateway.md, "Traffic", has all); None if the configuration names no model.
        targets: what is expected of each model of the route and what it costs, if the route prefers ``quality``; else None.
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
    engine: str | None = None
    reason: Reason | None = None
    model_reason: ModelReason | None = None
    targets: tuple[RankedTarget, ...] | None = None

    @property
    def expected_scores(self) -> Mapping[str, float] | None:
        """Model to the score that is expected of it, if the route prefers ``quality``."""
        return None if self.targets is None else {target.model: target.expected_score for target in self.targets}

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain values for ``json.dumps``; ``scores`` only if asked for, ``targets`` only if ranked."""
        values = asdict(self)
        values["models"] = list(self.models)
        if self.scores is None:
            del values["scores"]
        if self.targets is None:
            del values["targets"]
        else:
            values["targets"] = list(values["targets"])
        values["timings"] = {name: round(value, 3) for name, value in values["timings"].items()}
        return values


@dataclass(frozen=True)
class Warmup:
    """The result of :meth:`archroute_edge.Router.warm`: tokens of the prompt's beginning, and how many were evaluated.

    Of a whole conversation: the tokens of the prompt, and all that were evaluated for its decision.
    """

    tokens: int
    evaluated: int
    total_ms: float

    @staticmethod
    def reply(done: Warmup | None) -> dict[str, Any]:
        """A warm-up as plain values; None stands for one that was called off, or gave way to a newer one."""
        found = Warmup(0, 0, 0.0) if done is None else done
        return {"done": done is not None, **asdict(found), "total_ms": round(found.total_ms, 3)}
