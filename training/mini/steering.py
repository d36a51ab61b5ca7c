"""The settings that a training with held-out parts decides: the share of the published weights, hubness, scale, and `other`.

They are kept beside the checkpoint in `archroute.json`, which the conversion writes into the GGUF.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from archroute_edge.deciders import TEXT_FORMAT
from training.mini.embedding import Encoder
from training.mini.harness import Question
from training.mini.references import References, compute_references
from training.mini.scoring import Calibration, Scored, balanced_accuracy, calibrate, loss, score, switch_over, tally

SETTINGS = "archroute.json"
_SHARES = (0.6, 0.7, 0.8, 0.85, 0.9, 1.0)
# More of it costs tables of few, well-described routes as much as it gains others.
_HUBNESS_WEIGHTS = (0.0, 0.25, 0.5)
_MAX_TOKENS = 256
# Of the decisions that a cascade leaves to the encoder.
_RIGHT_WHERE_SURE = 0.95


@dataclass(frozen=True)
class Settings:
    """The share of the trained weights, and the settings for a decider."""

    share: float
    scale: float
    other_cosine: float
    switch_over: float
    hubness_weight: float = 0.0
    hubness_neighbours: int = 1
    text_format: int = TEXT_FORMAT


@dataclass(frozen=True)
class Figures:
    """For each set the number of questions and the shares answered rightly, without and with `other`.

    `mean` is that share over all sets, and `loss` the mean negative log-likelihood of the right answers.
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


def figures_of(encoder: Encoder, asked: list[Question], references: References, settings: Settings) -> Figures:
    """How an encoder answers with these settings."""
    return _figures(_scored(encoder, asked, references), settings)


def steer(checkpoint: Path, published: Path, asked: list[Question], messages: list[str]) -> tuple[Figures, Figures]:
    """Figures of the published encoder and of the mixture of it and the trained one that makes the right answers likeliest.

    Hubness is computed from `messages`; the published encoder is judged without it.
    """
    plain = Encoder(published)
    before = _fitted(_scored(plain, asked, compute_references(plain, messages)), 0.0, 0.0, 1)
    best: Figures | None = None
    for share in _SHARES:
        encoder = Encoder(checkpoint)
        encoder.mix(plain, share)
        references = compute_references(encoder, messages)
        scored = _scored(encoder, asked, references)
        for weight in _HUBNESS_WEIGHTS:
            figures = _fitted(scored, share, weight, references.neighbours)
            what = f"{share:.0%} of the trained weights, {weight:g} x hubness"
            print(f"  {what}: {figures.mean:.1%} right over all sets, loss {figures.loss:.4f}", file=sys.stderr, flush=True)
            # Not the share of right answers, whose differences are a few answers' chance.
            if best is None or figures.loss < best.loss:
                best = figures
    assert best is not None
    return before, best


def _scored(encoder: Encoder, asked: list[Question], references: References) -> Scored:
    return score(asked, lambda texts: encoder.embed(texts, _MAX_TOKENS), references.hubness)


def _fitted(scored: Scored, share: float, weight: float, neighbours: int) -> Figures:
    """With the scale, the threshold and the switch-over that fit best."""
    lowered = scored.without_hubness(weight)
    fitted = calibrate(lowered)
    sure = switch_over(lowered, fitted, _RIGHT_WHERE_SURE)
    return _figures(scored, Settings(share, fitted.scale, fitted.other_cosine, sure, weight, neighbours))


def _figures(scored: Scored, settings: Settings) -> Figures:
    lowered = scored.without_hubness(settings.hubness_weight)
    calibration = Calibration(settings.scale, settings.other_cosine)
    with_other = tally(lowered, calibration.other_cosine)
    mean = balanced_accuracy(lowered, calibration)
    return Figures(settings, tally(lowered, None), with_other, mean, loss(lowered, calibration))


def show(columns: dict[str, Figures]) -> str:
    """The figures as a table, a set a line, for each encoder without and with `other`."""
    names = list(columns)
    lines = [f"{'':38}{'':>9}" + "".join(f"{name:>21}" for name in names)]
    lines.append(f"{'set':38}{'questions':>9}" + f"{'without':>12}{'other':>9}" * len(names))
    for group, (count, _) in columns[names[0]].without_other.items():
        cells = "".join(f"{f.without_other[group][1]:>12.1%}{f.with_other[group][1]:>9.1%}" for f in columns.values())
        lines.append(f"{group:38}{count:>9}{cells}")
    settings = [
        f"{name}: hubness {f.settings.hubness_weight:g}, scale {f.settings.scale}, other {f.settings.other_cosine}, "
        f"switch-over {f.settings.switch_over}"
        for name, f in columns.items()
    ]
    return "\n".join([*lines, "; ".join(settings)])
