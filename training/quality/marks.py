"""Marks for prompts, from what models made of them.

Sets have different models, so a mean score does not tell how easy a prompt is. Here each model has an ability and each prompt
an easiness: model m scores σ(ability_m + easiness_i) on prompt i, both near 0 (Rasch 1960, with normal priors). The easiness is
cut into five parts of the same size: mark 1 for the hardest fifth of the prompts, 5 for the easiest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_N_MARKS = 5
_PRIOR_OF_ABILITY = 0.05
_PRIOR_OF_EASINESS = 0.5
_MOST_ROUNDS = 200
_ENOUGH = 1e-6

Floats = npt.NDArray[np.float64]


def easiness(scores: Floats) -> Floats:
    """(n,) of prompts with scores (n, k), NaN where a model was not asked: Newton's steps on prompts and models in turn."""
    known = ~np.isnan(scores)
    target = np.where(known, scores, 0.0)
    easy, ability = np.zeros(len(scores)), np.zeros(scores.shape[1])
    for _ in range(_MOST_ROUNDS):
        before = easy
        ability = _step(target, known, ability, easy[:, None], 0, _PRIOR_OF_ABILITY)
        easy = _step(target, known, easy[:, None], ability, 1, _PRIOR_OF_EASINESS)
        if np.abs(easy - before).max(initial=0.0) < _ENOUGH:
            break
    return easy


def _step(target: Floats, known: npt.NDArray[np.bool_], own: Floats, other: Floats, axis: int, prior: float) -> Floats:
    chance = 1 / (1 + np.exp(-(own + other)))
    slope = np.where(known, target - chance, 0.0).sum(axis=axis)
    bend = np.where(known, chance * (1 - chance), 0.0).sum(axis=axis)
    flat = own.reshape(-1)
    # At most one at a time, so that the steps of both do not overshoot together.
    moved: Floats = flat + np.clip((slope - prior * flat) / (bend + prior), -1, 1)
    return moved


def marks(scores: Floats) -> npt.NDArray[np.intp]:
    """(n,) marks from 0 to 4 of prompts, about as many of each. Prompts that are equally easy have the same one."""
    easy = np.round(easiness(scores), 4)
    bounds = np.quantile(easy, np.arange(1, _N_MARKS) / _N_MARKS)
    return np.searchsorted(bounds, easy, side="left").astype(np.intp)
