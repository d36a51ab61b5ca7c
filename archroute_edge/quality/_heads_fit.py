"""Fitting the heads: one convex problem for all models, solved with SciPy's L-BFGS.

Minimised is, over the intercepts b_m, the shared weights w and each model's own ones d_m,

    Σ_i (1/k_i) Σ_m [log(1 + exp z_im) - y_im z_im]  +  ½ shared ‖w‖²  +  ½ own Σ_m c_m ‖d_m‖²,   z_im = b_m + x_i·(w + d_m)

where m runs over the k_i models whose answers to prompt i were scored, and c_m is the mean of 1/k_i over the prompts of m. So a
prompt counts once, however many models answered it, and both ridges mean the same for 2 models as for 44.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._heads import Scaling, Weights, chances
from archroute_edge.quality._outcomes import Scores
from archroute_edge.quality._text_features import ReadText

_MOST_STEPS: Final = 200
_GRADIENT: Final = 1e-5
_TOLERANCE: Final = 1e-8
# A cell of the table of words that fewer prompts fall into tells nothing about others.
_LEAST_PROMPTS: Final = 2
# Fewer prompts are not worth products of their own.
_FEWEST_ROWS: Final = 256


@dataclass(frozen=True)
class Ridges:
    """How strongly weights are held.

    Attributes:
        shared: of the weights that all models share.
        own: of each model's own; infinite: it has none but its intercept.
        text: the mean square length of the numbers about a text, beside 1 for a vector; the larger, the less they are held.
        words: the same of the words.
    """

    shared: float
    own: float
    text: float
    words: float


@dataclass(frozen=True)
class Design:
    """Scaled prompts.

    Attributes:
        dense: (n, d + T) vectors and numbers.
        words: (n, cells) sparse.
        cells: which of the table's cells these are.
    """

    dense: Scores
    words: Any
    cells: npt.NDArray[np.intp]

    @property
    def width(self) -> int:
        """Weights of one model."""
        return int(self.dense.shape[1] + self.words.shape[1])

    def __len__(self) -> int:
        return len(self.dense)

    def rows(self, which: npt.NDArray[np.intp]) -> Design:
        """Some of the prompts."""
        return Design(self.dense[which], self.words[which], self.cells)

    def times(self, weights: Scores) -> Scores:
        """(n, k) products with the columns of ``weights``."""
        n_dense = self.dense.shape[1]
        return np.asarray(self.dense @ weights[:n_dense] + self.words @ weights[n_dense:], np.float64)

    def back(self, slopes: Scores) -> Scores:
        """(width, k): the transpose times ``slopes``."""
        return np.vstack([self.dense.T @ slopes, self.words.T @ slopes])


def make_design(read: Sequence[ReadText], vectors: npt.NDArray[np.float32] | None, scaling: Scaling) -> Design:
    """The prompts as numbers; words that one prompt alone has are left out."""
    from scipy.sparse import csr_matrix

    text = scaling.text_part(np.stack([each.numbers for each in read]))
    vector = np.zeros((len(read), 0), np.float32) if vectors is None else scaling.vector_part(vectors)
    places = np.concatenate([each.words for each in read])
    ends = np.cumsum([0, *(len(each.words) for each in read)])
    values = np.concatenate([each.weights for each in read]).astype(np.float64) * scaling.words
    size = 1 << scaling.word_bits
    cells = np.flatnonzero(np.bincount(places, minlength=size) >= _LEAST_PROMPTS)
    words = csr_matrix((values, places, ends), shape=(len(read), size))[:, cells]
    return Design(np.hstack([vector, text]).astype(np.float64), words, cells)


@dataclass(frozen=True)
class Fit:
    """What was found: intercepts (k,), shared weights (width,), own weights (width, k)."""

    intercept: Scores
    shared: Scores
    own: Scores

    def logits(self, design: Design) -> Scores:
        """(n, k)"""
        return self.intercept + design.times(self.shared[:, None] + self.own)

    def weights(self, design: Design, scaling: Scaling) -> Weights:
        """As a predictor has them."""
        joined = (self.shared[:, None] + self.own).T
        n_vector = len(scaling.vector_mean)
        n_dense = design.dense.shape[1]
        words = np.zeros((len(joined), 1 << scaling.word_bits), np.float32)
        words[:, design.cells] = joined[:, n_dense:]
        dense = joined[:, :n_dense].astype(np.float32)
        return Weights(self.intercept, dense[:, :n_vector], dense[:, n_vector:], words)


class Problem:
    """The function to minimise, and its gradient, over one flat array of parameters.

    Args:
        design: n prompts.
        scores: (n, k), NaN where a model was not asked; each model has some.
        ridges: how strongly weights are held.
    """

    def __init__(self, design: Design, scores: Scores, ridges: Ridges) -> None:
        known = ~np.isnan(scores)
        n_known = known.sum(axis=0)
        self._ridges = ridges
        self._width, self._n_models = design.width, scores.shape[1]
        # Half an answer of each kind more: a model that always wins has a finite intercept.
        smoothed = (scores * n_known + 0.5) / (n_known + 1)
        shares = np.where(known, 1.0 / np.maximum(known.sum(axis=1, keepdims=True), 1), 0.0)
        self._own_ridge = ridges.own * shares.sum(axis=0) / np.maximum(n_known, 1) if self.has_own else np.zeros(self._n_models)
        means = np.nansum(np.where(known, smoothed, 0.0), axis=0) / np.maximum(n_known, 1)
        self.start = np.zeros(self._n_models + self._width * (1 + (self._n_models if self.has_own else 0)))
        self.start[: self._n_models] = np.log(means / (1.0 - means))
        # Sets of outcomes have models of their own; the products with others' columns would be thrown away.
        self._blocks = []
        for rows in _alike(known):
            columns = np.flatnonzero(known[rows].any(axis=0))
            if len(columns):
                cut = np.ix_(rows, columns)
                self._blocks.append(_Block(design.rows(rows), columns, np.nan_to_num(smoothed[cut]), shares[cut]))

    @property
    def has_own(self) -> bool:
        """Whether models have weights of their own."""
        return bool(np.isfinite(self._ridges.own)) and self._n_models > 1

    def split(self, parameters: Scores) -> Fit:
        """The parameters by what they are."""
        k, width = self._n_models, self._width
        own = parameters[k + width :].reshape(width, k) if self.has_own else np.zeros((width, k))
        return Fit(parameters[:k], parameters[k : k + width], own)

    def joined(self, fit: Fit) -> Scores:
        """The parameters of a fit."""
        return np.concatenate([fit.intercept, fit.shared, *([fit.own.reshape(-1)] if self.has_own else [])])

    def __call__(self, parameters: Scores) -> tuple[float, Scores]:
        """Value and gradient."""
        fit = self.split(parameters)
        value = 0.5 * self._ridges.shared * float(fit.shared @ fit.shared)
        slopes = np.zeros_like(parameters)
        parts = self.split(slopes)
        parts.shared[:] = self._ridges.shared * fit.shared
        if self.has_own:
            value += 0.5 * float((self._own_ridge * np.square(fit.own)).sum())
            parts.own[:] = self._own_ridge * fit.own
        for block in self._blocks:
            columns = block.columns
            joined = fit.shared[:, None] + fit.own[:, columns] if self.has_own else fit.shared[:, None]
            logits = fit.intercept[columns] + block.design.times(joined)
            value += float((block.shares * (np.logaddexp(0.0, logits) - block.scores * logits)).sum())
            errors = block.shares * (chances(logits) - block.scores)
            parts.intercept[columns] += errors.sum(axis=0)
            if self.has_own:
                back = block.design.back(errors)
                parts.own[:, columns] += back
                parts.shared[:] += back.sum(axis=1)
            else:
                parts.shared[:] += block.design.back(errors.sum(axis=1, keepdims=True))[:, 0]
        return value, slopes


def _alike(known: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.intp]]:
    """The numbers of prompts that the same models answered, and at the end those of which there are few."""
    _, which, counts = np.unique(known, axis=0, return_inverse=True, return_counts=True)
    many = np.flatnonzero(counts >= _FEWEST_ROWS)
    which = which.reshape(-1)
    return [*(np.flatnonzero(which == number) for number in many), np.flatnonzero(~np.isin(which, many))]


@dataclass(frozen=True)
class _Block:
    """Prompts that mostly the same models answered."""

    design: Design
    columns: npt.NDArray[np.intp]
    scores: Scores
    shares: Scores


def fit_heads(
    design: Design, scores: Scores, ridges: Ridges, *, start: Fit | None = None, tolerance: float = _TOLERANCE
) -> Fit:
    """The minimum.

    Args:
        design: n prompts.
        scores: (n, k), NaN where a model was not asked; each model has some.
        ridges: how strongly weights are held.
        start: a fit of the same prompts and models with other ridges, to begin from.
        tolerance: of the value, by which a last step improves it at most.
    """
    from scipy.optimize import minimize

    problem = Problem(design, scores, ridges)
    options: dict[str, Any] = {
        "maxiter": _MOST_STEPS,
        "maxcor": 8,
        "ftol": tolerance,
        "gtol": _GRADIENT * max(len(design), 1),
    }
    begun = problem.start if start is None else problem.joined(start)
    found = minimize(problem, begun, jac=True, method="L-BFGS-B", options=options)
    return problem.split(np.asarray(found.x, np.float64))
