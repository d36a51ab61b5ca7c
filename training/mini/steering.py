"""The settings that a training with held-out parts decides: hubness, scale, and what `other` scores.

They are kept beside the checkpoint in `archroute.json`, which the conversion writes into the GGUF.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from archroute_edge.deciders import TEXT_FORMAT
from training.mini.catch_all import CatchAll
from training.mini.embedding import Encoder
from training.mini.harness import Question
from training.mini.references import References, compute_references
from training.mini.scoring import (
    EVERY,
    Calibration,
    Scored,
    balanced_accuracy,
    calibrate,
    carried_over,
    loss,
    score,
    sets_for_other,
    switch_over,
    tally,
)
from training.mini.training import ANSWERS

SETTINGS = "archroute.json"
_HUBNESS_WEIGHTS = (0.0, 0.25, 0.5)
_MAX_TOKENS = 256
# Of the decisions that a cascade leaves to the encoder.
_RIGHT_WHERE_SURE = 0.95
# The base has no idea of `other` but one bound for all tables.
_ONE_BOUND = (True, True, False, False, False, False)


@dataclass(frozen=True)
class Settings:
    """The settings for a decider; :class:`training.mini.scoring.Calibration` explains those of `other`."""

    scale: float
    other_cosine: float
    other_routes: float
    other_nearness: float
    other_known: float
    topic_shift: float
    switch_over: float
    hubness_weight: float = 0.0
    hubness_neighbours: int = 1
    catch_all_bound: float = 1.0
    text_format: int = TEXT_FORMAT

    @property
    def calibration(self) -> Calibration:
        """The numbers that probabilities are computed with."""
        return Calibration(
            self.scale, self.other_cosine, self.other_routes, self.other_nearness, self.other_known, self.topic_shift
        )


@dataclass(frozen=True)
class Figures:
    """For each set the number of questions and the shares answered rightly, without and with `other`.

    `mean` is the weighted mean of that share over all sets, and `loss` the mean negative log-likelihood of the right answers.
    """

    settings: Settings
    without_other: dict[str, tuple[int, float]]
    with_other: dict[str, tuple[int, float]]
    mean: float
    loss: float


def read_settings(checkpoint: Path) -> Settings:
    """The settings beside a checkpoint; raises FileNotFoundError if it was not calibrated."""
    return Settings(**json.loads((checkpoint / SETTINGS).read_text(encoding="utf-8")))


def write_settings(checkpoint: Path, settings: Settings) -> None:
    """Keep the settings beside a checkpoint."""
    (checkpoint / SETTINGS).write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def topics_of(checkpoint: Path, width: int) -> Tensor:
    """The vectors (topics, width) of what belongs to no route; none of a checkpoint that was not trained here."""
    if not (checkpoint / ANSWERS).is_file():
        return torch.zeros(0, width)
    found: Tensor = torch.load(checkpoint / ANSWERS, weights_only=True)["topics"]
    return found


def figures_of(
    encoder: Encoder, asked: list[Question], references: References, settings: Settings, direction: Tensor
) -> Figures:
    """How an encoder answers with these settings; `direction` (1, width) is what a catch-all is near to."""
    return _figures(_scored(encoder, asked, references, CatchAll(direction, settings.catch_all_bound)), settings)


def steer(checkpoint: Path, base: Path, asked: list[Question], messages: list[str]) -> tuple[Figures, Figures]:
    """Figures of the base as it is, and of the trained encoder with the settings that make the right answers likeliest.

    Hubness is computed from `messages`; the base is judged without it.
    """
    plain = Encoder(base)
    before = _fitted(_scored(plain, asked, compute_references(plain, messages)), 0.0, 1, _ONE_BOUND)
    best: Figures | None = None
    encoder = Encoder(checkpoint)
    references = compute_references(encoder, messages)
    scored = _scored(encoder, asked, references)
    for weight in _HUBNESS_WEIGHTS:
        figures = _fitted(scored, weight, references.neighbours, EVERY)
        line = f"  {weight:g} x hubness: {figures.mean:.1%} right over all sets, loss {figures.loss:.4f}"
        print(line, file=sys.stderr, flush=True)
        # Not the share of right answers, whose differences are a few answers' chance.
        if best is None or figures.loss < best.loss:
            best = figures
    assert best is not None
    return before, best


def carry_over(steered: Path, messages: list[str], encoder: Encoder, references: References, asked: list[Question]) -> Settings:
    """The settings of the checkpoint `steered` for an encoder that was trained on from it; its `other_cosine` is another one.

    `messages` are those that the hubness of `steered` is computed from, `references` what the encoder is packaged with.
    """
    settings = read_settings(steered)
    plain = Encoder(steered)
    for_other = sets_for_other(asked)
    asked = [question for question in asked if question.group in for_other]
    both = _scored(plain, asked, compute_references(plain, messages)), _scored(encoder, asked, references)
    before, after = (scored.without_hubness(settings.hubness_weight) for scored in both)
    return replace(settings, other_cosine=carried_over(settings.calibration, before, after).other_cosine)


def _scored(encoder: Encoder, asked: list[Question], references: References, catch_all: CatchAll | None = None) -> Scored:
    topics = topics_of(encoder.folder, encoder.width)
    return score(asked, lambda texts: encoder.embed(texts, _MAX_TOKENS), references, topics, catch_all)


def _fitted(scored: Scored, weight: float, neighbours: int, fitted: tuple[bool, ...]) -> Figures:
    """With the numbers and the switch-over that fit best."""
    lowered = scored.without_hubness(weight)
    found = calibrate(lowered, fitted)
    sure = switch_over(lowered, found, _RIGHT_WHERE_SURE)
    settings = Settings(**asdict(found), switch_over=sure, hubness_weight=weight, hubness_neighbours=neighbours)
    return _figures(scored, settings)


def _figures(scored: Scored, settings: Settings) -> Figures:
    lowered = scored.without_hubness(settings.hubness_weight)
    found = settings.calibration
    mean = balanced_accuracy(lowered, found)
    return Figures(settings, tally(lowered, None), tally(lowered, found), mean, loss(lowered, found))


def show(columns: dict[str, Figures]) -> str:
    """The figures as a table, a set a line, for each encoder without and with `other`."""
    names = list(columns)
    lines = [f"{'':38}{'':>9}" + "".join(f"{name:>21}" for name in names)]
    lines.append(f"{'set':38}{'questions':>9}" + f"{'without':>12}{'other':>9}" * len(names))
    for group, (count, _) in columns[names[0]].without_other.items():
        cells = "".join(f"{f.without_other[group][1]:>12.1%}{f.with_other[group][1]:>9.1%}" for f in columns.values())
        lines.append(f"{group:38}{count:>9}{cells}")
    settings = [
        f"{name}: hubness {f.settings.hubness_weight:g}, {f.settings.calibration}, switch-over {f.settings.switch_over}"
        for name, f in columns.items()
    ]
    return "\n".join([*lines, *settings])
