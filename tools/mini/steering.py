"""What a training that held something out decides: how much of the published weights to mix in, the scale, and `other`.

The decisions are kept beside the checkpoint in `archroute.json`, whose `scale`, `other_cosine`, `switch_over` and
`text_format` the conversion writes into the GGUF.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from archroute_edge.deciders.encoder_text import TEXT_FORMAT
from tools.mini.embedding import Encoder
from tools.mini.harness import Question
from tools.mini.scoring import Calibration, balanced_accuracy, calibrate, score, switch_over, tally

SETTINGS = "archroute.json"
_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MAX_TOKENS = 256
# Of the decisions that a cascade leaves to the encoder.
_RIGHT_WHERE_SURE = 0.95


@dataclass(frozen=True)
class Settings:
    """The share of the trained weights, and what a decider needs to know."""

    share: float
    scale: float
    other_cosine: float
    switch_over: float
    text_format: int = TEXT_FORMAT


@dataclass(frozen=True)
class Figures:
    """For each set the number of questions and the shares answered rightly, without and with `other`."""

    settings: Settings
    without_other: dict[str, tuple[int, float]]
    with_other: dict[str, tuple[int, float]]
    mean: float


def read_settings(checkpoint: Path) -> Settings:
    """The settings beside a checkpoint; raises FileNotFoundError where it was not calibrated."""
    return Settings(**json.loads((checkpoint / SETTINGS).read_text(encoding="utf-8")))


def write_settings(checkpoint: Path, settings: Settings) -> None:
    """Keep the settings beside a checkpoint."""
    (checkpoint / SETTINGS).write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def figures_of(encoder: Encoder, asked: list[Question], share: float, settings: Settings | None = None) -> Figures:
    """How an encoder answers, with the settings given or else those that fit it best."""
    scored = score(asked, lambda texts: encoder.embed(texts, _MAX_TOKENS))
    if settings is None:
        fitted = calibrate(scored)
        settings = Settings(share, fitted.scale, fitted.other_cosine, switch_over(scored, fitted, _RIGHT_WHERE_SURE))
    calibration = Calibration(settings.scale, settings.other_cosine)
    with_other = tally(scored, calibration.other_cosine)
    return Figures(settings, tally(scored, None), with_other, balanced_accuracy(scored, calibration))


def steer(checkpoint: Path, published: Path, asked: list[Question]) -> tuple[Figures, Figures]:
    """Figures of the published encoder and of the best mixture of it and the trained one."""
    before = figures_of(Encoder(published), asked, 0.0)
    best: Figures | None = None
    for share in _SHARES:
        encoder = Encoder(checkpoint)
        encoder.mix(Encoder(published), share)
        figures = figures_of(encoder, asked, share)
        print(f"  {share:.0%} of the trained weights: {figures.mean:.1%} right over all sets", file=sys.stderr, flush=True)
        if best is None or figures.mean > best.mean:
            best = figures
    assert best is not None
    return before, best


def show(columns: dict[str, Figures]) -> str:
    """The figures as a table, a set a line, for each encoder without and with `other`."""
    names = list(columns)
    lines = [f"{'':38}{'':>9}" + "".join(f"{name:>21}" for name in names)]
    lines.append(f"{'set':38}{'questions':>9}" + f"{'without':>12}{'other':>9}" * len(names))
    for group, (count, _) in columns[names[0]].without_other.items():
        cells = "".join(f"{f.without_other[group][1]:>12.1%}{f.with_other[group][1]:>9.1%}" for f in columns.values())
        lines.append(f"{group:38}{count:>9}{cells}")
    settings = [
        f"{name}: scale {f.settings.scale}, other {f.settings.other_cosine}, switch-over {f.settings.switch_over}"
        for name, f in columns.items()
    ]
    return "\n".join([*lines, "; ".join(settings)])
