"""The bag of words beside a predictor: trained on other outcomes, or cross-validated on the outcomes evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from archroute_edge.quality._bag_of_words import BagOfWords, count_words
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._splits import category_of, folds

Progress = Callable[[str, int, int], None]
"""Called with a step, and with the amounts done and in all."""

WORDS: Final = "bag of words"
NEW_WORDS: Final = "bag of words, unseen"
"""Trained without the category of the prompt that it is asked about."""
N_FOLDS: Final = 5
"""Parts of a cross-validation, if there are enough prompts or categories."""


@dataclass(frozen=True)
class YardstickTraining:
    """Outcomes that the bag of words learns from, and whose categories count as seen.

    Args:
        outcomes: none of them among those that are evaluated on.
        texts: a text for each prompt.
    """

    outcomes: Outcomes
    texts: Sequence[str]


@dataclass(frozen=True)
class Yardstick:
    """What a bag of words expects.

    Attributes:
        expected: (n, k) expected scores: :data:`WORDS`, and :data:`NEW_WORDS` if it was cross-validated on several categories.
        how: it was trained, in words.
        seen: categories of the training outcomes, if there were any.
        warnings: what the reader has to know before believing the figures.
    """

    expected: Mapping[str, Scores]
    how: str
    seen: frozenset[str] | None
    warnings: Sequence[str]


def yardstick(
    outcomes: Outcomes, texts: Sequence[str], training: YardstickTraining | None, seed: int, on_progress: Progress
) -> Yardstick:
    """What a bag of words expects of the outcomes' models, which it learns from ``training`` or from the outcomes themselves.

    Args:
        outcomes: to be evaluated on.
        texts: a text for each of their prompts.
        training: see :class:`YardstickTraining`; without it, it is cross-validated.
        seed: of the parts.
        on_progress: called after each fit.

    Raises:
        SettingsError: SciPy is not installed.
    """
    counts, scores = count_words(texts), outcomes.scores
    if training is not None:
        return _trained(training, counts, texts, outcomes.models, on_progress)
    n_texts, n_categories = len(_plain(texts)), len({category_of(prompt) for prompt in outcomes.prompts})
    if n_texts == 1:
        warning = "One text is too little to train a bag of words on: it expects 0.5 of every model."
        return Yardstick({WORDS: np.full(scores.shape, 0.5)}, "not trained", None, [warning])
    kinds = {WORDS: folds(outcomes, min(N_FOLDS, n_texts), "prompt", seed)}
    if n_categories > 1:
        kinds[NEW_WORDS] = folds(outcomes, min(N_FOLDS, n_categories), "category", seed)
    done, n_fits = 0, len(outcomes.models) * sum(map(len, kinds.values()))

    def advance() -> None:
        nonlocal done
        done += 1
        on_progress(WORDS, done, n_fits)

    expected = {}
    for name, splits in kinds.items():
        predicted = np.full(scores.shape, 0.5)
        for split in splits:
            fitted = BagOfWords.fit_counts(counts[split.train], scores[split.train], on_model=advance)
            predicted[split.test] = fitted.predict_counts(counts[split.test])
        expected[name] = predicted
    how = f"cross-validated on these prompts, in {len(kinds[WORDS])} parts"
    if NEW_WORDS in kinds:
        how += f"; with whole categories left out, in {len(kinds[NEW_WORDS])} parts"
    return Yardstick(expected, how, None, ())


def _trained(
    training: YardstickTraining, counts: Any, texts: Sequence[str], models: Sequence[str], on_progress: Progress
) -> Yardstick:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        on_progress(WORDS, done, len(models))

    scores = training.outcomes.columns(models).scores
    fitted = BagOfWords.fit_counts(count_words(training.texts), scores, on_model=advance)
    warnings = []
    if both := _plain(texts) & _plain(training.texts):
        warnings.append(f"{len(both)} of the prompts are among the training outcomes, too, so that figures are too good.")
    if unknown := [model for model, column in zip(models, scores.T, strict=True) if np.isnan(column).all()]:
        warnings.append(f"The training outcomes have none of {', '.join(unknown)}: the bag of words expects 0.5 of each.")
    seen = frozenset(category_of(prompt) for prompt in training.outcomes.prompts)
    how = f"trained on {len(training.texts)} prompts given for that"
    return Yardstick({WORDS: fitted.predict_counts(counts)}, how, seen, warnings)


def _plain(texts: Sequence[str]) -> set[str]:
    """Texts but for case and blanks."""
    return {" ".join(text.casefold().split()) for text in texts}
