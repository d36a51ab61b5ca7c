"""The policy ``heads``: what is fitted, that it is sensible whatever comes in, and that a model can be added."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality import (
    Heads,
    Outcomes,
    Prompt,
    PromptFeatures,
    Ridges,
    held_out_parts,
    suggest_prompts,
    train_heads,
)
from archroute_edge.quality._heads import fit_scaling
from archroute_edge.quality._heads_fit import Problem, fit_heads, make_design
from archroute_edge.quality._newcomers import MOST_GRADED
from archroute_edge.quality._ridges import USUAL_RIDGES
from archroute_edge.quality._text_features import read_text
from tests.quality.difficulty import EASY, ENCODER, HARD, WIDTH, MadeUp, loss, make

BITS = 8
ODD_TEXTS = ("", " ", "?", "a" * 1_000_000, "\n" * 5000, "٣ 世界 привет", "\x00\ud800", "1" * 400, "A. x\nB. y")


@pytest.fixture(scope="module")
def made_up() -> MadeUp:
    return make()


@pytest.fixture(scope="module")
def heads(made_up: MadeUp) -> Heads:
    return train(made_up.outcomes, made_up.features)


def train(outcomes: Outcomes, features: PromptFeatures) -> Heads:
    encoder = None if features.vectors is None else ENCODER
    return train_heads(outcomes, features, encoder=encoder, word_bits=BITS, ridges=USUAL_RIDGES).predictor


def odd_prompts() -> PromptFeatures:
    vectors = np.random.default_rng(2).normal(size=(len(ODD_TEXTS), WIDTH)).astype(np.float32)
    return PromptFeatures(ODD_TEXTS, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def is_sensible(scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    return bool(np.isfinite(scores).all() and (scores > 0).all() and (scores < 1).all())


@pytest.mark.parametrize("ridges", [Ridges(2.0, 5.0, 2.0, 1.0), Ridges(2.0, math.inf, 2.0, 1.0)])
def test_the_gradient_is_that_of_the_function(ridges: Ridges) -> None:
    """Against central differences; with prompts that different models answered, and fractional scores."""
    made_up = make(24)
    scores = made_up.outcomes.scores * 0.8 + 0.1
    read = [read_text(text, 4) for text in made_up.features.texts]
    scaling = fit_scaling(made_up.features, np.stack([each.numbers for each in read]), text=2.0, words=1.0, word_bits=4)
    problem = Problem(make_design(read, made_up.features.vectors, scaling), scores, ridges)
    draw = np.random.default_rng(1)
    point = problem.start + 0.3 * draw.normal(size=problem.start.shape)
    _, gradient = problem(point)
    step = 1e-5
    for _ in range(12):
        direction = draw.normal(size=point.shape)
        slope = (problem(point + step * direction)[0] - problem(point - step * direction)[0]) / (2 * step)
        assert slope == pytest.approx(float(gradient @ direction), rel=1e-6, abs=1e-6)


def test_blocks_of_prompts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are put together by the models that answered them, to save time alone."""
    made_up = make(40)
    read = [read_text(text, 4) for text in made_up.features.texts]
    scaling = fit_scaling(made_up.features, np.stack([each.numbers for each in read]), text=2.0, words=1.0, word_bits=4)
    design = make_design(read, made_up.features.vectors, scaling)
    together = Problem(design, made_up.outcomes.scores, USUAL_RIDGES)
    monkeypatch.setattr("archroute_edge.quality._heads_fit._FEWEST_ROWS", 4)
    apart = Problem(design, made_up.outcomes.scores, USUAL_RIDGES)
    assert len(apart._blocks) > len(together._blocks) == 1
    point = apart.start + 0.1
    (value, gradient), (other, other_gradient) = apart(point), together(point)
    assert value == pytest.approx(other, rel=1e-9)
    np.testing.assert_allclose(gradient, other_gradient, rtol=1e-9, atol=1e-9)


def test_hard_prompts_have_lower_scores_and_better_models_higher_ones(made_up: MadeUp, heads: Heads) -> None:
    expected = heads.expected(made_up.features)
    hardest, easiest = np.argsort(made_up.easy)[:40], np.argsort(made_up.easy)[-40:]
    assert (expected[easiest].mean(axis=0) > expected[hardest].mean(axis=0) + 0.1).all()
    assert (np.diff(expected.mean(axis=0)) > 0.05).all()
    # About as often right as they are said to be.
    np.testing.assert_allclose(expected.mean(axis=0), np.nanmean(made_up.outcomes.scores, axis=0), atol=0.05)


def test_it_tells_more_than_the_mean_on_prompts_it_has_not_seen(heads: Heads) -> None:
    unseen = make(200, seed=7)
    mean = np.broadcast_to(np.nanmean(unseen.outcomes.scores, axis=0), unseen.outcomes.scores.shape)
    assert loss(unseen.outcomes.scores, heads.expected(unseen.features)) < loss(unseen.outcomes.scores, mean) - 0.02


def test_own_weights_are_held_by_their_ridge(made_up: MadeUp) -> None:
    """The larger the ridge, the more alike are the models' weights, and none is left of an infinite one."""
    read = [read_text(text, BITS) for text in made_up.features.texts]
    numbers = np.stack([each.numbers for each in read])
    scaling = fit_scaling(made_up.features, numbers, text=2.0, words=1.0, word_bits=BITS)
    design = make_design(read, made_up.features.vectors, scaling)
    own = [
        float(np.abs(fit_heads(design, made_up.outcomes.scores, replace(USUAL_RIDGES, own=ridge)).own).sum())
        for ridge in (1.0, 100.0, math.inf)
    ]
    assert own[0] > 2 * own[1] > own[2] == 0.0


def test_the_same_training_gives_the_same_predictor(made_up: MadeUp, heads: Heads) -> None:
    again = train(made_up.outcomes, made_up.features)
    assert (again.expected(made_up.features) == heads.expected(made_up.features)).all()
    assert (again.sample == heads.sample).all()


def test_a_prompt_is_scored_alone(made_up: MadeUp, heads: Heads) -> None:
    """To the last bit: what a decision says of a prompt is what ``archroute quality score`` says."""
    whole = heads.expected(made_up.features)
    for row in (0, 3, 77):
        assert (heads.expected(made_up.features.rows(np.array([row])))[0] == whole[row]).all()


def test_scores_are_finite_for_any_text(heads: Heads) -> None:
    assert is_sensible(heads.expected(odd_prompts()))
    assert heads.expected(odd_prompts().rows(np.array([], np.intp))).shape == (0, 3)


@pytest.mark.parametrize("case", ["wins all", "loses all", "ties", "one prompt", "alike", "one model", "no vectors"])
def test_odd_outcomes_give_sensible_scores(case: str) -> None:
    made_up = make(30, missing=0.0)
    outcomes, features = made_up.outcomes, made_up.features
    scores = outcomes.scores.copy()
    if case in ("wins all", "loses all"):
        scores[:, 0] = float(case == "wins all")
    elif case == "ties":
        scores[:] = 0.5
    outcomes = replace(outcomes, scores=scores)
    if case == "one prompt":
        outcomes, features = outcomes.rows([0]), features.rows(np.array([0]))
    elif case == "alike":
        features = PromptFeatures(("the same",) * 30, np.tile(np.eye(1, WIDTH, dtype=np.float32), (30, 1)))
    elif case == "one model":
        outcomes = outcomes.columns(outcomes.models[:1])
    elif case == "no vectors":
        features = PromptFeatures(features.texts, None)
    found = train(outcomes, features)
    odd = odd_prompts()
    for prompts in (features, PromptFeatures(odd.texts, None) if case == "no vectors" else odd):
        assert is_sensible(found.expected(prompts))
    expected = found.expected(features)
    if case == "wins all":
        assert expected[:, 0].min() > 0.8
    elif case == "loses all":
        assert expected[:, 0].max() < 0.2
    elif case == "ties":
        np.testing.assert_allclose(expected, 0.5, atol=1e-6)


def test_a_model_without_outcomes_is_refused(made_up: MadeUp) -> None:
    outcomes = made_up.outcomes.columns((*made_up.outcomes.models, "unheard of"))
    with pytest.raises(QualityError, match=r"^no answer of unheard of was scored; leave it out, or add outcomes$"):
        train(outcomes, made_up.features)


def test_training_needs_prompts_and_their_features(made_up: MadeUp) -> None:
    few, features = made_up.first(3)
    with pytest.raises(QualityError, match="no outcomes to train on"):
        train_heads(few.rows([]), features.rows(np.array([], np.intp)), encoder=ENCODER)
    with pytest.raises(QualityError, match="3 prompts have outcomes, and 160 have features"):
        train_heads(few, made_up.features, encoder=ENCODER)
    with pytest.raises(QualityError, match="identity of their encoder"):
        train_heads(few, features)


def test_vectors_are_asked_for_and_of_one_width(made_up: MadeUp, heads: Heads) -> None:
    with pytest.raises(QualityError, match="reads the encoder's vectors, and none were given"):
        heads.expected(PromptFeatures(("hello",), None))
    with pytest.raises(QualityError, match="reads vectors of 16 numbers, and those given have 3"):
        heads.expected(PromptFeatures(("hello",), np.ones((1, 3), np.float32)))


def test_ridges_are_chosen_on_parts_that_are_held_out() -> None:
    made_up = make(60)
    steps: dict[str, tuple[int, int]] = {}
    trained = train_heads(
        made_up.outcomes,
        made_up.features,
        encoder=ENCODER,
        parts=held_out_parts(made_up.outcomes, 0)[:2],
        word_bits=4,
        on_progress=lambda step, done, total: steps.__setitem__(step, (done, total)),
    )
    assert trained.held_out is not None and is_sensible(trained.held_out)
    # The sample is what prompts looked like that had not been seen.
    np.testing.assert_array_equal(trained.predictor.sample, trained.held_out.astype(np.float32))
    assert trained.predictor.sample_tokens is not None and len(trained.predictor.sample_tokens) == 60
    assert all(done == total for done, total in steps.values())
    assert list(steps) == ["reading texts", "choosing ridges", "scoring held-out prompts", "fitting"]


@pytest.mark.parametrize("n_models", [1, 2, 3])
def test_an_added_model_leaves_the_others_as_they_are(n_models: int) -> None:
    made_up = make(60, skills=(-1.0, 0.5, 2.0)[:n_models])
    before = train(made_up.outcomes, made_up.features)
    graded = make(40, skills=(1.0,), seed=3, missing=0.0)
    grown = before.with_model("new", replace(graded.outcomes, models=("new",)), graded.features)
    assert grown.models == (*before.models, "new")
    for prompts in (made_up.features, odd_prompts()):
        assert (grown.expected(prompts)[:, :n_models] == before.expected(prompts)).all()
        assert is_sensible(grown.expected(prompts))
    assert (grown.sample[:, :n_models] == before.sample).all() and is_sensible(grown.sample)
    # And once more.
    twice = grown.with_model("newer", replace(graded.outcomes, models=("newer",)), graded.features)
    assert (twice.expected(made_up.features)[:, : n_models + 1] == grown.expected(made_up.features)).all()


def test_an_added_model_is_known_about_as_well_as_a_trained_one(made_up: MadeUp, heads: Heads) -> None:
    """A known model is left out and added back from 60 grades."""
    rest = train(made_up.outcomes.columns(made_up.outcomes.models[:2]), made_up.features)
    graded = make(60, seed=20)
    grown = rest.with_model("model 2", graded.outcomes, graded.features)
    unseen = make(300, seed=11)
    added, trained = grown.expected(unseen.features)[:, 2], heads.expected(unseen.features)[:, 2]
    scores = unseen.outcomes.scores[:, 2]
    assert loss(scores, added) < loss(scores, trained) + 0.03
    assert np.corrcoef(added, trained)[0, 1] > 0.8


def test_an_added_model_begins_as_models_of_its_level_are() -> None:
    """Weak models fail at mathematics, strong ones at riddles; few grades tell the level, and with it the kind."""
    draw = np.random.default_rng(2)
    texts = tuple(f"{'integrate the function' if draw.random() < 0.5 else 'solve my riddle'} {number}" for number in range(800))
    is_riddle = np.array(["riddle" in text for text in texts])[:, None]
    of_kind = np.where(is_riddle, [0.6, 0.6, 0.6, 0.6, 0.6], [0.2, 0.25, 0.95, 0.9, 0.92])
    scores = (draw.random(of_kind.shape) < of_kind).astype(np.float64)
    names = ("weak", "weaker", "strong", "stronger", "new")
    outcomes = Outcomes(tuple(Prompt(str(row), text) for row, text in enumerate(texts)), names, scores)
    features = PromptFeatures(texts, None)
    learned, graded = np.arange(20, 800), np.arange(20)
    known = train(outcomes.rows(learned).columns(names[:4]), features.rows(learned))
    grown = known.with_model("new", outcomes.rows(graded).columns(["new"]), features.rows(graded))
    mathematics, riddle = grown.expected(PromptFeatures(("integrate the function", "solve my riddle"), None))[:, 4]
    assert mathematics > riddle + 0.1


@pytest.mark.parametrize("times", [1, 2])
def test_an_added_model_does_not_depend_on_the_order_of_the_file(times: int) -> None:
    """Rows were held out by their number: of a file with each of five subjects in turn, a subject at a time.

    What is peculiar to a model that is good at one of them was not believed then.
    """
    subjects, draw = ("law", "physics", "history", "poetry", "chess"), np.random.default_rng(4)

    def asked(n: int) -> PromptFeatures:
        return PromptFeatures(tuple(f"a question of {subjects[number % 5]}, {number * 37}" for number in range(n)), None)

    def outcomes_of(features: PromptFeatures, models: tuple[str, ...], chances: list[list[float]]) -> Outcomes:
        prompts = tuple(Prompt(str(number), text) for number, text in enumerate(features.texts))
        of_each = np.array(chances).T[np.arange(len(prompts)) % 5]
        return Outcomes(prompts, models, (draw.random(of_each.shape) < of_each).astype(np.float64))

    learned, graded = asked(300), asked(60)
    known = train(outcomes_of(learned, ("a", "b"), [[0.2, 0.3, 0.4, 0.5, 0.6], [0.8, 0.7, 0.6, 0.5, 0.4]]), learned)
    outcomes, order = outcomes_of(graded, ("new",), [[0.1, 0.95, 0.1, 0.1, 0.1]]), np.tile(np.arange(60), times)
    found = [
        known.with_model("new", outcomes.rows(rows), graded.rows(rows)).expected(asked(5))[:, 2]
        for rows in (order, draw.permutation(order))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert found[0][1] > found[0][[0, 2, 3, 4]].max() + 0.3


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_grades_that_are_all_alike_give_sensible_scores(heads: Heads, score: float, n: int) -> None:
    graded = make(n, skills=(1.0,), missing=0.0)
    outcomes = Outcomes(graded.outcomes.prompts, ("new",), np.full((n, 1), score))
    grown = heads.with_model("new", outcomes, graded.features)
    assert is_sensible(grown.expected(odd_prompts()))
    mean = grown.expected(graded.features)[:, 3].mean()
    assert mean == pytest.approx(score, abs=0.1 if n == 40 else 0.6)


def test_what_cannot_be_added_is_refused(heads: Heads, made_up: MadeUp) -> None:
    graded, features = made_up.first(4)
    with pytest.raises(QualityError, match="has the model 'model 1' already"):
        heads.with_model("model 1", graded, features)
    with pytest.raises(QualityError, match="no prompt is graded for 'other'"):
        heads.with_model("other", graded, features)
    with pytest.raises(QualityError, match="4 prompts are graded, and 160 have features"):
        heads.with_model("other", graded, made_up.features)
    n = MOST_GRADED + 1
    many = Outcomes((graded.prompts[0],) * n, ("new",), np.ones((n, 1)))
    with pytest.raises(QualityError, match="train on all outcomes instead"):
        heads.with_model("new", many, features.rows(np.zeros(n, np.intp)))


def test_suggested_prompts_are_spread_over_difficulty(made_up: MadeUp, heads: Heads) -> None:
    chosen = suggest_prompts(heads, made_up.features, 20)
    assert len({*chosen.tolist()}) == 20
    assert (chosen == suggest_prompts(heads, made_up.features, 20)).all()
    mean = heads.expected(made_up.features).mean(axis=1)
    ranks = np.argsort(np.argsort(mean))[chosen]
    assert sorted((ranks * 20 // len(mean)).tolist()) == list(range(20))
    assert suggest_prompts(heads, made_up.features, 500).tolist() == list(range(160))
    with pytest.raises(QualityError, match="at least one prompt"):
        suggest_prompts(heads, made_up.features, 0)


def test_suggestions_need_no_vectors_and_bear_prompts_that_are_alike() -> None:
    made_up = make(30)
    found = train(made_up.outcomes, PromptFeatures(made_up.features.texts, None))
    assert len({*suggest_prompts(found, PromptFeatures((EASY, HARD) * 10, None), 6).tolist()}) == 6
    assert len({*suggest_prompts(found, PromptFeatures((EASY,) * 20, None), 6).tolist()}) == 6


def test_a_decision_takes_little_time() -> None:
    """Without the encoder, with 44 models and a usual prompt; the bound is generous, the aim is 2 ms."""
    made_up = make(60, skills=tuple(np.linspace(-2, 2, 44)))
    heads = train_heads(
        made_up.outcomes, made_up.features, encoder=ENCODER, ridges=replace(USUAL_RIDGES, own=math.inf)
    ).predictor
    prompt = PromptFeatures(("word " * 200,), made_up.features.rows(np.array([0])).vectors)
    taken = []
    for _ in range(40):
        started = time.thread_time()
        heads.expected(prompt)
        taken.append(time.thread_time() - started)
    assert sorted(taken)[20] < 0.01
