"""Whether prompts are unlike those that a predictor was trained on.

Two simple measures, each with the bound that 99 of 100 prompts of the training keep: how near the encoder's vector lies to
the nearest of some centroids of the training's vectors, and how many standard deviations the form of the text (length, words,
lines, digits, characters beyond ASCII) lies from the training's mean. A prompt beyond either bound is unlike.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._predictor import PromptFeatures, Vectors

MANY: Final = 0.1
"""Share of prompts that are unlike from which a predictor's figures should be doubted; of the training about 0.02 are."""

_KEPT: Final = 99.0
_MOST_CENTROIDS: Final = 64
_OF_A_CENTROID: Final = 10
_ROUNDS: Final = 12
# Characters of a text that are looked at.
_READ: Final = 20_000
# Smallest standard deviation, so that prompts that are all alike in one respect do not rule out the least difference.
_LEAST_SPREAD: Final = 0.02
_LARGEST: Final = sys.float_info.max
_TENSOR: Final = "novelty.centroids"
_N_FORMS: Final = 5

Forms = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Novelty:
    """What the prompts of a training were like.

    Args:
        centroids: (c, d) rows of length 1; None if vectors are not read.
        nearness: cosine to the nearest centroid that prompts like those of the training have at least.
        means: (5,) of the forms of texts.
        spreads: (5,) their standard deviations.
        distance: standard deviations that the forms of such prompts differ from the means at most.
    """

    centroids: Vectors | None
    nearness: float
    means: Forms
    spreads: Forms
    distance: float

    @classmethod
    def of(cls, features: PromptFeatures, seed: int = 0) -> Novelty:
        """That of a training on these prompts.

        Raises:
            QualityError: there are none.
        """
        if not len(features):
            raise QualityError("there are no prompts to tell others from")
        forms = _forms(features.texts)
        means, spreads = forms.mean(axis=0), np.maximum(forms.std(axis=0), _LEAST_SPREAD)
        distance = float(np.percentile(_distances(forms, means, spreads), _KEPT))
        if features.vectors is None:
            return cls(None, -1.0, means, spreads, distance)
        n_centroids = max(1, min(_MOST_CENTROIDS, len(features) // _OF_A_CENTROID))
        # Vectors lie nearer to centroids that they were averaged into than new ones do, so others give the bound.
        fitted, others = features.vectors[::2], features.vectors[1::2]
        of_half = _centroids(fitted, max(1, n_centroids // 2), seed)
        nearness = float(np.percentile(_nearness(others if len(others) else fitted, of_half), 100.0 - _KEPT))
        # As they are stored.
        centroids = _centroids(features.vectors, n_centroids, seed).astype(np.float16).astype(np.float32)
        return cls(centroids, nearness, means, spreads, distance)

    def unlike(self, features: PromptFeatures) -> npt.NDArray[np.bool_]:
        """(n,) whether each prompt is unlike those of the training.

        Raises:
            QualityError: the prompts' vectors have another width than those of the training.
        """
        beyond: npt.NDArray[np.bool_] = _distances(_forms(features.texts), self.means, self.spreads) > self.distance * 1.001
        if self.centroids is not None and features.vectors is not None:
            width, given = self.centroids.shape[1], features.vectors.shape[1]
            if width != given:
                raise QualityError(
                    f"{_TENSOR} are of vectors of {width} numbers, and those given have {given}; the file is damaged"
                )
            beyond |= _nearness(features.vectors, self.centroids) < self.nearness - 1e-3
        return beyond

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What a predictor's file keeps among its tensors."""
        return {} if self.centroids is None else {_TENSOR: self.centroids.astype(np.float16)}

    def settings(self) -> dict[str, Any]:
        """What it keeps among its settings, under ``novelty``."""
        return {
            "nearness": self.nearness,
            "means": self.means.tolist(),
            "spreads": self.spreads.tolist(),
            "distance": self.distance,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]) -> Novelty:
        """The one that they came from.

        Raises:
            QualityError: something is missing, or of another shape or kind.
        """
        centroids = tensors.get(_TENSOR)
        if centroids is not None:
            centroids = centroids.astype(np.float32)
            if centroids.ndim != 2 or not len(centroids):
                raise QualityError(f"{_TENSOR} must have rows and columns")
        rows = [_numbers(settings, name, _N_FORMS) for name in ("means", "spreads")]
        nearness, distance = (float(_numbers(settings, name, None)[0]) for name in ("nearness", "distance"))
        if not (rows[1] > 0).all():
            raise QualityError("novelty: spreads must be above 0")
        return cls(centroids, nearness, rows[0], rows[1], distance)


def _numbers(settings: Mapping[str, Any], name: str, length: int | None) -> Forms:
    """Finite numbers: so many in a list, or one."""
    value = settings.get(name)
    listed = value if length is not None else [value]
    if not isinstance(listed, list) or len(listed) != (1 if length is None else length):
        raise QualityError(f"novelty: {name} must be {'a number' if length is None else f'{length} numbers'}")
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in listed):
        raise QualityError(f"novelty: {name} must be made of numbers")
    # A whole number may be longer than any that is finite here.
    if not all(abs(each) <= _LARGEST for each in listed):
        raise QualityError(f"novelty: {name} must be finite")
    return np.array(listed, np.float64)


def _forms(texts: Sequence[str]) -> Forms:
    return np.array([_form(text) for text in texts], np.float64).reshape(len(texts), _N_FORMS)


def _form(text: str) -> list[float]:
    read = text[:_READ]
    n = max(1, len(read))
    digits = sum(map(str.isdecimal, read)) / n
    foreign = 0.0 if read.isascii() else sum(char > "\x7f" for char in read) / n
    return [
        float(np.log1p(len(text))),
        float(np.log1p(len(read.split()))),
        float(np.log1p(read.count("\n"))),
        10.0 * digits,
        10.0 * foreign,
    ]


def _distances(forms: Forms, means: Forms, spreads: Forms) -> npt.NDArray[np.float64]:
    largest: npt.NDArray[np.float64] = (np.abs(forms - means) / spreads).max(axis=1)
    return largest


def _nearness(vectors: Vectors, centroids: Vectors) -> npt.NDArray[np.float64]:
    nearest: npt.NDArray[np.float64] = (vectors @ centroids.T).max(axis=1).astype(np.float64)
    return nearest


def _centroids(vectors: Vectors, n: int, seed: int) -> Vectors:
    """Directions that the vectors gather around: k-means by cosine, from vectors that lie far from each other."""
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(vectors)))]
    nearest = vectors @ vectors[chosen[0]]
    while len(chosen) < n:
        away = np.maximum(1.0 - nearest.astype(np.float64), 0.0)
        total = away.sum()
        chosen.append(int(rng.choice(len(vectors), p=away / total)) if total > 0 else int(rng.integers(len(vectors))))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    centroids = vectors[chosen].astype(np.float64)
    for _ in range(_ROUNDS):
        of_each = (vectors @ centroids.T.astype(np.float32)).argmax(axis=1)
        sums = np.zeros_like(centroids)
        np.add.at(sums, of_each, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # One that no vector is nearest to stays where it is.
        centroids = np.where(lengths > 1e-9, sums / np.maximum(lengths, 1e-9), centroids)
    return centroids.astype(np.float32)
