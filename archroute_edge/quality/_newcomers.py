"""A model that is added to trained ones: what its grades on a few prompts say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._splits import Split, folds, texts_of
from archroute_edge.quality._strengths import MAX_MODELS, sigmoid

MOST_GRADED: Final = 1000
"""With more graded prompts, a model is better trained with the others."""

_TIE = 1e-9
_MAX_SAMPLE_LOGIT = 10.0


def newcomer_battles(
    models: tuple[str, ...], model: str, graded: Outcomes, expected: Callable[[], Scores] | None
) -> tuple[Scores, Scores, Scores]:
    """What a new model's grades say of it beside k trained ones, on all graded prompts.

    A trained model whose outcome on the prompt is known is fought; another one is compared by its expected score e: a grade g
    beats it with chance (1 + g - e) / 2, as two independent answers of chances g and e do if a tie is half a win.

    Args:
        models: the trained ones.
        model: the new one.
        graded: its grades, and outcomes of trained ones if they are known.
        expected: makes the trained ones' expected scores (n, k) of the graded prompts; None if they are unknown.

    Returns:
        (n,) grades, (n, k) chances to win, and (n, k) weights of the comparisons, which come to 1 on a prompt.

    Raises:
        QualityError: nothing can be compared.
    """
    grades = graded.columns((model,)).scores[:, 0]
    outcomes = graded.columns(models).scores
    known = ~np.isnan(outcomes)
    rivals = outcomes if expected is None or known.all() else np.where(known, outcomes, expected())
    if (~known).all(axis=1).any() and expected is None:
        raise QualityError(
            "the predictor was trained from battles alone and expects no scores;"
            f" give outcomes of a trained model beside {model!r}'s on each graded prompt"
        )
    margin = grades[:, None] - np.where(np.isnan(rivals), 0.0, rivals)
    fought = np.where(np.abs(margin) <= _TIE, 0.5, (margin > 0).astype(np.float64))
    won = np.where(known, fought, (1.0 + margin) / 2)
    weight = known.astype(np.float64) if expected is None else np.ones_like(won)
    return grades, won, weight / weight.sum(axis=1, keepdims=True)


def graded_rows(models: tuple[str, ...], model: str, graded: Outcomes) -> npt.NDArray[np.intp]:
    """Numbers of the prompts on which a new model was graded.

    Raises:
        QualityError: there is none, or too many, or the model is no new one.
    """
    if model in models:
        raise QualityError(f"the predictor has the model {model!r} already; take another name, or train again")
    rows = np.flatnonzero(~np.isnan(graded.columns((model,)).scores[:, 0]))
    if not len(rows):
        raise QualityError(f"no prompt is graded for {model!r}; grade some 30 to 100 of its answers")
    if len(rows) > MOST_GRADED:
        raise QualityError(f"{len(rows):,} prompts are graded; with more than {MOST_GRADED:,}, train on all outcomes instead")
    return rows


def graded_parts(graded: Outcomes, most: int) -> tuple[Split, ...]:
    """At most so many parts of graded prompts, to hold out in turn; none of a single prompt.

    The order of the file says nothing: a file may have a prompt of each subject in turn, or a prompt several times.
    """
    n = min(most, len(set(texts_of(graded))))
    return folds(graded, n) if n > 1 else ()


def trained_of(settings: Mapping[str, Any], n_models: int) -> int:
    """How many of the models were trained, from a predictor's settings.

    Raises:
        QualityError: it is no such number.
    """
    k = settings.get("trained")
    if type(k) is not int or not 2 <= k <= min(MAX_MODELS, n_models):
        raise QualityError("the predictor's settings do not say how many models were trained; train it again")
    return k


def sample_with(sample: Scores, others: Scores, own: Scores) -> Scores:
    """A sample's scores (m, k) with a new model's beside them.

    The sample's prompts are not kept, so the new model's scores there are read off the others': a ridge regression of logits on
    the graded prompts, from `others` (n, k) to `own` (n,). The others' scores stay.
    """
    seen, wanted = _logits(others), _logits(own)
    centre = seen.mean(axis=0)
    apart = seen - centre
    slopes = np.linalg.solve(apart.T @ apart + np.eye(others.shape[1]), apart.T @ (wanted - wanted.mean()))
    guessed = sigmoid(wanted.mean() + (_logits(sample) - centre) @ slopes)
    return np.column_stack((sample, guessed))


def _logits(scores: Scores) -> Scores:
    least = float(sigmoid(np.array(-_MAX_SAMPLE_LOGIT)))
    inside = np.clip(scores, least, 1 - least)
    logits: Scores = np.log(inside / (1 - inside))
    return logits
