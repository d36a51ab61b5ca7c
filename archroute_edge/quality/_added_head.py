"""A head for one model more, from few graded prompts.

Most of what makes a prompt hard is hard for every model, and models of like level find the same prompts hard. So the new head
begins as what heads of its level are: their mean, moved along the line through the known heads over their levels. It moves from
there as far as the grades say: its level, how steeply it falls with difficulty, which known models it is like, and last what is
peculiar to it. Each of these has a normal prior, so that the logits of the graded prompts have one, too, with as many rows
as there are prompts; their maximum is found by Newton's method (Rasmussen and Williams, "Gaussian Processes for Machine
Learning", algorithm 3.1). How wide the priors are is chosen by cross-validation over the graded prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._heads import Floats, Heads, chances
from archroute_edge.quality._newcomers import graded_parts, graded_rows
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import PromptFeatures
from archroute_edge.quality._splits import Split
from archroute_edge.quality._text_features import read_text

_LEVEL: Final = 2.0
_SLOPE: Final = 0.5
# From the narrowest prior to the widest: of the likeness to each model, and of what is peculiar to the new one.
_WIDTHS: Final = ((0.0, 0.0), (0.3, 0.0), (0.3, 0.3), (1.0, 0.3), (1.0, 1.0))
_FOLDS: Final = 5
_MOST_STEPS: Final = 50
# Of the squared distances of levels from their mean: known models on one level have no line.
_LEAST_SPREAD: Final = 0.01
_ENOUGH: Final = 1e-9


@dataclass(frozen=True)
class _Rows:
    """What is known of the graded prompts.

    Attributes:
        vector: (n, d) scaled.
        text: (n, T) scaled.
        words: (n, cells) scaled, for the cells that any of them has.
        cells: which these are.
        logits: (n, k) of the known heads, without intercepts.
        shares: (k,) of the known heads in the one that the new one begins as; their sum is 1.
    """

    vector: Floats
    text: Floats
    words: Floats
    cells: npt.NDArray[np.intp]
    logits: Scores
    shares: Scores

    @property
    def begun(self) -> Scores:
        """(n,) logits of the head that the new one begins as, without intercept."""
        return np.asarray(self.logits @ self.shares, np.float64)

    def covariance(self, likeness: float, peculiar: float) -> Scores:
        """Of the logits of all prompts, under a prior."""
        mean = self.begun[:, None]
        spread = self.logits - mean
        n_models = self.logits.shape[1]
        # float64 for what is inverted.
        parts = [part.astype(np.float64) for part in (self.vector, self.text, self.words)]
        own: Scores = sum((part @ part.T for part in parts), np.zeros((len(mean), len(mean))))
        return np.asarray(
            _LEVEL**2 + _SLOPE**2 * mean @ mean.T + likeness**2 / n_models * spread @ spread.T + peculiar**2 * own, np.float64
        )


def add_head(heads: Heads, model: str, graded: Outcomes, features: PromptFeatures) -> Heads:
    """``heads`` with a row for ``model`` at the end; the other rows stay as they are.

    Args:
        heads: the predictor.
        model: the new model's name, a column of ``graded``.
        graded: scores of answers of the new model.
        features: of the same prompts.

    Raises:
        QualityError: the model is there already, or no or too many of its answers are graded.
    """
    if len(graded.prompts) != len(features):
        raise QualityError(f"{len(graded.prompts)} prompts are graded, and {len(features)} have features")
    known = graded_rows(heads.models, model, graded)
    targets, chosen = graded.columns((model,)).scores[known, 0], features.rows(known)
    rows = _rows(heads, chosen, targets)
    level = float(np.clip(heads.weights.intercept @ rows.shares, -5.0, 5.0))
    prior = level + rows.begun
    likeness, peculiar = _choose(rows, prior, targets, graded_parts(graded.rows(known), _FOLDS))
    pull, _ = _fit(rows.covariance(likeness, peculiar), prior, targets)
    return _with_row(heads, model, rows, pull, level, likeness, peculiar)


def _rows(heads: Heads, features: PromptFeatures, targets: Scores) -> _Rows:
    scaling = heads.scaling
    read = [read_text(text, scaling.word_bits) for text in features.texts]
    cells = np.unique(np.concatenate([each.words for each in read]))
    words = np.zeros((len(read), len(cells)), np.float32)
    for row, each in enumerate(read):
        words[row, np.searchsorted(cells, each.words)] = each.weights * np.float32(scaling.words)
    text = scaling.text_part(np.stack([each.numbers for each in read]))
    vectors = features.vectors
    # A predictor that reads vectors refuses prompts without.
    logits = heads.logits(features) - heads.weights.intercept
    has_vectors = len(scaling.vector_mean) > 0
    vector = scaling.vector_part(vectors) if has_vectors and vectors is not None else np.zeros((len(read), 0), np.float32)
    return _Rows(vector, text, words, cells, logits, _shares_at_level(chances(logits + heads.weights.intercept), targets))


def _shares_at_level(expected: Scores, targets: Scores) -> Scores:
    """(k,) the shares of known heads in the one on their line at the level of ``targets``, (n,) scores.

    The line is that of least squares over levels. A level is the logit of a mean score: of ``targets``, and of what is expected
    on the same prompts, (n, k), of the known models. The line is not followed beyond them.
    """
    # Half an answer of each kind more, as in the training.
    means = (np.column_stack([expected, targets]).sum(axis=0) + 0.5) / (len(targets) + 1)
    *levels, level = np.log(means / (1.0 - means))
    n_models = len(levels)
    away = np.array(levels) - np.mean(levels)
    spread = float(away @ away)
    if spread < _LEAST_SPREAD:
        return np.full(n_models, 1.0 / n_models)
    found: Scores = 1.0 / n_models + (np.clip(level, min(levels), max(levels)) - np.mean(levels)) * away / spread
    return found


def _choose(rows: _Rows, prior: Scores, targets: Scores, parts: Sequence[Split]) -> tuple[float, float]:
    """The narrowest prior whose loss, on parts that are held out, is within one standard error of the least."""
    if not parts:
        return _WIDTHS[0]
    losses = []
    for likeness, peculiar in _WIDTHS:
        covariance = rows.covariance(likeness, peculiar)
        logits = np.empty(len(targets))
        for rest, held in parts:
            pull, _ = _fit(covariance[np.ix_(rest, rest)], prior[rest], targets[rest])
            logits[held] = prior[held] + covariance[np.ix_(held, rest)] @ pull
        losses.append(np.logaddexp(0.0, logits) - targets * logits)
    best = losses[int(np.argmin([loss.mean() for loss in losses]))]
    for widths, loss in zip(_WIDTHS, losses, strict=True):
        difference = loss - best
        if difference.mean() <= difference.std(ddof=1) / np.sqrt(len(difference)):
            return widths
    raise AssertionError("the best is within one standard error of itself")


def _fit(covariance: Scores, prior: Scores, targets: Scores) -> tuple[Scores, Scores]:
    """How much each prompt pulls on the logits (n,), and the logits: the maximum of likelihood times prior."""
    pull, logits = np.zeros(len(targets)), prior.copy()
    identity = np.eye(len(targets))
    reached = -np.inf
    for _ in range(_MOST_STEPS):
        chance = chances(logits)
        curvature = chance * (1.0 - chance)
        root = np.sqrt(curvature)
        wanted = curvature * (logits - prior) + targets - chance
        inner = identity + root[:, None] * covariance * root
        full = wanted - root * np.linalg.solve(inner, root * (covariance @ wanted))
        # Half a step, and half of that, where a whole one goes too far.
        for halvings in range(20):
            tried = pull + (full - pull) * 0.5**halvings
            moved = prior + covariance @ tried
            value = float((targets * moved - np.logaddexp(0.0, moved)).sum() - 0.5 * tried @ (moved - prior))
            if value >= reached:
                break
        if value - reached < _ENOUGH:
            break
        pull, logits, reached = tried, moved, value
    return pull, logits


def _with_row(heads: Heads, model: str, rows: _Rows, pull: Scores, level: float, likeness: float, peculiar: float) -> Heads:
    """The new row: what the prior's covariance makes of the pulls."""
    weights = heads.weights
    mean = rows.begun
    # Of each known head, its share in the new one.
    towards = likeness**2 / len(heads.models) * (rows.logits - mean[:, None]).T @ pull
    shares = (1.0 + _SLOPE**2 * float(mean @ pull) - towards.sum()) * rows.shares + towards

    def own(part: Floats) -> Scores:
        return np.asarray(peculiar**2 * (part.T.astype(np.float64) @ pull), np.float64)

    words = shares @ weights.words.astype(np.float64)
    words[rows.cells] += own(rows.words)
    new = weights.with_row(
        level + _LEVEL**2 * float(pull.sum()),
        (shares @ weights.vector.astype(np.float64) + own(rows.vector)).astype(np.float32),
        (shares @ weights.text.astype(np.float64) + own(rows.text)).astype(np.float32),
        words.astype(np.float32),
    )
    sample = _new_sample(heads, float(new.intercept[-1]), shares)
    return Heads((*heads.models, model), heads.encoder, sample, heads.scaling, new)


def _new_sample(heads: Heads, intercept: float, shares: Scores) -> Scores:
    """The sample with a column for the new model, by its shares in the others' logits: the prompts are not kept."""
    sample = np.clip(heads.sample, 1e-9, 1.0 - 1e-9)
    logits = np.log(sample / (1.0 - sample)) - heads.weights.intercept
    return np.column_stack([heads.sample, chances(intercept + logits @ shares)])
