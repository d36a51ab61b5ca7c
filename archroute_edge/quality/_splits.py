"""Parts of outcomes: to train on and to test by, and battles drawn from them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from archroute_edge.config import shorten
from archroute_edge.conversation import read_messages
from archroute_edge.errors import QualityError
from archroute_edge.quality._features import last_text
from archroute_edge.quality._outcomes import Battles, Outcomes, Prompt

SMALLEST_DIFFERENCE: Final = 1e-9
"""Scores that differ by no more are a tie."""

_SHOWN: Final = 20
By = Literal["prompt", "category"]
Rows = npt.NDArray[np.intp]


class Split(NamedTuple):
    """Numbers of prompts, ascending: what to train on, and what to test by. No text is in both."""

    train: Rows
    test: Rows


def category_of(prompt: Prompt) -> str:
    """A prompt's category; its set if the file does not tell."""
    return prompt.category if prompt.category is not None else prompt.group


def split_by_category(outcomes: Outcomes, held_out: Collection[str]) -> Split:
    """Whole categories to test by, whichever set they are in, and the rest to train on.

    A prompt of another category whose text is also among those held out is in neither part.

    Raises:
        QualityError: there is no such category, or nothing is left to train on.
    """
    categories = [category_of(prompt) for prompt in outcomes.prompts]
    missing = sorted(set(held_out) - set(categories))
    if missing:
        known = sorted(set(categories))
        some = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
        raise QualityError(f"no prompt has the category {shorten(missing[0])}; there are {some}")
    split = _split([category in held_out for category in categories], texts_of(outcomes))
    if not len(split.train) or not len(split.test):
        raise QualityError("leave out at least one category, and keep at least one")
    return split


def folds(outcomes: Outcomes, n: int, by: By = "prompt", seed: int = 0) -> tuple[Split, ...]:
    """Cross-validation: n parts, each of which is tested by once.

    Prompts whose last user messages are the same, but for case and blanks, never stand on both sides, whichever sets they are
    in. Parts do not depend on the order of the prompts.

    Args:
        outcomes: n prompts or more.
        n: at least 2.
        by: ``prompt`` spreads each category evenly over the parts; ``category`` keeps whole categories together, also those of
            one name in several sets, in parts of about the same size.
        seed: of what is left to chance.

    Raises:
        QualityError: there are fewer prompts, or categories, than parts.
    """
    texts = texts_of(outcomes)
    categories = [category_of(prompt) for prompt in outcomes.prompts]
    if by == "category":
        units, parts = categories, _even_parts(Counter(categories), n, seed)
    else:
        # The same text may have several categories; the first by name decides.
        first: dict[str, str] = {}
        for text, category in zip(texts, categories, strict=True):
            first[text] = min(category, first.get(text, category))
        by_category = sorted(first, key=lambda text: (first[text], _chance(seed, text), text))
        units, parts = texts, {text: place % max(n, 1) for place, text in enumerate(by_category)}
    if not 2 <= n <= len(parts):
        kinds = "categories" if by == "category" else "different prompts"
        raise QualityError(f"cannot make {n} parts; expected at least 2, and at most the number of {kinds}, {len(parts)}")
    part_of = [parts[unit] for unit in units]
    return tuple(_split([part == each for part in part_of], texts) for each in range(n))


def battles_of(outcomes: Outcomes, seed: int = 0, per_prompt: int = 5) -> Battles:
    """Battles drawn from outcomes: pairs of models that were asked the same prompt, who stands first being left to chance.

    The battles' prompts are those of the outcomes, in their order, also those on which no two models have scores.

    Args:
        outcomes: scores that differ by less than a billionth are a tie.
        seed: of the draw.
        per_prompt: most pairs of a prompt; all of them if there are fewer.
    """
    draw = np.random.default_rng(seed)
    n_models = len(outcomes.models)
    pairs = [np.stack(np.triu_indices(n, 1), axis=1) for n in range(n_models + 1)]
    prompt, first, second = [], [], []
    for row, scores in enumerate(outcomes.scores):
        known = np.flatnonzero(~np.isnan(scores))
        among = pairs[len(known)]
        if len(among) > per_prompt:
            among = among[draw.choice(len(among), per_prompt, replace=False)]
        # Shuffles the two of each pair.
        drawn = draw.permuted(known[among], axis=1)
        prompt.append(np.full(len(drawn), row, np.intp))
        first.append(drawn[:, 0])
        second.append(drawn[:, 1])
    empty = np.empty(0, np.intp)
    rows, one, other = (np.concatenate([empty, *each]) for each in (prompt, first, second))
    difference = outcomes.scores[rows, one] - outcomes.scores[rows, other]
    won = np.where(np.abs(difference) <= SMALLEST_DIFFERENCE, 0.5, (difference > 0).astype(np.float64))
    return Battles(outcomes.prompts, outcomes.models, rows, one, other, won)


def _even_parts(sizes: Counter[str], n: int, seed: int) -> dict[str, int]:
    """A part for each category: the largest first, each into the part that is smallest by then."""
    filled = [0] * max(n, 1)
    parts = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], _chance(seed, name), name)):
        parts[name] = filled.index(min(filled))
        filled[parts[name]] += sizes[name]
    return parts


def _split(is_tested: list[bool], texts: list[str]) -> Split:
    tested = {text for text, test in zip(texts, is_tested, strict=True) if test}
    test = np.array(is_tested, bool)
    known = np.array([text in tested for text in texts], bool)
    return Split(np.flatnonzero(~test & ~known), np.flatnonzero(test))


def texts_of(outcomes: Outcomes) -> list[str]:
    """What prompts are compared by: the user's last words, but for case and blanks, since no others are learned from."""
    said = (read_messages(prompt.messages) for prompt in outcomes.prompts)
    return [" ".join(last_text(turns).casefold().split()) if turns else "" for turns in said]


def _chance(seed: int, text: str) -> bytes:
    """A number that looks like chance, the same in every process."""
    return hashlib.blake2b(f"{seed} {text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
