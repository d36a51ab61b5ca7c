"""Which model of a battle stands first says nothing, nor does the order of battles: for the policies that battles train."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality import _factorization
from archroute_edge.quality._classifier import train_classifier
from archroute_edge.quality._factorization import train_factorization
from archroute_edge.quality._outcomes import Battles, Outcomes
from archroute_edge.quality._predictor import Predictor, PromptFeatures
from archroute_edge.quality._similarity import train_similarity
from archroute_edge.quality._splits import battles_of
from archroute_edge.quality._strengths import scores_on
from tests.quality import battles as made

TRAIN: dict[str, Callable[..., Predictor]] = {
    "similarity": train_similarity,
    "factorization": train_factorization,
    "classifier": train_classifier,
}
N = 60
ASKED = made.features(12, seed=9)


@pytest.fixture(params=TRAIN)
def train(request: pytest.FixtureRequest) -> Callable[..., Predictor]:
    return TRAIN[request.param]


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_factorization, "_MOST_ROUNDS", 12)


@cache
def trained(train: Callable[..., Predictor], calibrated: bool = False, seed: int = 0) -> Predictor:
    """What several tests compare with."""
    return train(made.battles(N), made.features(N), made.outcomes(N) if calibrated else None, seed=seed)


def assert_same(one: Predictor, other: Predictor, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(one.expected(ASKED), other.expected(ASKED), rtol=0, atol=tolerance)
    np.testing.assert_allclose(one.sample, other.sample, rtol=0, atol=tolerance)


@pytest.mark.parametrize("change", [made.exchanged, made.some_exchanged, lambda battles: made.repeated(battles, 2)])
@pytest.mark.parametrize("calibrated", [False, True], ids=["battles", "outcomes"])
def test_exchanged_and_doubled_battles_change_nothing(
    train: Callable[..., Predictor], change: Callable[[Battles], Battles], calibrated: bool
) -> None:
    """RouteLLM's ranking depends on which model stood first if both fall into one tier; a fixed ridge depends on doubling."""
    battles, outcomes = made.battles(N), made.outcomes(N) if calibrated else None
    assert_same(trained(train, calibrated, 3), train(change(battles), made.features(N), outcomes, seed=3))


def test_tripled_battles_change_nothing_beyond_rounding(train: Callable[..., Predictor]) -> None:
    assert_same(trained(train), train(made.repeated(made.battles(N), 3), made.features(N)), tolerance=1e-4)


def test_the_seed_decides_everything(train: Callable[..., Predictor]) -> None:
    assert_same(trained(train), train(made.battles(N), made.features(N), seed=0), tolerance=0)


@pytest.mark.parametrize(("train", "tolerance"), [(train_similarity, 1e-9), (train_classifier, 1e-4)], indirect=False)
def test_models_that_are_exchanged_exchange_their_scores(train: Callable[..., Predictor], tolerance: float) -> None:
    """Nothing but a model's battles decides on its score: not its name or place."""
    battles = made.battles(N)
    place = np.array([2, 0, 1])
    renamed = Battles(battles.prompts, battles.models, battles.prompt, place[battles.first], place[battles.second], battles.won)
    one = trained(train).expected(ASKED)
    other = train(renamed, made.features(N)).expected(ASKED)
    np.testing.assert_allclose(one, other[:, place], atol=tolerance)


def test_battles_teach_which_model_is_better_where(train: Callable[..., Predictor]) -> None:
    """The large model is far ahead on prompts whose vector begins with a large number, and behind on the opposite ones."""
    n = 400
    predictor = train(made.battles(n, per_prompt=8), made.features(n))
    gap = np.eye(16)[:1] * np.array([[1.0], [-1.0]])
    hard, easy = predictor.expected(made.of_vectors(gap))
    assert hard[2] > hard[1] > hard[0]
    assert hard[2] - hard[0] > easy[2] - easy[0] + 0.1


def test_a_model_that_wins_all(train: Callable[..., Predictor]) -> None:
    """An unpenalised fit gives it an infinite strength; vectors around 0 cannot tell a constant without a constant."""
    rows = [(number, 2, number % 2, 1.0) for number in range(40)] + [(number, 0, 1, 0.5) for number in range(40)]
    scores = train(made.few(rows, made.MODELS, 40), made.features(40)).expected(ASKED)
    assert np.isfinite(scores).all() and (scores > 0).all() and (scores < 1).all()
    assert (scores[:, 2] > scores[:, :2].max(axis=1) + 0.1).all()


def test_all_ties_make_all_models_equal(train: Callable[..., Predictor]) -> None:
    rows = [(number, first, second, 0.5) for number in range(20) for first, second in ((0, 1), (2, 1), (0, 2))]
    scores = train(made.few(rows, made.MODELS, 20), made.features(20)).expected(ASKED)
    np.testing.assert_allclose(scores, 0.5, atol=1e-6)


def test_one_battle_on_one_prompt(train: Callable[..., Predictor]) -> None:
    """Little is known from it, and not nothing."""
    features = made.features(1)
    scores = train(made.few([(0, 1, 0, 1.0)], ("a", "b"), 1), features).expected(features)
    assert 0.5 < scores[0, 1] < 0.97
    assert scores[0, 0] == pytest.approx(1 - scores[0, 1])


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_outcomes_that_are_all_alike(train: Callable[..., Predictor], score: float) -> None:
    battles, outcomes = made.battles(30), made.outcomes(30)
    outcomes.scores[:] = score
    scores = train(battles, made.features(30), outcomes).expected(ASKED)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, score, atol=0.15)


def test_one_prompt_with_outcomes(train: Callable[..., Predictor]) -> None:
    battles = made.few([(0, 1, 0, 1.0), (0, 2, 1, 1.0)], made.MODELS, 1)
    scores = train(battles, made.features(1), made.outcomes(1)).expected(made.features(1))
    assert np.isfinite(scores).all() and (scores > 0).all() and (scores < 1).all()


def test_two_models_mirror_each_other(train: Callable[..., Predictor]) -> None:
    """From battles alone a score is the chance to beat the other one."""
    scores = train(made.battles(30, models=("a", "b")), made.features(30)).expected(ASKED)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("kind", ["equal", "opposite", "zero"])
def test_vectors_that_tell_nothing(train: Callable[..., Predictor], kind: str) -> None:
    """No cosine above 0 to divide by, or all the same."""
    n, d = 30, 16
    one = np.eye(1, d)
    stored = {"equal": np.repeat(one, n, axis=0), "opposite": -np.repeat(one, n, axis=0), "zero": np.zeros((n, d))}[kind]
    predictor = train(made.battles(n), made.of_vectors(stored))
    scores = predictor.expected(made.of_vectors(np.concatenate((one, -one, 0 * one))))
    assert np.isfinite(scores).all() and (scores > 0).all() and (scores < 1).all()
    assert scores[0, 2] > scores[0, 0]


def test_training_says_how_far_it_is(train: Callable[..., Predictor]) -> None:
    told: list[tuple[int, int]] = []
    train(made.battles(N), made.features(N), on_progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done <= total for done, total in told)


WRONG = {
    "fights itself": made.few([(0, 0, 1, 1.0), (1, 1, 1, 0.0)], ("a", "b"), 2),
    "no battle has the model 'c'": made.few([(0, 0, 1, 1.0)], ("a", "b", "c"), 1),
    "not from 0 to 1": made.few([(0, 0, 1, float("nan"))], ("a", "b"), 1),
    "2 to 96 models": made.few([(0, 0, 1, 1.0)], tuple(str(number) for number in range(97)), 1),
    "no battle to learn from": made.rows(made.few([(0, 0, 1, 1.0)], ("a", "b"), 1), np.empty(0, np.intp)),
}


@pytest.mark.parametrize("message", WRONG)
def test_battles_that_cannot_be_learned_from(train: Callable[..., Predictor], message: str) -> None:
    battles = WRONG[message]
    with pytest.raises(QualityError, match=message):
        train(battles, made.features(len(battles.prompts)))


def test_prompts_without_vectors_are_refused(train: Callable[..., Predictor]) -> None:
    with pytest.raises(QualityError, match="name the encoder"):
        train(made.battles(3), PromptFeatures(("", "", ""), None))


def test_vectors_of_another_width_are_refused(train: Callable[..., Predictor]) -> None:
    with pytest.raises(QualityError, match="vectors of 16 numbers, these have 8"):
        trained(train).expected(made.features(2, d=8))


def test_outcomes_of_other_prompts_are_refused(train: Callable[..., Predictor]) -> None:
    outcomes = made.outcomes(3)
    elsewhere = type(outcomes)(made.prompts(90)[-3:], outcomes.models, outcomes.scores)
    with pytest.raises(QualityError, match="prompts of the outcomes"):
        train(made.battles(N), made.features(N), elsewhere)


def test_sets_of_the_same_questions_teach_the_models_of_each(train: Callable[..., Predictor]) -> None:
    """Outcomes of one set must not stand in for those of another one with the same texts and other models."""
    one, other = made.outcomes(N, ("a", "b")), made.outcomes(N, ("c", "d"), seed=3)
    models, both = ("a", "b", "c", "d"), (*one.prompts, *other.prompts)
    outcomes = Outcomes(both, models, np.concatenate([each.columns(models).scores for each in (one, other)]))
    features = made.features(N)
    predictor = train(battles_of(outcomes), features.rows(np.tile(np.arange(N), 2)), outcomes)
    np.testing.assert_allclose(predictor.sample.mean(axis=0), np.nanmean(outcomes.scores, axis=0), atol=0.06)


def test_outcomes_of_other_prompts_are_found_by_their_texts() -> None:
    """As means of a model's, if a text comes more than once."""
    one, two, three = made.prompts(3)
    outcomes = Outcomes((two, one, two), ("a", "b"), np.array([[1.0, np.nan], [0.0, 1.0], [0.5, 0.25]]))
    found = scores_on((one, two, three), ("b", "a"), outcomes)
    np.testing.assert_array_equal(found, [[1.0, 0.0], [0.25, 0.75], [np.nan, np.nan]])
