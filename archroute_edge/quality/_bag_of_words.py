"""The yardstick: what the words of a prompt alone tell of a model's score.

Words and pairs of neighbouring words are hashed into buckets and counted, a prompt's counts are brought to length 1, and each
model has a logistic regression on them. A predictor that is no better has learned nothing that counting words would not.
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import SettingsError
from archroute_edge.quality._outcomes import Scores
from archroute_edge.quality._strengths import sigmoid

if TYPE_CHECKING:
    from archroute_edge.quality._metrics import Floats

BUCKETS: Final = 1 << 18
RIDGE: Final = 1.0
"""Of the sum of squared weights, half of which is added to the sum of the losses: scikit-learn's ``C`` of 1."""

_WORD: Final = re.compile(r"\w+")
_STEPS: Final = 200


def require_scipy() -> None:
    """Make sure before a long run that models can be fitted.

    Raises:
        SettingsError: SciPy is not installed.
    """
    try:
        importlib.import_module("scipy.sparse")
    except ImportError as exc:
        raise SettingsError("fitting needs SciPy; install it with: pip install 'archroute-edge[quality]'") from exc


def word_buckets(text: str) -> npt.NDArray[np.int64]:
    """The bucket of each word and each pair of neighbouring words, in lower case; the same on every machine.

    The hash is the CRC-32 of the UTF-8: Python's own differs from process to process.
    """
    words = [each.encode("utf-8", "surrogatepass") for each in _WORD.findall(text.lower())]
    pairs = (b" ".join(pair) for pair in pairwise(words))
    return np.fromiter((zlib.crc32(each) % BUCKETS for each in chain(words, pairs)), np.int64)


def count_words(texts: Sequence[str]) -> Any:
    """(n, :data:`BUCKETS`) sparse counts of the prompts' words and pairs, of length 1 each; a prompt without words is 0.

    Raises:
        SettingsError: SciPy is not installed.
    """
    require_scipy()
    from scipy import sparse

    indices, values, ends = [], [], [0]
    for text in texts:
        found, counts = np.unique(word_buckets(text), return_counts=True)
        indices.append(found)
        values.append(counts / max(float(np.linalg.norm(counts)), 1.0))
        ends.append(ends[-1] + len(found))
    empty: list[Any] = [np.empty(0)]
    data, columns = np.concatenate(values or empty), np.concatenate(indices or empty).astype(np.int64)
    return sparse.csr_matrix((data, columns, ends), shape=(len(texts), BUCKETS))


class BagOfWords:
    """A logistic regression a model on hashed words, with targets from 0 to 1.

    Args:
        weights: (k, buckets).
        intercepts: (k,).
    """

    def __init__(self, weights: Floats, intercepts: Floats) -> None:
        self._weights = weights
        self._intercepts = intercepts

    @classmethod
    def fit(cls, texts: Sequence[str], scores: Scores) -> BagOfWords:
        """Learn from the scores of k models.

        Args:
            texts: n of them.
            scores: (n, k), 0 to 1; NaN where a model was not asked.

        Raises:
            SettingsError: SciPy is not installed.
        """
        return cls.fit_counts(count_words(texts), scores)

    @classmethod
    def fit_counts(cls, counts: Any, scores: Scores, *, on_model: Callable[[], None] = lambda: None) -> BagOfWords:
        """The same from :func:`count_words`."""
        weights, intercepts = np.zeros((scores.shape[1], BUCKETS)), np.zeros(scores.shape[1])
        for model, column in enumerate(scores.T):
            known = np.flatnonzero(~np.isnan(column))
            if len(known):
                rows = counts[known]
                # Words that do not occur keep the weight 0.
                used = np.unique(rows.indices)
                fitted = _fit(rows[:, used], column[known])
                weights[model, used], intercepts[model] = fitted[1:], fitted[0]
            on_model()
        return cls(weights, intercepts)

    def predict(self, texts: Sequence[str]) -> Scores:
        """(n, k) expected scores; 0.5 of a model that no score was known of.

        Raises:
            SettingsError: SciPy is not installed.
        """
        return self.predict_counts(count_words(texts))

    def predict_counts(self, counts: Any) -> Scores:
        """The same from :func:`count_words`."""
        logits = np.asarray(counts @ self._weights.T) + self._intercepts
        return np.asarray(sigmoid(logits), dtype=np.float64)


def _fit(counts: Any, targets: Floats) -> Floats:
    """Intercept and weights with the least sum of cross entropies and half the ridge times the squared weights."""
    from scipy.optimize import minimize

    columns = counts.T.tocsr()

    def loss(found: Floats) -> tuple[float, Floats]:
        logits = counts @ found[1:] + found[0]
        rest = sigmoid(logits) - targets
        # The cross entropy of fractional targets: log(1 + e^z) - y z.
        value = float(np.sum(np.logaddexp(0.0, logits) - targets * logits)) + 0.5 * RIDGE * float(found[1:] @ found[1:])
        return value, np.concatenate([[rest.sum()], columns @ rest + RIDGE * found[1:]])

    begun = np.zeros(counts.shape[1] + 1)
    # A model that was always right, or never, would have no finite intercept.
    share = np.clip(targets.mean(), 0.5 / (len(targets) + 1), 1 - 0.5 / (len(targets) + 1))
    begun[0] = np.log(share / (1 - share))
    if targets.min() == targets.max() and targets[0] in (0.0, 1.0):
        return begun
    solved = minimize(loss, begun, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return np.asarray(solved.x, dtype=np.float64)
