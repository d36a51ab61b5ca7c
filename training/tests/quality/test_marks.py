"""Marks say how easy prompts are, whichever models were asked."""

from __future__ import annotations

import numpy as np

from training.quality.marks import Floats, easiness, marks


def drawn(n: int = 600, seed: int = 0) -> tuple[Floats, Floats]:
    """Easiness of prompts, and outcomes of twelve models; half of the prompts were given to the six weak ones alone."""
    draw = np.random.default_rng(seed)
    easy, ability = 2 * draw.standard_normal(n), np.linspace(-2, 2, 12)
    chances = 1 / (1 + np.exp(-(easy[:, None] + ability)))
    scores = (draw.random((n, 12)) < chances).astype(np.float64)
    scores[: n // 2, 6:] = np.nan
    return easy, scores


def test_easiness_is_found_whichever_models_were_asked() -> None:
    easy, scores = drawn()
    found = easiness(scores)
    assert np.corrcoef(easy, found)[0, 1] > 0.8
    half = len(easy) // 2
    # A mean score takes for hard what weak models alone answered.
    weak, all_models = np.nanmean(scores[:half]), np.nanmean(scores[half:])
    assert all_models - weak > 0.1
    assert abs(found[:half].mean() - found[half:].mean()) < 0.3


def test_about_as_many_prompts_have_each_mark() -> None:
    easy, scores = drawn()
    found = marks(scores)
    counts = np.bincount(found, minlength=5)
    assert counts.shape == (5,) and counts.min() > 60
    means = [easy[found == mark].mean() for mark in range(5)]
    assert means == sorted(means)


def test_prompts_that_are_all_alike_have_one_mark() -> None:
    for score in (0.0, 1.0):
        assert len({*marks(np.full((30, 3), score)).tolist()}) == 1
    assert marks(np.array([[0.0]])).tolist() == [0]
