"""The policy ``classifier``: a last layer on an encoder's vector that tells win, tie and loss apart, for any number of models.

RouteLLM's classifier has three labels for one pair of models. Here each model has a strength, s_m = b_m + w_m · x, and for any
two

    P(a is better) = σ(s_a − s_b − θ),   P(b is better) = σ(s_b − s_a − θ),   P(tie) is the rest,

with one width of ties θ for all. A tie counts as half a win, so a beats b with chance ½ + ½ (P(a) − P(b)): swapped, two models
swap their chances. The paper's rule gives ties to the weak model.

The encoder is the bundled one as it is, and the last layer alone is trained (here, by L-BFGS); or one whose layers were trained
with it (``training/quality``), which then stands in one file with its last layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._bag_of_words import require_scipy
from archroute_edge.quality._mixtures import Mixture, MixturePredictor, restore_shared
from archroute_edge.quality._outcomes import Battles, Outcomes, Scores
from archroute_edge.quality._predictor import Policy, PromptFeatures, Vectors
from archroute_edge.quality._strengths import (
    Calibration,
    comparisons_of,
    fit_calibration,
    same_prompts,
    scores_on,
    sigmoid,
    softplus,
    tensor,
    vectors_of,
)
from archroute_edge.quality._train import tokens_of

RIDGES: Final = (256.0, 64.0, 16.0, 4.0)
"""Of the last layer's weights, the most restraining first; the best on thirds that are held out is taken."""

_FOLDS: Final = 3
_BIAS_RIDGE: Final = 0.5
_THRESHOLD_PRIOR: Final = 0.5
_LEAST_THRESHOLD, _MOST_THRESHOLD = 1e-3, 20.0
_LEAST_SPREAD: Final = 1e-3
_MOST_STEPS: Final = 200
_N_SAMPLE: Final = 1000
_MOST_WEIGHT: Final = 1e6


@dataclass(frozen=True)
class LastLayer:
    """What strengths are computed from.

    Attributes:
        weights: (k, d).
        bias: (k,).
        threshold: θ, the width of ties; positive.
    """

    weights: npt.NDArray[np.float32]
    bias: Scores
    threshold: float

    @cached_property
    def _exact_weights(self) -> Scores:
        return self.weights.astype(np.float64)

    def strengths(self, vectors: Vectors) -> Scores:
        """(n, k) strengths of the models; on a prompt they come to 0."""
        raw = np.einsum("nd,kd->nk", vectors.astype(np.float64), self._exact_weights) + self.bias
        centred: Scores = raw - raw.mean(axis=1, keepdims=True)
        return centred


class Classifier(MixturePredictor):
    """A last layer; made by :func:`train_classifier`, or of one that was trained with its encoder."""

    policy: ClassVar[Policy] = "classifier"

    def __init__(
        self,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        layer: LastLayer,
        calibration: Calibration | None,
        newcomers: tuple[Mixture, ...] = (),
    ) -> None:
        super().__init__(models, encoder, sample, len(layer.bias), calibration, newcomers)
        self.layer = layer

    def strengths(self, features: PromptFeatures) -> Scores:
        """As :meth:`MixturePredictor.strengths` says."""
        return self.layer.strengths(vectors_of(features, self.layer.weights.shape[1]))

    def chance(self, ahead: Scores) -> Scores:
        """The chance to beat a model that is so far behind, a tie counted half."""
        won, lost = sigmoid(ahead - self.layer.threshold), sigmoid(-ahead - self.layer.threshold)
        found: Scores = 0.5 + 0.5 * (won - lost)
        return found

    def own_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The last layer."""
        layer = self.layer
        return {"weights": layer.weights, "bias": layer.bias, "threshold": np.array([layer.threshold])}

    @classmethod
    def restore(
        cls,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        tensors: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> Classifier:
        """The predictor that `tensors` and `settings` came from."""
        k, calibration, newcomers = restore_shared(len(models), tensors, settings)
        weights = tensor(tensors, "weights", np.float32, (k, None), -_MOST_WEIGHT, _MOST_WEIGHT)
        bias = tensor(tensors, "bias", np.float64, (k,), -_MOST_WEIGHT, _MOST_WEIGHT)
        threshold = tensor(tensors, "threshold", np.float64, (1,), _LEAST_THRESHOLD, _MOST_THRESHOLD)
        return cls(models, encoder, sample, LastLayer(weights, bias, float(threshold[0])), calibration, newcomers)


def train_classifier(
    battles: Battles,
    features: PromptFeatures,
    outcomes: Outcomes | None = None,
    *,
    encoder: str | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Classifier:
    """Fit a last layer to battles, and calibrate expected scores on outcomes if there are any.

    How strongly weights are held is chosen on thirds of the prompts that are held out, and so are the strengths that expected
    scores are calibrated on.

    Args:
        battles: what to learn from; each model is in one of them at least.
        features: of ``battles.prompts``, with vectors.
        outcomes: scores on prompts of the battles. Without them a model's expected score is its mean chance to beat the others.
        encoder: identity of the encoder that the vectors are of.
        seed: decides what is held out, and the sample.
        on_progress: called with the number of finished fits, and of all.

    Raises:
        QualityError: the battles, the vectors or the outcomes cannot be learned from.
        SettingsError: SciPy is missing.
    """
    require_scipy()
    labels, k = labels_of(battles), len(battles.models)
    vectors = vectors_of(features)
    scores = scores_on(battles.prompts, battles.models, outcomes)
    scaled, undo = _scaling(vectors)
    said = same_prompts(battles.prompts)
    used = np.unique(labels.prompt)
    texts = np.unique(said[used])
    place = np.random.default_rng(seed).permutation(len(texts))
    order = dict(zip(texts.tolist(), place.tolist(), strict=True))
    turn = np.array([order.get(text, 0) for text in said.tolist()]) % _FOLDS
    asked = used if outcomes is None else np.flatnonzero(~np.isnan(scores).all(axis=1))
    n_fits, done = len(RIDGES) * _FOLDS + 1, 0
    tried: list[tuple[float, float, Scores]] = []
    for ridge in RIDGES if len(texts) > 1 else RIDGES[:1]:
        strengths, loss = np.empty((len(vectors), k)), 0.0
        for fold in range(_FOLDS):
            ours = turn == fold
            rest = labels.rows(~ours[labels.prompt])
            # A single prompt cannot be left out.
            layer = _fit(rest if len(rest) else labels, scaled, k, ridge)
            strengths[ours] = layer.strengths(scaled[ours])
            judged = labels.rows(ours[labels.prompt])
            loss += _loss(judged, strengths, layer.threshold)
            done += 1
            on_progress(done, n_fits)
        tried.append((loss, ridge, strengths))
    _, ridge, strengths = min(tried, key=lambda each: each[0])
    layer = undo(_fit(labels, scaled, k, ridge))
    on_progress(n_fits, n_fits)
    calibration = None if outcomes is None else fit_calibration(strengths[asked], scores[asked])
    few = asked[np.sort(np.random.default_rng(seed).permutation(len(asked))[:_N_SAMPLE])]
    found = Classifier(battles.models, encoder, np.empty((0, k)), layer, calibration)
    found.sample = found.scores_of(strengths[few])
    found.sample_tokens = tokens_of(battles, few)
    return found


@dataclass(frozen=True)
class Labels:
    """Battles by prompt and pair, the same whichever way round and in whatever order they were.

    Attributes:
        prompt: (n,) which prompt.
        low: (n,) the model of the pair that has the lower number.
        high: (n,) the other.
        shares: (n, 3) of the battles that `low` won, that were ties, and that `high` won, times the pair's weight.
    """

    prompt: npt.NDArray[np.intp]
    low: npt.NDArray[np.intp]
    high: npt.NDArray[np.intp]
    shares: Scores

    def __len__(self) -> int:
        return len(self.prompt)

    def rows(self, which: npt.NDArray[Any]) -> Labels:
        """Some of them."""
        return Labels(self.prompt[which], self.low[which], self.high[which], self.shares[which])


def labels_of(battles: Battles) -> Labels:
    """The battles in one order, with weights of mean 1, so that battles that all come twice weigh as if they came once.

    Raises:
        QualityError: they cannot be learned from.
    """
    comparisons = comparisons_of(battles)
    k = len(battles.models)
    low, high = np.minimum(battles.first, battles.second), np.maximum(battles.first, battles.second)
    codes = (battles.prompt.astype(np.int64) * k + low) * k + high
    place = np.searchsorted((comparisons.prompt * k + comparisons.low) * k + comparisons.high, codes)
    is_tie = battles.won == 0.5
    ties = np.bincount(place, weights=is_tie, minlength=len(comparisons)).astype(np.float64)
    won = comparisons.won - ties / 2
    shares = np.stack([won, ties, comparisons.count - ties - won], axis=1)
    return Labels(comparisons.prompt, comparisons.low, comparisons.high, shares / comparisons.count.mean())


def _scaling(vectors: Vectors) -> tuple[Vectors, Callable[[LastLayer], LastLayer]]:
    """Vectors around 0 with a mean square length of 1, and what makes a layer on these one on the vectors themselves."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    spread = float(np.sqrt(np.square(vectors - mean).sum(axis=1).mean()))
    factor = 1.0 / spread if spread > _LEAST_SPREAD else 1.0

    def undo(layer: LastLayer) -> LastLayer:
        weights = layer.weights.astype(np.float64) * factor
        return LastLayer(weights.astype(np.float32), layer.bias - weights @ mean, layer.threshold)

    return ((vectors - mean) * factor).astype(np.float32), undo


def _fit(labels: Labels, vectors: Vectors, k: int, ridge: float) -> LastLayer:
    """The likeliest layer beside normal priors of weights, biases and the logarithm of the width of ties."""
    from scipy.optimize import minimize

    d = vectors.shape[1]
    prompts, place = np.unique(labels.prompt, return_inverse=True)
    seen = vectors[prompts].astype(np.float64)
    place = place.reshape(-1)

    def curve(point: Scores) -> tuple[float, Scores]:
        weights, bias, log_threshold = point[: k * d].reshape(k, d), point[k * d : -1], point[-1]
        threshold = float(np.clip(np.exp(log_threshold), _LEAST_THRESHOLD, _MOST_THRESHOLD))
        strengths = seen @ weights.T + bias
        ahead = strengths[place, labels.low] - strengths[place, labels.high]
        value, slope, slope_of_threshold = _likelihood(ahead, threshold, labels.shares)
        cells = (np.bincount(place * k + which, slope, strengths.size) for which in (labels.low, labels.high))
        pull = np.subtract(*cells).reshape(strengths.shape)
        value += 0.5 * ridge * float(np.square(weights).sum()) + 0.5 * _BIAS_RIDGE * float(np.square(bias).sum())
        value += 0.5 * _THRESHOLD_PRIOR * log_threshold**2
        gradient = np.concatenate(
            [
                (pull.T @ seen + ridge * weights).reshape(-1),
                pull.sum(axis=0) + _BIAS_RIDGE * bias,
                [slope_of_threshold * threshold + _THRESHOLD_PRIOR * log_threshold],
            ]
        )
        return value, gradient

    options = {"maxiter": _MOST_STEPS, "maxcor": 8, "ftol": 1e-10, "gtol": 1e-6 * max(len(labels), 1)}
    found = minimize(curve, np.zeros(k * d + k + 1), jac=True, method="L-BFGS-B", options=options).x
    threshold = float(np.clip(np.exp(found[-1]), _LEAST_THRESHOLD, _MOST_THRESHOLD))
    return LastLayer(found[: k * d].reshape(k, d).astype(np.float32), found[k * d : -1].copy(), threshold)


def _likelihood(ahead: Scores, threshold: float, shares: Scores) -> tuple[float, Scores, float]:
    """Minus the log likelihood of labels, its slopes (n,) by the lead of the first model, and its slope by the threshold."""
    won, lost = sigmoid(ahead - threshold), sigmoid(-ahead - threshold)
    wins, ties, losses = shares.T
    # P(tie) = σ(z + θ) σ(θ - z) (1 - e^(-2θ)), which loses no digits.
    log_tie = -softplus(-ahead - threshold) - softplus(ahead - threshold) + np.log(-np.expm1(-2 * threshold))
    value = float((wins * softplus(threshold - ahead) + losses * softplus(threshold + ahead) - ties * log_tie).sum())
    slope: Scores = -wins * (1 - won) + losses * (1 - lost) - ties * (lost - won)
    by_threshold = wins * (1 - won) + losses * (1 - lost) - ties * (won + lost + 2 / np.expm1(2 * threshold))
    return value, slope, float(by_threshold.sum())


def _loss(labels: Labels, strengths: Scores, threshold: float) -> float:
    ahead = strengths[labels.prompt, labels.low] - strengths[labels.prompt, labels.high]
    return _likelihood(ahead, threshold, labels.shares)[0]
