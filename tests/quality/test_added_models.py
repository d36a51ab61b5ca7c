"""Adding a model to predictors that battles trained, and what a file of theirs holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality import _factorization
from archroute_edge.quality._factorization import Factorization, train_factorization
from archroute_edge.quality._newcomers import MOST_GRADED
from archroute_edge.quality._outcomes import Outcomes
from archroute_edge.quality._predictor import Predictor, PromptFeatures
from archroute_edge.quality._similarity import Similarity, train_similarity
from tests.quality import battles as made

N = 120
ASKED = made.features(12, seed=9)


@pytest.fixture(scope="module")
def trained() -> dict[str, Predictor]:
    features, outcomes = made.features(N), made.outcomes(N)
    with pytest.MonkeyPatch.context() as patch:
        # Longer training is not more of a test.
        patch.setattr(_factorization, "_MOST_ROUNDS", 25)
        return {
            "similarity": train_similarity(made.battles(N), features, outcomes, encoder="e"),
            "factorization": train_factorization(made.battles(N), features, outcomes, encoder="e"),
            "similarity from battles": train_similarity(made.battles(40), made.features(40)),
            "factorization from battles": train_factorization(made.battles(40), made.features(40)),
        }


@pytest.fixture(params=["similarity", "factorization"])
def predictor(request: pytest.FixtureRequest, trained: dict[str, Predictor]) -> Predictor:
    return trained[request.param]


@pytest.fixture(params=["similarity from battles", "factorization from battles"])
def from_battles(request: pytest.FixtureRequest, trained: dict[str, Predictor]) -> Predictor:
    return trained[request.param]


def graded(column: int, n: int = 60, others: bool = False, seed: int = 11) -> tuple[Outcomes, PromptFeatures]:
    """Grades of a new model that does as a trained one would on new prompts."""
    vectors = made.features(n, seed=seed).vectors
    assert vectors is not None
    level = np.arange(3) - 0.5 - 4.0 * vectors[:, :1] * (2 - np.arange(3))
    scores = (np.random.default_rng(seed).random(level.shape) < 1 / (1 + np.exp(-level))).astype(float)
    known = scores if others else np.full_like(scores, np.nan)
    return Outcomes(made.prompts(n), (*made.MODELS, "new"), np.column_stack((known, scores[:, column]))), made.of_vectors(
        vectors
    )


def restored(predictor: Predictor) -> Predictor:
    return type(predictor).restore(
        predictor.models, predictor.encoder, predictor.sample, predictor.tensors(), predictor.settings()
    )


@pytest.mark.parametrize("others", [False, True], ids=["grades alone", "beside the others' outcomes"])
@pytest.mark.parametrize("column", [0, 2])
def test_a_new_model_is_placed_beside_its_like(predictor: Predictor, column: int, others: bool) -> None:
    scores = predictor.with_model("new", *graded(column, others=others)).expected(ASKED)
    assert np.abs(scores[:, 3] - scores[:, column]).mean() < np.abs(scores[:, 3] - scores[:, 2 - column]).mean()
    assert np.abs(scores[:, 3] - scores[:, column]).mean() < 0.15


def test_the_others_scores_stay_bit_for_bit(predictor: Predictor) -> None:
    once = predictor.with_model("new", *graded(2))
    twice = once.with_model("newer", Outcomes(graded(0)[0].prompts, ("newer",), graded(0)[0].scores[:, 3:]), graded(0)[1])
    assert (once.models, twice.models) == ((*made.MODELS, "new"), (*made.MODELS, "new", "newer"))
    np.testing.assert_array_equal(once.expected(ASKED)[:, :3], predictor.expected(ASKED))
    np.testing.assert_array_equal(twice.expected(ASKED)[:, :4], once.expected(ASKED))
    np.testing.assert_array_equal(once.sample[:, :3], predictor.sample)
    np.testing.assert_array_equal(twice.sample[:, :4], once.sample)
    assert ((twice.sample >= 0) & (twice.sample <= 1)).all()
    assert predictor.models == made.MODELS


def test_the_sample_has_the_new_model_where_its_like_is(predictor: Predictor) -> None:
    """A share or a budget is turned into a rate on the sample, whose prompts are not kept."""
    sample = predictor.with_model("new", *graded(2)).sample
    assert len(sample) == len(predictor.sample)
    assert np.abs(sample[:, 3] - sample[:, 2]).mean() < 0.15


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 30])
def test_grades_that_are_all_alike(predictor: Predictor, score: float, n: int) -> None:
    outcomes, features = graded(2, n)
    outcomes.scores[:, 3] = score
    scores = predictor.with_model("new", outcomes, features).expected(ASKED)
    assert np.isfinite(scores).all() and (scores > 0).all() and (scores < 1).all()


def test_more_right_answers_are_a_higher_score(predictor: Predictor) -> None:
    means = []
    for score in (0.0, 0.5, 1.0):
        outcomes, features = graded(2, 30)
        outcomes.scores[:, 3] = score
        means.append(predictor.with_model("new", outcomes, features).expected(ASKED)[:, 3].mean())
    assert means == sorted(means) and means[2] > means[0] + 0.2


def test_prompts_without_a_grade_do_not_count(predictor: Predictor) -> None:
    outcomes, features = graded(2)
    half = Outcomes(outcomes.prompts, outcomes.models, outcomes.scores.copy())
    half.scores[30:, 3] = np.nan
    first = np.arange(30)
    np.testing.assert_array_equal(
        predictor.with_model("new", half, features).expected(ASKED),
        predictor.with_model("new", outcomes.rows(first), features.rows(first)).expected(ASKED),
    )


def test_what_cannot_be_added(predictor: Predictor, from_battles: Predictor) -> None:
    outcomes, features = graded(2)
    with pytest.raises(QualityError, match="'large' already"):
        predictor.with_model("large", outcomes, features)
    with pytest.raises(QualityError, match="no prompt is graded for 'else'"):
        predictor.with_model("else", outcomes, features)
    many = np.zeros(MOST_GRADED + 1, np.intp)
    with pytest.raises(QualityError, match="train on all outcomes instead"):
        predictor.with_model("new", outcomes.rows(many), features.rows(many))
    with pytest.raises(QualityError, match="battles alone"):
        from_battles.with_model("new", outcomes, features)


def test_without_a_calibration_outcomes_of_the_others_are_battles(from_battles: Predictor) -> None:
    outcomes, features = graded(2, others=True)
    more = from_battles.with_model("new", outcomes, features)
    scores = more.expected(ASKED)
    np.testing.assert_array_equal(scores[:, :3], from_battles.expected(ASKED))
    assert scores[:, 3].mean() > scores[:, 0].mean()


@pytest.mark.parametrize("name", ["similarity", "factorization", "similarity from battles", "factorization from battles"])
def test_a_restored_predictor_is_the_same(trained: dict[str, Predictor], name: str) -> None:
    predictor = trained[name]
    for each in (predictor, predictor.with_model("new", *graded(2, others=True))):
        again = restored(each)
        np.testing.assert_array_equal(again.expected(ASKED), each.expected(ASKED))
        assert (again.models, again.encoder, again.settings()) == (each.models, each.encoder, each.settings())


def tensors_of(kind: type[Predictor], trained: dict[str, Predictor]) -> tuple[Predictor, dict[str, npt.NDArray[Any]]]:
    predictor = trained[kind.policy].with_model("new", *graded(2))
    return predictor, predictor.tensors()


@pytest.mark.parametrize("kind", [Similarity, Factorization])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda tensor: None, id="missing"),
        pytest.param(lambda tensor: tensor[..., None], id="another shape"),
        pytest.param(lambda tensor: tensor[:0], id="empty"),
        pytest.param(lambda tensor: np.concatenate((tensor, tensor)), id="twice as long"),
        pytest.param(lambda tensor: tensor.astype(np.uint8), id="another kind"),
    ],
)
def test_damaged_tensors_are_refused(
    kind: type[Predictor], damage: Callable[[npt.NDArray[Any]], Any], trained: dict[str, Predictor]
) -> None:
    predictor, tensors = tensors_of(kind, trained)
    for name, tensor in tensors.items():
        changed = {key: value for key, value in {**tensors, name: damage(tensor)}.items() if value is not None}
        if name == "vectors" and len(changed.get(name, ())) > len(tensor):
            # Vectors of prompts without battles weigh nothing.
            continue
        with pytest.raises(QualityError, match="train it again"):
            kind.restore(predictor.models, "e", predictor.sample, changed, predictor.settings())


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Similarity, "prompt", 10_000),
        (Similarity, "prompt", -1),
        (Similarity, "pair", 9),
        (Similarity, "wins", -1),
        (Similarity, "added.0.won", 1.5),
        (Similarity, "slope", -1),
        (Factorization, "rows", 2),
        (Factorization, "projection", 1e7),
        (Factorization, "intercepts", 1e7),
        (Factorization, "added", -1e7),
    ],
)
def test_values_beyond_their_bounds_are_refused(
    kind: type[Predictor], name: str, value: float, trained: dict[str, Predictor]
) -> None:
    predictor, tensors = tensors_of(kind, trained)
    changed = tensors[name].copy()
    changed.flat[0] = value
    with pytest.raises(QualityError, match=name):
        kind.restore(predictor.models, "e", predictor.sample, {**tensors, name: changed}, predictor.settings())


@pytest.mark.parametrize("kind", [Similarity, Factorization])
@pytest.mark.parametrize("settings", [{}, {"trained": 1}, {"trained": 5}, {"trained": True}, {"trained": "3"}])
def test_settings_without_the_number_of_trained_models_are_refused(
    kind: type[Predictor], settings: dict[str, object], trained: dict[str, Predictor]
) -> None:
    predictor, tensors = tensors_of(kind, trained)
    with pytest.raises(QualityError, match="how many models"):
        kind.restore(predictor.models, "e", predictor.sample, tensors, settings)
