"""A model's calibration: the temperature that makes its probabilities true, and when ``other`` is the better answer.

``archroute calibrate`` fits one on labelled cases and writes it as YAML::

    version: 1
    temperature: 1.31
    other_below: 0.42
    switch_over: 0.87
    model: {name: tiny, fingerprint: 5f0c…}
    prompt_format: card
    n_cases: 480
    created: '2026-01-31'
    cross_validation: {...}

A calibrated probability is P^(1/temperature), divided by the sum of that over the answers (temperature scaling: Guo et al.,
"On Calibration of Modern Neural Networks", 2017). The order of the answers, and so the route, stays; only where the
route's calibrated probability is below ``other_below`` the decision becomes ``other``. ``switch_over``, of an encoder's
calibration only, is the calibrated probability from which on a cascade leaves the decision to it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from archroute_edge.config import Keys, Node, Source, read_text
from archroute_edge.errors import CalibrationError, ConfigError
from archroute_edge.routes import OTHER
from archroute_edge.system import expanded, replaced_when_whole

LOW_CONFIDENCE: Final[Literal["low_confidence"]] = "low_confidence"
"""The reason of a decision that became ``other`` because its confidence was below the calibration's bound."""

SMALLEST_PROBABILITY: Final = 1e-12
"""What a probability counts as at least, so that its logarithm is finite."""

TEMPERATURE_LIMITS: Final = (0.05, 20.0)
_VERSION: Final = 1
_NEEDED: Final = ("temperature", "other_below", "model", "prompt_format", "n_cases")
_KEYS: Final = Keys(
    "the calibration",
    read=frozenset({"version", "switch_over", "created", "cross_validation", *_NEEDED}),
    needed=_NEEDED,
)
_MODEL_KEYS: Final = Keys("model", read=frozenset({"name", "fingerprint"}), needed=("name", "fingerprint"))


@dataclass(frozen=True)
class CalibratedAnswer:
    """A decision after calibration; ``reason`` is :data:`LOW_CONFIDENCE` where the route gave way to ``other``."""

    route: str
    scores: Mapping[str, float]
    reason: Literal["low_confidence"] | None

    @property
    def confidence(self) -> float:
        """Calibrated probability of ``route``."""
        return self.scores[self.route]


@dataclass(frozen=True)
class Calibration:
    """How to correct one model's probabilities.

    Args:
        temperature: above 1 where the model is too sure, below 1 where it is not sure enough.
        other_below: a route whose calibrated probability is lower than this gives way to ``other``; 0 for never.
        model: name of the model it was fitted for.
        fingerprint: of that model's file, as :func:`archroute_edge.engine.model_fingerprint` gives it.
        prompt_format: the format that the model was asked in.
        n_cases: labelled cases that it was fitted on.
        created: date, as ``YYYY-MM-DD``.
        cross_validation: figures on cases that were held out, for people to read.
        switch_over: of an encoder, the calibrated confidence from which on a cascade leaves a decision to it.

    Raises:
        CalibrationError: temperature or bound is out of its range.
    """

    temperature: float
    other_below: float
    model: str
    fingerprint: str
    prompt_format: str
    n_cases: int = 0
    created: str = ""
    cross_validation: Mapping[str, Any] = field(default_factory=dict)
    switch_over: float | None = None

    def __post_init__(self) -> None:
        least, most = TEMPERATURE_LIMITS
        if not least <= self.temperature <= most:
            raise CalibrationError(f"the temperature is {self.temperature!r}; it must be from {least} to {most:g}")
        if not 0 <= self.other_below <= 1:
            raise CalibrationError(f"other_below is {self.other_below!r}; it must be from 0 to 1")
        if self.switch_over is not None and not 0 <= self.switch_over <= 1:
            raise CalibrationError(f"switch_over is {self.switch_over!r}; it must be from 0 to 1")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read what ``archroute calibrate`` wrote.

        Raises:
            CalibrationError: the file cannot be read or is no calibration; the message names it.
        """
        place = os.fspath(path)
        try:
            values = yaml.safe_load(read_text(expanded(path)))
        except ConfigError as exc:
            raise CalibrationError(str(exc)) from exc
        except (yaml.YAMLError, RecursionError, ValueError) as exc:
            raise CalibrationError(f"{place}: not YAML: {' '.join(str(exc).split())[:200]}") from exc
        try:
            return _from_values(values)
        except CalibrationError as exc:
            raise CalibrationError(f"{place}: {exc}") from exc

    def to_dict(self) -> dict[str, Any]:
        """The calibration as plain values, as its file has them."""
        return {
            "version": _VERSION,
            "temperature": self.temperature,
            "other_below": self.other_below,
            **({} if self.switch_over is None else {"switch_over": self.switch_over}),
            "model": {"name": self.model, "fingerprint": self.fingerprint},
            "prompt_format": self.prompt_format,
            "n_cases": self.n_cases,
            "created": self.created,
            "cross_validation": dict(self.cross_validation),
        }

    def save(self, path: Path) -> None:
        """Write it to ``path``, whole or not at all.

        Raises:
            CalibrationError: it cannot be written.
        """
        text = "# Written by archroute calibrate; read by --calibration and Router(calibration=...).\n"
        text += yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        try:
            with replaced_when_whole(path) as partial:
                partial.write_text(text, encoding="utf-8")
        except OSError as exc:
            raise CalibrationError(f"{path}: cannot be written ({exc.strerror or exc})") from exc

    def check(self, model: str, fingerprint: str, prompt_format: str) -> None:
        """Make sure that it was fitted for this model file, asked in this format.

        Raises:
            CalibrationError: it was not; the message names both.
        """
        if self.fingerprint != fingerprint:
            same = " (another file of that name)" if self.model == model else ""
            raise CalibrationError(
                f"the calibration was fitted for the model {self.model}{same}, not for {model}; "
                f"fit one for this file with: archroute calibrate"
            )
        if self.prompt_format != prompt_format:
            raise CalibrationError(
                f"the calibration was fitted for the prompt format {self.prompt_format}, {model} is asked in {prompt_format}; "
                f"fit one for this format with: archroute calibrate"
            )

    def apply(self, route: str, scores: Mapping[str, float]) -> CalibratedAnswer:
        """Correct one decision.

        Args:
            route: what was decided.
            scores: probability of every route and of ``other``.
        """
        corrected = tempered(scores, self.temperature)
        if route != OTHER and corrected[route] < self.other_below:
            return CalibratedAnswer(OTHER, corrected, LOW_CONFIDENCE)
        return CalibratedAnswer(route, corrected, None)


def tempered(scores: Mapping[str, float], temperature: float) -> dict[str, float]:
    """P^(1/temperature) over its sum, for every answer."""
    logs = {name: math.log(max(score, SMALLEST_PROBABILITY)) / temperature for name, score in scores.items()}
    top = max(logs.values())
    powers = {name: math.exp(value - top) for name, value in logs.items()}
    total = sum(powers.values())
    return {name: value / total for name, value in powers.items()}


def _from_values(values: Any) -> Calibration:
    if not isinstance(values, dict):
        raise CalibrationError("not a calibration; archroute calibrate writes one")
    if values.get("version") != _VERSION:
        raise CalibrationError(f"version {values.get('version')!r} of a calibration; this program reads version {_VERSION}")
    fields = Node.of(values, Source(error=lambda message, *_: CalibrationError(message)), "the calibration").fields(_KEYS)
    model = fields["model"].fields(_MODEL_KEYS, "model")
    held_out = fields.get("cross_validation")
    if held_out is not None and held_out.kind != "a mapping":
        raise held_out.wrong("a mapping")
    return Calibration(
        temperature=fields["temperature"].number(),
        other_below=fields["other_below"].number(),
        switch_over=fields["switch_over"].number() if "switch_over" in fields else None,
        model=model["name"].text(),
        fingerprint=model["fingerprint"].text(),
        prompt_format=fields["prompt_format"].text(),
        n_cases=fields["n_cases"].whole(),
        created=str(values.get("created", "")),
        cross_validation={} if held_out is None else held_out.content,
    )
