"""An encoder's accuracy: right answers by set, and the best-fitting scale and cosine of `other`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from archroute_edge.routes import OTHER
from training.mini.harness import Question, distinct

Embed = Callable[[Sequence[str]], Tensor]
_SCALES = torch.logspace(math.log10(4), math.log10(80), 60)
_OTHERS = torch.arange(-0.6, 0.8, 0.005)


@dataclass(frozen=True)
class Calibration:
    """The logits are `scale` x (cosine - hubness), and `scale` x `other_cosine` for `other`."""

    scale: float
    other_cosine: float


@dataclass(frozen=True)
class Scored:
    """The questions with the cosine of each route and its hubness; `right` is the index of the right one, -1 for `other`."""

    questions: Sequence[Question]
    cosines: list[Tensor]
    hubness: list[Tensor]
    right: list[int]

    def without_hubness(self, weight: float) -> Scored:
        """The same with `weight` x hubness taken off the cosines."""
        lowered = [row - weight * hubness for row, hubness in zip(self.cosines, self.hubness, strict=True)]
        return replace(self, cosines=lowered)


def score(asked: Sequence[Question], embed: Embed, hubness: Callable[[Tensor], Tensor]) -> Scored:
    """The cosines between every conversation and the routes of its table, and the hubness of these."""
    texts = distinct(text for q in asked for text in (q.text, *q.routes.values()))
    vectors = dict(zip(texts, embed(texts), strict=True))
    tables = [torch.stack([vectors[text] for text in q.routes.values()]) for q in asked]
    cosines = [table @ vectors[q.text] for table, q in zip(tables, asked, strict=True)]
    right = [list(q.routes).index(q.label) if q.label != OTHER else -1 for q in asked]
    return Scored(asked, cosines, [hubness(table) for table in tables], right)


def _set_weights(questions: Sequence[Question]) -> dict[str, float]:
    """Every set counts the same, but those that ask for nothing but `other` count as one set together."""
    for_other = {q.group for q in questions} - {q.group for q in questions if q.label != OTHER}
    return {q.group: 1 / len(for_other) if q.group in for_other else 1.0 for q in questions}


def _weights(scored: Scored) -> Tensor:
    """The weight of each question: that of its set, divided among the questions of the set."""
    groups = [question.group for question in scored.questions]
    of_set = _set_weights(scored.questions)
    return torch.tensor([of_set[group] / groups.count(group) for group in groups])


def calibrate(scored: Scored) -> Calibration:
    """The scale and the cosine of `other` at which the right answers are most likely (least negative log-likelihood)."""
    rows = torch.nn.utils.rnn.pad_sequence(scored.cosines, batch_first=True, padding_value=-math.inf)
    right = torch.tensor(scored.right)
    of_right = rows.gather(1, right.clamp(min=0)[:, None])
    weights = _weights(scored)
    best, found = math.inf, Calibration(20.0, 0.3)
    for scale in _SCALES.tolist():
        others = scale * _OTHERS[None, :]
        wanted = torch.where(right[:, None] < 0, others, scale * of_right)
        total = torch.logaddexp((scale * rows).logsumexp(1, keepdim=True), others)
        losses = weights @ (total - wanted)
        if float(losses.min()) < best:
            best = float(losses.min())
            found = Calibration(round(scale, 2), round(float(_OTHERS[losses.argmin()]), 4))
    return found


def loss(scored: Scored, calibration: Calibration) -> float:
    """The mean negative log-likelihood of the right answers, in nats, sets weighted as for the rest."""
    logits = _logits(scored, calibration)
    losses = [float(row.logsumexp(0) - row[right]) for row, right in zip(logits, scored.right, strict=True)]
    weights = _weights(scored)
    return float(weights @ torch.tensor(losses) / weights.sum())


def _logits(scored: Scored, calibration: Calibration) -> list[Tensor]:
    """For each question the logits of its routes, and of `other` behind them."""
    return [torch.cat([row, torch.tensor([calibration.other_cosine])]) * calibration.scale for row in scored.cosines]


def switch_over(scored: Scored, calibration: Calibration, wanted: float) -> float:
    """The least confidence from which on the share `wanted` of the answers is right, sets weighted as for the rest."""
    logits = _logits(scored, calibration)
    sure = torch.tensor([float(row.softmax(0).max()) for row in logits])
    right = torch.tensor([int(row.argmax()) == r % len(row) for row, r in zip(logits, scored.right, strict=True)])
    weights = _weights(scored)
    for bound in range(30, 100):
        decided = weights * (sure >= bound / 100)
        if float((decided * right).sum()) >= wanted * float(decided.sum()):
            return bound / 100
    return 0.99


def tally(scored: Scored, other_cosine: float | None) -> dict[str, tuple[int, float]]:
    """For each set how many questions it has and the share that is answered rightly; without `other` if it is None."""
    results: dict[str, list[bool]] = {}
    for question, cosines, right in zip(scored.questions, scored.cosines, scored.right, strict=True):
        decision = int(cosines.argmax())
        if other_cosine is not None and float(cosines.max()) <= other_cosine:
            decision = -1
        results.setdefault(question.group, []).append(decision == right)
    return {group: (len(rows), sum(rows) / len(rows)) for group, rows in results.items()}


def balanced_accuracy(scored: Scored, calibration: Calibration) -> float:
    """The mean over the sets of the share answered rightly, `other` among the answers."""
    weights = _set_weights(scored.questions)
    shares = tally(scored, calibration.other_cosine)
    return sum(weights[group] * share for group, (_, share) in shares.items()) / sum(weights.values())
