"""An encoder's accuracy: right answers by set, and what fits best of the numbers behind its probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from archroute_edge.deciders import route_nearness
from archroute_edge.routes import OTHER
from training.mini.catch_all import CatchAll
from training.mini.harness import Question, distinct
from training.mini.references import References

Embed = Callable[[Sequence[str]], Tensor]
_FITTING_STEPS = 400
EVERY = (True,) * 6
"""All numbers of a calibration are fitted."""
# Sets that ask for nothing but `other` are as many as there are ways to belong nowhere, and would drown the rest.
_WEIGHT_OF_OTHER = 0.3
# How far a bound may move from one encoder to the next, the smallest moves first.
_MOVE, _MOVES = 0.005, sorted(range(-40, 41), key=abs)


@dataclass(frozen=True)
class Calibration:
    """The logits of the routes are `scale` x (cosine - hubness), that of `other` is :func:`other_logits`.

    Its bound is `other_cosine` + `other_routes` x ln(routes / 8) + `other_nearness` x nearness of the routes to one another
    + `other_known` x nearness of the conversation to the reference messages; `topic_shift` is added to the products with its
    topics.
    """

    scale: float = 20.0
    other_cosine: float = 0.3
    other_routes: float = 0.0
    other_nearness: float = 0.0
    other_known: float = 0.0
    topic_shift: float = 0.0


@dataclass(frozen=True)
class Scored:
    """The questions with the cosine of each route and its hubness; `right` is the index of the right one, -1 for `other`.

    `nearness` (N) and `known` (N) are as :class:`Calibration` has them; `topics` (N, K) are the products with the topics of
    `other`. Of each table, `catches_all` (bool) tells which routes are catch-alls.
    """

    questions: Sequence[Question]
    cosines: list[Tensor]
    hubness: list[Tensor]
    right: list[int]
    nearness: Tensor
    known: Tensor
    topics: Tensor
    catches_all: list[Tensor]

    def without_hubness(self, weight: float) -> Scored:
        """The same with `weight` x hubness taken off the cosines."""
        lowered = [row - weight * hubness for row, hubness in zip(self.cosines, self.hubness, strict=True)]
        return replace(self, cosines=lowered)

    @property
    def sizes(self) -> Tensor:
        """The number of routes of each question's table."""
        return torch.tensor([float(len(row)) for row in self.cosines])


def score(
    asked: Sequence[Question], embed: Embed, references: References, topics: Tensor, catch_all: CatchAll | None = None
) -> Scored:
    """The cosines between every conversation and the routes of its table, and all that `other` depends on.

    Without `catch_all` no route is one.
    """
    texts = distinct(text for q in asked for text in (q.text, *q.routes.values()))
    vectors = dict(zip(texts, embed(texts), strict=True))
    tables = [torch.stack([vectors[text] for text in q.routes.values()]) for q in asked]
    conversations = torch.stack([vectors[q.text] for q in asked])
    cosines = [table @ vector for table, vector in zip(tables, conversations, strict=True)]
    right = [list(q.routes).index(q.label) if q.label != OTHER else -1 for q in asked]
    nearness = torch.tensor([route_nearness(table.numpy()) for table in tables])
    hubness = [references.hubness(table) for table in tables]
    catches_all = [torch.zeros(len(table)).bool() if catch_all is None else catch_all.tells(table) for table in tables]
    known = references.hubness(conversations)
    return Scored(asked, cosines, hubness, right, nearness, known, conversations @ topics.T, catches_all)


def _set_weights(questions: Sequence[Question]) -> dict[str, float]:
    """Every set counts the same, but those that ask for nothing but `other` three tenths."""
    for_other = sets_for_other(questions)
    return {q.group: _WEIGHT_OF_OTHER if q.group in for_other else 1.0 for q in questions}


def sets_for_other(questions: Sequence[Question]) -> set[str]:
    """The sets that ask for nothing but `other`."""
    return {q.group for q in questions} - {q.group for q in questions if q.label != OTHER}


def _weights(scored: Scored) -> Tensor:
    """The weight of each question: that of its set, divided among the questions of the set."""
    groups = [question.group for question in scored.questions]
    of_set = _set_weights(scored.questions)
    sizes = Counter(groups)
    return torch.tensor([of_set[group] / sizes[group] for group in groups])


def other_logits(scored: Scored, calibration: Calibration) -> Tensor:
    """(N) of `other`: by the bound, and by its own topics."""
    numbers = torch.tensor([float(value) for value in vars(calibration).values()])
    return _other_logits(scored, numbers)


def _other_logits(scored: Scored, numbers: Tensor) -> Tensor:
    scale, constant, routes, nearness, known, shift = numbers
    bound = constant + routes * (scored.sizes / 8).log() + nearness * scored.nearness + known * scored.known
    return (scale * torch.cat([bound[:, None], scored.topics + shift], dim=1)).logsumexp(1)


def calibrate(scored: Scored, fitted: Sequence[bool] = EVERY) -> Calibration:
    """The numbers at which the right answers are most likely (least negative log-likelihood); those not to be fitted stay."""
    # Not minus infinity, whose product with a gradient of 0 is no number.
    rows = torch.nn.utils.rnn.pad_sequence(scored.cosines, batch_first=True, padding_value=-1e3)
    right = torch.tensor([r if r >= 0 else rows.shape[1] for r in scored.right])
    weights = _weights(scored) / _weights(scored).sum()
    numbers = torch.tensor([float(value) for value in vars(Calibration()).values()])
    free = torch.tensor([float(one) for one in fitted])
    # In one unit of size, for one step size.
    units = torch.tensor([20.0, 0.1, 0.05, 0.2, 0.2, 0.1])
    moved = torch.zeros(6, requires_grad=True)
    stepper = torch.optim.Adam([moved], lr=0.05)
    for _ in range(_FITTING_STEPS):
        at = numbers + moved * units * free
        logits = torch.cat([at[0] * rows, _other_logits(scored, at)[:, None]], dim=1)
        loss = weights @ torch.nn.functional.cross_entropy(logits, right, reduction="none")
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    found = (numbers + moved.detach() * units * free).tolist()
    return Calibration(*(round(value, 4) for value in found))


def carried_over(calibration: Calibration, before: Scored, after: Scored) -> Calibration:
    """For an encoder that was trained on from the one of a calibration: with another `other_cosine`.

    With everything trained on, its answers cannot choose numbers any more, but its cosines are others. So the bound moves until
    `other` is right as often as before in the sets that ask for nothing else, as a mean over these sets.
    """
    wanted = _share_of_other(before, calibration)
    moved = [replace(calibration, other_cosine=round(calibration.other_cosine + step * _MOVE, 4)) for step in _MOVES]
    return min(moved, key=lambda one: abs(_share_of_other(after, one) - wanted))


def _share_of_other(scored: Scored, calibration: Calibration) -> float:
    shares = tally(scored, calibration)
    for_other = sets_for_other(scored.questions)
    return sum(shares[group][1] for group in for_other) / len(for_other)


def loss(scored: Scored, calibration: Calibration) -> float:
    """The mean negative log-likelihood of the right answers, in nats, sets weighted as for the rest.

    No route is a catch-all here: beside one, `other` has no likelihood at all.
    """
    logits = _logits(replace(scored, catches_all=[torch.zeros_like(row) for row in scored.catches_all]), calibration)
    losses = [float(row.logsumexp(0) - row[right]) for row, right in zip(logits, scored.right, strict=True)]
    weights = _weights(scored)
    return float(weights @ torch.tensor(losses) / weights.sum())


def _logits(scored: Scored, calibration: Calibration) -> list[Tensor]:
    """For each question the logits of its routes, and of `other` behind them."""
    others = other_logits(scored, calibration)
    rows = zip(scored.cosines, others, scored.catches_all, strict=True)
    return [_with_other(row * calibration.scale, other, catches_all) for row, other, catches_all in rows]


def _with_other(routes: Tensor, other: Tensor, catches_all: Tensor) -> Tensor:
    """Logits of routes and of `other` behind them, whose probability goes to the likeliest catch-all if there is one."""
    nothing = torch.tensor([-torch.inf])
    if not catches_all.any():
        return torch.cat([routes, other[None]])
    taker = int(torch.where(catches_all, routes, nothing).argmax())
    raised = routes.clone()
    raised[taker] = torch.logaddexp(routes[taker], other)
    return torch.cat([raised, nothing])


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


def tally(scored: Scored, calibration: Calibration | None) -> dict[str, tuple[int, float]]:
    """For each set how many questions it has and the share that is answered rightly; without `other` if it is None."""
    logits = scored.cosines if calibration is None else _logits(scored, calibration)
    results: dict[str, list[bool]] = {}
    for question, row, right in zip(scored.questions, logits, scored.right, strict=True):
        wanted = right if right >= 0 else len(row) - 1 if calibration is not None else -1
        results.setdefault(question.group, []).append(int(row.argmax()) == wanted)
    return {group: (len(rows), sum(rows) / len(rows)) for group, rows in results.items()}


def balanced_accuracy(scored: Scored, calibration: Calibration) -> float:
    """The weighted mean over the sets of the share answered rightly, `other` among the answers."""
    weights = _set_weights(scored.questions)
    shares = tally(scored, calibration)
    return sum(weights[group] * share for group, (_, share) in shares.items()) / sum(weights.values())
