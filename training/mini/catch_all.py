"""What a catch-all is near to, a route for whatever fits no other ("default: all other requests").

A logistic regression on vectors of routes tells such a route from one with a subject, even if it is for all else of that
subject ("general banking"). It learns from `catch_all_routes.yaml`, from general routes of our domains, and from the routes of
the trainings; each of the three kinds counts the same. The encoder's decider uses what it finds (`archroute_edge.deciders`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from archroute_edge.deciders import route_text
from archroute_edge.routes import Route
from training.mini.catalogue import DIFFICULTY, Catalogue
from training.mini.embedding import Encoder
from training.yaml_files import read_yaml

_FILE = Path(__file__).parent / "catch_all_routes.yaml"
_MAX_TOKENS = 48
_EVERY = 5
_STEPS, _RATE, _DECAY = 600, 0.05, 1e-3
_MISTAKES_WEIGH = 10.0
_GENERAL = (
    "general {}",
    "{} in general",
    "other {} requests",
    "{}: anything else about {}",
    "default {}: general questions on {}",
)


@dataclass(frozen=True)
class CatchAll:
    """A route is a catch-all if its cosine with `direction` (1, width), a unit vector, is `bound` or more."""

    direction: Tensor
    bound: float

    def tells(self, routes: Tensor) -> Tensor:
        """Which of the unit vectors (N, width) are of a catch-all: (N,), bool."""
        found: Tensor = routes @ self.direction[0] >= self.bound
        return found


@dataclass(frozen=True)
class CatchAllFigures:
    """Right answers of all for texts held out: catch-alls, routes that look like one, routes of the trainings."""

    catch_all: tuple[int, int]
    near: tuple[int, int]
    trained: tuple[int, int]


def _texts(name: str) -> list[str]:
    return [route_text(Route(*each)) for each in read_yaml(_FILE)[name]]


def _near_texts(catalogue: Catalogue) -> list[str]:
    """Routes with a subject that look like one without: typed ones, and some for all else of each domain."""
    domains = [subject.names[0] for subject in catalogue.schemes["departments"]]
    return _texts("near") + [wording.format(*[domain] * 2) for domain in domains for wording in _GENERAL]


def _trained_texts(catalogue: Catalogue) -> list[str]:
    """Routes of all kinds and of all groups of kinds, with names alone and with descriptions."""
    subjects = [catalogue.subject(kind) for kind in catalogue.kinds]
    subjects += [subject for scheme in catalogue.schemes.values() for subject in scheme]
    texts = [route_text(Route(subject.names[0], about)) for subject in subjects for about in ("", *subject.descriptions[:1])]
    # All names and descriptions of these, which are few: every request is easy or hard, and so they look like a catch-all.
    levels = catalogue.schemes[DIFFICULTY]
    texts += [route_text(Route(name, about)) for subject in levels for name in subject.names for about in subject.descriptions]
    return list(dict.fromkeys(texts))


def fit(encoder: Encoder, catalogue: Catalogue) -> tuple[CatchAll, CatchAllFigures]:
    """From all texts; the figures are of a fit without every fifth of them."""
    texts = [_texts("catch_all"), _near_texts(catalogue), _trained_texts(catalogue)]
    vectors = [encoder.embed(each, _MAX_TOKENS).float() for each in texts]
    held = [torch.arange(len(rows)) % _EVERY == 0 for rows in vectors]
    judged = _fit([rows[~out] for rows, out in zip(vectors, held, strict=True)])
    told = [judged.tells(rows[out]) == (number == 0) for number, (rows, out) in enumerate(zip(vectors, held, strict=True))]
    return _fit(vectors), CatchAllFigures(*((int(right.sum()), len(right)) for right in told))


def _fit(vectors: Sequence[Tensor]) -> CatchAll:
    rows = torch.cat(list(vectors))
    wanted = torch.cat([torch.full((len(each),), float(number == 0)) for number, each in enumerate(vectors)])
    weights = torch.cat([torch.full((len(each),), 1 / len(each)) for each in vectors])
    found = _fit_weighted(rows, wanted, weights)
    # Once more, with those taken for one that are none far heavier: among thousands, a few hardly counted.
    return _fit_weighted(rows, wanted, torch.where(found.tells(rows) & (wanted == 0), _MISTAKES_WEIGH * weights, weights))


def _fit_weighted(rows: Tensor, wanted: Tensor, weights: Tensor) -> CatchAll:
    numbers = torch.zeros(rows.shape[1] + 1, requires_grad=True)
    stepper = torch.optim.Adam([numbers], lr=_RATE)
    for _ in range(_STEPS):
        logits = 10 * (rows @ numbers[:-1] + numbers[-1])
        loss = functional.binary_cross_entropy_with_logits(logits, wanted, weights, reduction="sum")
        loss = loss + _DECAY * numbers[:-1].square().sum()
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    direction, shift = numbers.detach()[:-1], float(numbers.detach()[-1])
    length = float(direction.norm())
    return CatchAll(direction[None] / length, round(-shift / length, 4))
