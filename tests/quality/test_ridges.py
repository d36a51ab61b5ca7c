"""How the ridges of heads are chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from archroute_edge.quality import Outcomes, Prompt, PromptFeatures, Ridges, Split, held_out_parts, train_heads
from archroute_edge.quality._ridges import (
    USUAL_RIDGES,
    RidgeSearch,
    Tried,
    difference_errors,
    score_errors,
    simplest_within_noise,
)
from archroute_edge.quality._text_features import read_text
from archroute_edge.quality._training import known_kind_parts

pytestmark = pytest.mark.quick

NAN = math.nan


def test_of_ridges_that_differ_by_noise_the_most_restraining_are_taken() -> None:
    def tried(own: float, shared: float, *losses: float) -> Tried:
        return Tried(Ridges(shared, own, 2.0, 1.0), tuple((loss, 10.0) for loss in losses))

    best = tried(4.0, 1.0, 0.50, 0.60, 0.40)
    near = tried(64.0, 1.0, 0.52, 0.59, 0.40)
    far = tried(math.inf, 1.0, 0.54, 0.63, 0.44)
    assert simplest_within_noise([far, best, near]) == near.ridges
    assert simplest_within_noise([far, best]) == best.ridges
    assert simplest_within_noise([far]) == far.ridges


def test_what_all_models_gain_is_no_error() -> None:
    scores = np.array([[0.2, 0.6, NAN], [0.0, NAN, NAN], [0.5, 0.5, 0.8]])
    expected = scores + 0.1
    assert difference_errors(scores - expected) == pytest.approx([0.0, 0.0], abs=1e-15)  # One prompt tells no models apart.
    expected[0, 1] += 0.2
    assert difference_errors(scores - expected)[0] == pytest.approx(0.1**2)


def test_of_one_model_all_of_its_error_counts() -> None:
    errors = np.array([[0.2], [NAN], [1.0]]) - np.array([[0.5], [0.5], [1.0]])
    assert score_errors(errors) == pytest.approx([0.09, 0.0])
    assert not len(difference_errors(errors))


def outcomes_of(n_categories: int) -> tuple[Outcomes, PromptFeatures]:
    """Which of two models answers right is said by a word, which says the contrary in the last category."""
    draw = np.random.default_rng(4)
    prompts, scores, texts = [], [], []
    for number in range(600):
        category, is_first = number % n_categories, bool(draw.random() < 0.5)
        words = draw.choice([f"{letter}{ending}" for letter in "abcdefghij" for ending in "klmnopqrst"], 6).tolist()
        text = " ".join([*words, f"kind{'abc'[category]}", "first" if is_first else "second"])
        texts.append(text)
        prompts.append(Prompt(str(number), text, f"category {category}"))
        right = 0.9 if is_first == (category < 2) else 0.1
        scores.append([float(draw.random() < right), float(draw.random() < 1 - right)])
    return Outcomes(tuple(prompts), ("one", "other"), np.array(scores)), PromptFeatures(tuple(texts), None)


def test_own_weights_that_only_known_kinds_need_are_allowed() -> None:
    outcomes, features = outcomes_of(3)
    parts = held_out_parts(outcomes, 0)
    both = known_kind_parts(outcomes, parts, 0)
    assert len(parts) == 3 and len(both) == 5
    read = [read_text(text, 10) for text in features.texts]
    numbers = np.stack([each.numbers for each in read])

    def chosen(*kinds: Sequence[Split]) -> Ridges:
        return RidgeSearch(outcomes.scores, read, numbers, features, kinds, 10, lambda step, done, total: None).choose()

    # Of new kinds nothing is known by any ridges, so alone they would hold the models' own weights fast.
    assert chosen(parts).own == math.inf
    by_both = chosen(parts, both)
    assert by_both.own < math.inf
    assert train_heads(outcomes, features, parts=parts, word_bits=10).ridges == by_both


def test_prompts_of_one_category_are_held_out_once() -> None:
    outcomes, _ = outcomes_of(1)
    assert known_kind_parts(outcomes, held_out_parts(outcomes, 0), 0) == ()


@pytest.mark.parametrize("n_compared", [0, 5])
def test_answers_of_one_model_each_are_chosen_by(n_compared: int) -> None:
    """Would break if a gateway's record, where a request was answered by one model, had the usual ridges or those of a few."""
    outcomes, features = outcomes_of(1)
    scores = outcomes.scores.copy()
    scores[n_compared::2, 0], scores[n_compared + 1 :: 2, 1] = NAN, NAN
    alone = Outcomes(outcomes.prompts, outcomes.models, scores)
    steps: list[tuple[int, int]] = []

    def note(step: str, done: int, total: int) -> None:
        if step == "choosing ridges":
            steps.append((done, total))

    ridges = train_heads(alone, features, parts=held_out_parts(alone, 0), word_bits=10, on_progress=note).ridges
    assert ridges != USUAL_RIDGES and ridges.own < math.inf
    assert steps == [(done, 9) for done in range(10)]


def test_nothing_that_tells_ridges_apart_leaves_the_usual_ones() -> None:
    outcomes, features = outcomes_of(3)
    alike = Outcomes(outcomes.prompts, outcomes.models, np.ones_like(outcomes.scores))
    steps: list[tuple[int, int]] = []

    def note(step: str, done: int, total: int) -> None:
        if step == "choosing ridges":
            steps.append((done, total))

    assert train_heads(alike, features, parts=held_out_parts(alike, 0), word_bits=10, on_progress=note).ridges == USUAL_RIDGES
    assert steps[-1] == (9, 9)
