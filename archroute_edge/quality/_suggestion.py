"""Which prompts to grade, so that few grades tell much about a new model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._predictor import Predictor, PromptFeatures
from archroute_edge.quality._text_features import read_text


def suggest_prompts(predictor: Predictor, features: PromptFeatures, n: int) -> npt.NDArray[np.intp]:
    """The numbers of ``n`` prompts to grade, or of all if there are fewer; always the same for the same prompts.

    They are spread over difficulty and over kinds: the prompts are ranked by the mean of their expected scores and cut into
    ``n`` bands, and of each band one is drawn as k-means++ draws, the likelier the farther it lies from those before.

    Args:
        predictor: says how hard prompts are.
        features: of the prompts to choose from.
        n: at least 1.

    Raises:
        QualityError: there is no prompt, or ``n`` is below 1.
    """
    if n < 1 or not len(features):
        raise QualityError("ask for at least one prompt, and give at least one to choose from")
    if n >= len(features):
        return np.arange(len(features))
    ranked = np.argsort(predictor.expected(features).mean(axis=1), kind="stable")
    places = _places(features)
    draw = np.random.default_rng(0)
    nearest = np.full(len(features), np.inf)
    chosen: list[int] = []
    bands = np.array_split(ranked, n)
    # Hard and easy ones in turn, so that the first of them are spread, too.
    for number in draw.permutation(n):
        band = bands[number]
        far = nearest[band] if chosen else np.ones(len(band))
        total = float(far.sum())
        row = int(band[draw.choice(len(band), p=far / total if total > 0 else None)])
        chosen.append(row)
        nearest = np.minimum(nearest, np.square(places - places[row]).sum(axis=1))
    return np.array(chosen, np.intp)


def _places(features: PromptFeatures) -> npt.NDArray[np.float64]:
    """Where prompts lie: by their vectors, or by the numbers about their texts."""
    if features.vectors is not None:
        return features.vectors.astype(np.float64)
    numbers = np.stack([read_text(text, 1).numbers for text in features.texts])
    spread = numbers.std(axis=0)
    return np.asarray((numbers - numbers.mean(axis=0)) / np.where(spread > 0, spread, 1.0), np.float64)
