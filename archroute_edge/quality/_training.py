"""What the training of every policy shares: targets and tiers, the parts that are held out, and a first figure.

The figure is the APGR of the weakest and the strongest model on prompts that were held out, beside that of a bag of words that
was held out in the same way. ``archroute quality eval`` has the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._alike import like_learned
from archroute_edge.quality._bag_of_words import BagOfWords, count_words
from archroute_edge.quality._metrics import PairOrder
from archroute_edge.quality._outcomes import Battles, Outcomes, Scores
from archroute_edge.quality._predictor import Predictor, PromptFeatures
from archroute_edge.quality._splits import By, Split, category_of, folds, texts_of

N_PARTS: Final = 5
FEWEST_HELD_OUT: Final = 20
"""With fewer prompts, nothing is held out."""

_FEWEST_IN_COMMON: Final = 20
_SHOWN: Final = 10

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PairCheck:
    """How well prompts that were held out are ordered for two models.

    Attributes:
        weak: the weakest of the models.
        strong: the strongest.
        prompts: that both answered and that were held out.
        alike: of these, how many share :data:`~archroute_edge.quality._alike.IN_A_ROW` words in a row with a prompt that was
            learned from meanwhile.
        apgr: of the predictor's policy; None if the stronger one is no better on these prompts.
        words_apgr: of a bag of words.
        new_apgr, new_words_apgr: the same of the prompts that are not alike; None without alike ones, or if few are left.
        by: what was held out as a whole.
    """

    weak: str
    strong: str
    prompts: int
    alike: int
    apgr: float | None
    words_apgr: float | None
    new_apgr: float | None
    new_words_apgr: float | None
    by: By


def choose_targets(outcomes: Outcomes, targets: Sequence[str]) -> Outcomes:
    """The outcomes of some models, without prompts that none of them answered.

    Raises:
        QualityError: a model has no outcomes, or is named twice.
    """
    if not targets:
        raise QualityError(f"no outcomes of any of the models; there are {_those_of(outcomes)}")
    unknown = [name for name in targets if name not in outcomes.models]
    if unknown:
        raise QualityError(f"no outcomes of a model {unknown[0]!r}; there are {_those_of(outcomes)}")
    if len({*targets}) != len(targets):
        raise QualityError("a model is named twice among the targets")
    return _answered(outcomes.columns(targets))


def _those_of(outcomes: Outcomes) -> str:
    shown = ", ".join(outcomes.models[:_SHOWN]) + (", ..." if len(outcomes.models) > _SHOWN else "")
    return f"those of {shown}" if shown else "none at all"


def merge_tiers(outcomes: Outcomes, tiers: Mapping[str, Sequence[str]], *, may_lack: bool = False) -> Outcomes:
    """Outcomes of tiers: on each prompt the mean of those of a tier's models that answered it.

    Args:
        outcomes: of models.
        tiers: names of models by tier. One that has no outcomes is left out, as sets have different models.
        may_lack: whether a tier is left out as well if none of its models has outcomes.

    Raises:
        QualityError: no model of a tier has outcomes, or of any tier if some may lack them.
    """
    if may_lack:
        answered = {*outcomes.scored_models}
        tiers = {tier: models for tier, models in tiers.items() if not answered.isdisjoint(models)} or tiers
    scores = np.full((len(outcomes.prompts), len(tiers)), np.nan)
    for column, (tier, models) in enumerate(tiers.items()):
        # A model that is named twice counts once.
        found = outcomes.columns([name for name in dict.fromkeys(models) if name in outcomes.models]).scores
        known = ~np.isnan(found)
        if not known.any():
            raise QualityError(f"no model of the tier {tier!r} has outcomes")
        has = known.any(axis=1)
        scores[has, column] = np.nansum(found[has], axis=1) / known[has].sum(axis=1)
    return _answered(Outcomes(outcomes.prompts, tuple(tiers), scores))


def battles_among(battles: Battles, models: Sequence[str]) -> Battles:
    """The battles in which both models are among ``models``, with the prompts that they were fought on.

    Raises:
        QualityError: there is none.
    """
    place = {name: number for number, name in enumerate(models)}
    numbers = np.array([place.get(name, -1) for name in battles.models], np.intp)
    kept = (numbers[battles.first] >= 0) & (numbers[battles.second] >= 0)
    if not kept.any():
        raise QualityError("no battle was fought between two of the targets")
    used, prompt = np.unique(battles.prompt[kept], return_inverse=True)
    return Battles(
        tuple(battles.prompts[row] for row in used),
        tuple(models),
        prompt.reshape(-1),
        numbers[battles.first[kept]],
        numbers[battles.second[kept]],
        battles.won[kept],
    )


def held_out_parts(outcomes: Outcomes, seed: int) -> tuple[Split, ...]:
    """Parts of the prompts to hold out in turn: whole categories if there are two or more; none of too few prompts."""
    n_prompts = len(outcomes.prompts)
    if n_prompts < FEWEST_HELD_OUT:
        return ()
    n_categories = len({category_of(prompt) for prompt in outcomes.prompts})
    parts = folds(outcomes, min(N_PARTS, n_categories), "category", seed) if n_categories > 1 else ()
    # A category that holds nearly everything leaves nothing to learn from.
    if not parts or min(len(part.train) for part in parts) < n_prompts // 4:
        n_texts = len(set(texts_of(outcomes)))
        parts = folds(outcomes, N_PARTS, "prompt", seed) if n_texts >= FEWEST_HELD_OUT else ()
    return tuple(part for part in parts if len(part.train) and len(part.test))


def known_kind_parts(outcomes: Outcomes, parts: Sequence[Split], seed: int) -> tuple[Split, ...]:
    """Prompts to hold out whose categories are learned from; none if ``parts`` are such."""
    if not parts or _held_out_by(outcomes, parts) == "prompt":
        return ()
    n_texts = len(set(texts_of(outcomes)))
    return folds(outcomes, N_PARTS, "prompt", seed) if n_texts >= FEWEST_HELD_OUT else ()


def held_out_scored(outcomes: Outcomes, parts: Sequence[Split]) -> npt.NDArray[np.bool_]:
    """(n, k) whether the rest of a prompt's part has outcomes of a model."""
    found = np.zeros(outcomes.scores.shape, np.bool_)
    for rest, part in parts:
        found[part] = ~np.isnan(outcomes.scores[rest]).all(axis=0)
    return found


def held_out_scores(
    train: Callable[[Outcomes, PromptFeatures], Predictor | None],
    outcomes: Outcomes,
    features: PromptFeatures,
    parts: Sequence[Split],
    most: int,
    on_progress: Progress,
) -> Scores:
    """(n, k) expected scores by predictors trained without a prompt's part; NaN for those that are not scored.

    Args:
        train: trains a predictor on models that all have outcomes; None if these prompts teach nothing.
        outcomes: n prompts.
        features: of the same.
        parts: to hold out in turn.
        most: score at most so many prompts of each part.
        on_progress: called with the step, and the parts done and in all.
    """
    found = np.full(outcomes.scores.shape, np.nan)
    for number, part in enumerate(parts):
        on_progress("training without a part of the prompts", number, len(parts))
        rest = outcomes.rows(part.train)
        known = rest.scored_models
        predictor = train(rest.columns(known), features.rows(part.train)) if known else None
        if predictor is None:
            continue
        step = max(1, len(part.test) // most)
        rows = part.test[::step]
        columns = np.array([outcomes.models.index(name) for name in predictor.models], np.intp)
        found[np.ix_(rows, columns)] = predictor.expected(features.rows(rows))
    on_progress("training without a part of the prompts", len(parts), len(parts))
    return found


def check_pair(
    outcomes: Outcomes, texts: Sequence[str], expected: Scores, parts: Sequence[Split], on_progress: Progress
) -> PairCheck | None:
    """The figure of the weakest and the strongest model.

    Args:
        outcomes: n prompts.
        texts: of these.
        expected: (n, k) scores that were held out; NaN where there are none.
        parts: as they were held out.
        on_progress: called with the step, and the parts done and in all.

    Returns:
        None if no two models answered enough of the same prompts.
    """
    # A model whose outcomes are all in one part is not judged: nothing is known of it while that is held out.
    pair = widest_pair(np.where(held_out_scored(outcomes, parts), outcomes.scores, np.nan))
    if pair is None or not parts:
        return None
    columns = np.array(pair)
    # NaN and anything is NaN.
    known = ~np.isnan(outcomes.scores[:, columns].sum(axis=1))
    scored = known & ~np.isnan(expected[:, columns].sum(axis=1))
    words = np.full(len(texts), np.nan)
    counts = count_words(texts)
    for number, part in enumerate(parts):
        on_progress("counting words", number, len(parts))
        rest = part.train[known[part.train]]
        rows = part.test[scored[part.test]]
        if len(rest) and len(rows):
            bag = BagOfWords.fit_counts(counts[rest], outcomes.scores[np.ix_(rest, columns)])
            weak, strong = bag.predict_counts(counts[rows]).T
            words[rows] = strong - weak
    on_progress("counting words", len(parts), len(parts))
    rows = np.flatnonzero(scored & ~np.isnan(words))
    if not len(rows):
        return None
    weak, strong = outcomes.scores[np.ix_(rows, columns)].T
    mine = expected[np.ix_(rows, columns)]
    order, gains = mine[:, 1] - mine[:, 0], strong - weak
    is_new = ~like_learned(texts, parts)[rows]
    has_both = FEWEST_HELD_OUT <= is_new.sum() < len(rows)
    return PairCheck(
        outcomes.models[pair[0]],
        outcomes.models[pair[1]],
        len(rows),
        int((~is_new).sum()),
        _apgr(order, gains),
        _apgr(words[rows], gains),
        _apgr(order[is_new], gains[is_new]) if has_both else None,
        _apgr(words[rows][is_new], gains[is_new]) if has_both else None,
        _held_out_by(outcomes, parts),
    )


def widest_pair(scores: Scores) -> tuple[int, int] | None:
    """The numbers of the weak and the strong model that lie farthest apart on the prompts that both answered.

    Only pairs count that answered at least half as many prompts together as any pair did; None if there are too few of those.
    """
    known = ~np.isnan(scores)
    flags = known.astype(np.float64)
    common = flags.T @ flags
    np.fill_diagonal(common, 0.0)
    if common.size < 4 or common.max() < _FEWEST_IN_COMMON:
        return None
    sums = np.where(known, scores, 0.0).T @ flags
    gaps = np.where(common >= max(_FEWEST_IN_COMMON, common.max() / 2), (sums.T - sums) / np.maximum(common, 1.0), -np.inf)
    weak, strong = np.unravel_index(int(gaps.argmax()), gaps.shape)
    return int(weak), int(strong)


def sets_of(outcomes: Outcomes) -> str:
    """The sets that prompts are from, with their numbers, for people."""
    counts = Counter(prompt.group or "unnamed" for prompt in outcomes.prompts)
    return ", ".join(f"{name} ({number:,} prompts)" for name, number in sorted(counts.items()))


def _held_out_by(outcomes: Outcomes, parts: Sequence[Split]) -> By:
    # NumPy's own texts would all take the room of the longest.
    categories = np.array([category_of(prompt) for prompt in outcomes.prompts], object)
    whole = all(set(categories[part.test]).isdisjoint(categories[part.train]) for part in parts)
    return "category" if whole else "prompt"


def _answered(outcomes: Outcomes) -> Outcomes:
    return outcomes.rows(np.flatnonzero(~np.isnan(outcomes.scores).all(axis=1)))


def _apgr(order: Scores, gains: Scores) -> float | None:
    value = float(PairOrder(order, gains).figures(np.ones((1, len(gains)))).apgr[0])
    return None if np.isnan(value) else value
