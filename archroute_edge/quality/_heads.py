"""The policy ``heads``: for each model a logistic regression, shrunk towards one that all models share.

The expected score of model m for a prompt is σ(b_m + x·(w + d_m)). x is made of the encoder's vector, of a few numbers about
the text, and of its words. Here w + d_m is one row; how the two are learned is ``_train``'s business.

A prompt is scored alone, and a model's score depends on no other model's weights, not even in its last bit. So a score is the
same in a batch, in a decision, and after a model was added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import Policy, Predictor, PromptFeatures
from archroute_edge.quality._text_features import N_FEATURES, TEXT_FEATURES, TEXT_FORMAT, ReadText, read_text

WORD_BITS: Final = 15
_MOST_WORD_BITS: Final = 20
_MOST_WIDTH: Final = 1 << 14
# A number about a text is that many standard deviations from the mean at most.
_FARTHEST: Final = 4.0
# Beyond, the chance differs from 0 or 1 by less than anything is worth.
_LARGEST_LOGIT: Final = 30.0
_LARGEST_NUMBER: Final = 1e4
# Vectors that spread less around their mean are all alike, and so are numbers that deviate less.
_LEAST_SPREAD: Final = 1e-3
_LEAST_DEVIATION: Final = 1e-6

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scaling:
    """How what is read of a prompt is brought to one scale.

    Attributes:
        vector_mean: (d,) subtracted from vectors; empty if none are read.
        text_mean: of each number about a text.
        text_deviation: the standard deviation of each; positive.
        vector: what vectors are multiplied by then.
        text: what the numbers are multiplied by.
        words: what the weights of words are multiplied by.
        word_bits: words fall into two to the power of this cells.
    """

    vector_mean: Floats
    text_mean: Floats
    text_deviation: Floats
    vector: float
    text: float
    words: float
    word_bits: int = WORD_BITS

    def vector_part(self, vector: npt.NDArray[Any]) -> Floats:
        """(d,) of one vector, or (n, d) of many."""
        found: Floats = (vector.astype(np.float32) - self.vector_mean) * np.float32(self.vector)
        return found

    def text_part(self, numbers: npt.NDArray[np.float64]) -> Floats:
        """(T,) of one text's numbers, or (n, T) of many."""
        steps = np.clip((numbers - self.text_mean) / self.text_deviation, -_FARTHEST, _FARTHEST)
        found: Floats = (steps * self.text).astype(np.float32)
        return found


@dataclass(frozen=True)
class Weights:
    """What is learned: a row a model.

    Attributes:
        intercept: (k,)
        vector: (k, d)
        text: (k, T)
        words: (k, two to the power of the scaling's ``word_bits``), each a number that 16 bits hold.
    """

    intercept: npt.NDArray[np.float64]
    vector: Floats
    text: Floats
    words: Floats

    def __post_init__(self) -> None:
        # What is written is what is used.
        words = self.words
        if words.dtype != np.float16:
            words = np.clip(words, -_LARGEST_NUMBER, _LARGEST_NUMBER).astype(np.float16)
        object.__setattr__(self, "words", np.ascontiguousarray(words, np.float32))
        for name in ("vector", "text"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.float32))

    def with_row(self, intercept: float, vector: Floats, text: Floats, words: Floats) -> Weights:
        """These and one row more."""
        return Weights(
            np.append(self.intercept, intercept),
            np.vstack([self.vector, vector[None]]),
            np.vstack([self.text, text[None]]),
            np.vstack([self.words, words[None]]),
        )


class Heads(Predictor):
    """Logistic regressions on vector, text and words.

    Args:
        models: k names.
        encoder: identity of the encoder; None if no vectors are read.
        sample: expected scores of prompts, (m, k).
        scaling: how prompts are scaled.
        weights: what was learned.
    """

    policy: ClassVar[Policy] = "heads"

    def __init__(
        self, models: tuple[str, ...], encoder: str | None, sample: Scores, scaling: Scaling, weights: Weights
    ) -> None:
        super().__init__(models, encoder, np.asarray(sample, np.float32).astype(np.float64))
        self.scaling = scaling
        self.weights = weights

    def expected(self, features: PromptFeatures) -> Scores:
        """As :meth:`Predictor.expected` says; prompt by prompt."""
        return chances(self.logits(features))

    def logits(self, features: PromptFeatures) -> Scores:
        """(n, k) logits of the expected scores."""
        read = [read_text(text, self.scaling.word_bits) for text in features.texts]
        return self.logits_of(read, self.vectors_of(features))

    def vectors_of(self, features: PromptFeatures) -> npt.NDArray[np.float32] | None:
        """The vectors that are read of prompts; None if none are.

        Raises:
            QualityError: they are missing, or of another width.
        """
        width = len(self.scaling.vector_mean)
        vectors = features.vectors
        if width and vectors is None:
            raise QualityError("this predictor reads the encoder's vectors, and none were given")
        if width and vectors is not None and vectors.shape[1] != width:
            raise QualityError(f"this predictor reads vectors of {width} numbers, and those given have {vectors.shape[1]}")
        return vectors if width else None

    def logits_of(self, read: Sequence[ReadText], vectors: npt.NDArray[np.float32] | None) -> Scores:
        """(n, k) logits of texts that were read into as many cells as these heads have, and of what ``vectors_of`` says."""
        found = np.empty((len(read), len(self.models)))
        for row, each in enumerate(read):
            found[row] = self._logits(each, None if vectors is None else vectors[row])
        return found

    def _logits(self, read: ReadText, vector: npt.NDArray[np.float32] | None) -> Scores:
        weights, scaling = self.weights, self.scaling
        logits = weights.intercept + _products(weights.text, scaling.text_part(read.numbers))
        if vector is not None:
            logits += _products(weights.vector, scaling.vector_part(vector))
        if len(read.words):
            logits += _products(weights.words.take(read.words, axis=1), read.weights * np.float32(scaling.words))
        return logits

    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> Heads:
        """As :meth:`Predictor.with_model` says; a mixture of the known heads, and what the grades say beyond it."""
        from archroute_edge.quality._added_head import add_head

        return add_head(self, model, graded, features)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """As :meth:`Predictor.tensors` says."""
        return {
            "intercept": self.weights.intercept,
            "vector_weights": self.weights.vector,
            "text_weights": self.weights.text,
            "word_weights": self.weights.words.astype(np.float16),
            "vector_mean": self.scaling.vector_mean,
            "text_mean": self.scaling.text_mean,
            "text_deviation": self.scaling.text_deviation,
        }

    def settings(self) -> dict[str, Any]:
        """As :meth:`Predictor.settings` says."""
        scaling = self.scaling
        return {
            "text_format": TEXT_FORMAT,
            "text_features": [name for name, _ in TEXT_FEATURES],
            "word_bits": scaling.word_bits,
            "scales": {"vector": scaling.vector, "text": scaling.text, "words": scaling.words},
        }

    @classmethod
    def restore(
        cls,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        tensors: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> Heads:
        """As :meth:`Predictor.restore` says."""
        if settings.get("text_format") != TEXT_FORMAT or settings.get("text_features") != [name for name, _ in TEXT_FEATURES]:
            raise QualityError(
                "was trained on texts as another archroute-edge reads them; train it again with archroute quality train"
            )
        bits, scales = settings.get("word_bits"), settings.get("scales")
        if type(bits) is not int or not 1 <= bits <= _MOST_WORD_BITS:
            raise QualityError(f"its word_bits must be a whole number from 1 to {_MOST_WORD_BITS}; the file is damaged")
        if not isinstance(scales, dict) or set(scales) != {"vector", "text", "words"}:
            raise QualityError("its scales must be those of vector, text and words; the file is damaged")
        for name, scale in scales.items():
            if type(scale) not in (int, float) or not 0 <= scale <= _LARGEST_NUMBER:
                raise QualityError(f"its scale of {name} must be a number from 0 to {_LARGEST_NUMBER:g}; the file is damaged")
        mean = tensors.get("vector_mean")
        width = len(mean) if mean is not None and mean.ndim == 1 else 0
        if (width > 0) != (encoder is not None) or width > _MOST_WIDTH:
            raise QualityError("its vectors have no usable width; the file is damaged")
        shapes = {
            "intercept": (len(models),),
            "vector_weights": (len(models), width),
            "text_weights": (len(models), N_FEATURES),
            "word_weights": (len(models), 1 << bits),
            "vector_mean": (width,),
            "text_mean": (N_FEATURES,),
            "text_deviation": (N_FEATURES,),
        }
        parts = {name: _checked(tensors, name, shape) for name, shape in shapes.items()}
        if not (parts["text_deviation"] >= _LEAST_DEVIATION / 2).all():
            raise QualityError("its text_deviation must be positive; the file is damaged")
        scaling = Scaling(
            parts["vector_mean"].astype(np.float32),
            parts["text_mean"].astype(np.float32),
            parts["text_deviation"].astype(np.float32),
            vector=float(scales["vector"]),
            text=float(scales["text"]),
            words=float(scales["words"]),
            word_bits=bits,
        )
        weights = Weights(
            parts["intercept"].astype(np.float64), parts["vector_weights"], parts["text_weights"], parts["word_weights"]
        )
        return cls(models, encoder, sample, scaling, weights)


def _checked(tensors: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    found = tensors.get(name)
    if found is None or found.shape != shape or found.dtype.kind != "f":
        raise QualityError(f"lacks a tensor {name} of {' x '.join(map(str, shape))} floats; the file is damaged")
    if not (np.abs(found) <= _LARGEST_NUMBER).all():
        raise QualityError(f"its {name} has a number beyond {_LARGEST_NUMBER:g}; the file is damaged")
    return found


def _products(rows: Floats, values: Floats) -> Scores:
    """The product of each row with ``values``: each summed alone, unlike in a product of matrices.

    Rows must lie one behind the other in memory; NumPy else adds them up in another order, which depends on their number.
    """
    found: Scores = (rows * values).sum(axis=1).astype(np.float64)
    return found


def chances(logits: Scores) -> Scores:
    """σ of logits, finite whatever they are."""
    found: Scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)))
    return found


def fit_scaling(
    features: PromptFeatures, numbers: npt.NDArray[np.float64], *, text: float, words: float, word_bits: int
) -> Scaling:
    """The scaling that gives vectors a mean square length of 1 around their mean, and numbers a mean of 0 and variance of 1.

    Args:
        features: the prompts to learn from.
        numbers: (n, T) the numbers about their texts.
        text: the square length that the numbers have then, on average.
        words: the square length of the words.
        word_bits: as in :class:`Scaling`.
    """
    vectors = features.vectors
    mean = np.zeros(0, np.float32) if vectors is None else vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = 0.0 if vectors is None else math.sqrt(float(np.square(vectors - mean, dtype=np.float64).sum(axis=1).mean()))
    deviation = numbers.std(axis=0)
    # What is the same everywhere says nothing, and must not say much of a prompt where it differs.
    deviation[deviation < _LEAST_DEVIATION] = 1.0
    return Scaling(
        mean,
        numbers.mean(axis=0).astype(np.float32),
        deviation.astype(np.float32),
        vector=1.0 / spread if spread > _LEAST_SPREAD else 1.0,
        text=math.sqrt(text / N_FEATURES),
        words=math.sqrt(words),
        word_bits=word_bits,
    )
