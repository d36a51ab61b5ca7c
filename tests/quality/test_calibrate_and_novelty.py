"""What a goal comes to on prompts, and whether prompts are unlike those of a training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality import MANY, Novelty, PromptFeatures, Trade, expected_of_sample, rate_report, with_sample
from tests.fake_predictor import FakePredictor, harder_when_longer

SCORES = np.array([[0.1 * number, 0.9] for number in range(10)])
NAMES = ("small", "large")


@pytest.mark.parametrize("goal", [{"share": 0.3}, {"cost_per_1k": 3.0}])
def test_a_report_has_the_goal_each_model_alone_and_the_rates_around(goal: dict[str, float]) -> None:
    report = rate_report(NAMES, SCORES, [0.0, 0.01], unlike=0.25, **goal)
    assert report.chosen.dear_share == pytest.approx(0.3)
    assert report.chosen.cost_per_1k == pytest.approx(3.0)
    assert report.chosen.expected_score == pytest.approx((0.9 * 3 + sum(0.1 * number for number in range(3, 10))) / 10)
    assert [point.expected_score for point in report.alone] == pytest.approx([0.45, 0.9])
    # The small one is as good on the last prompt, and stands first.
    assert [point.dear_share for point in report.curve] == pytest.approx([0.9 - 0.1 * number for number in range(10)])
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["rate"] == report.chosen.rate
    assert plain["chosen"]["shares"] == pytest.approx({"small": 0.7, "large": 0.3})
    assert (plain["unlike"], plain["n_prompts"], list(plain["alone"])) == (0.25, 10, ["small", "large"])


@pytest.mark.parametrize("seed", range(20))
def test_the_rate_has_six_digits_and_keeps_the_goal_as_it_is_printed(seed: int) -> None:
    """A rate that is rounded to the nearest stands before the break point half of the time, and the goal is missed."""
    rng = np.random.default_rng(seed)
    scores, prices = rng.random((200, 3)), [0.0, *rng.random(2) * 10.0 ** rng.integers(-6, 3)]
    report = rate_report(("a", "b", "c"), scores, prices, share=0.37)
    trade = Trade(scores, prices)
    exact = trade.rate_for_share(0.37)
    printed = float(f"{report.chosen.rate:g}")
    assert printed == report.chosen.rate
    assert exact <= printed <= exact * (1 + 1.1e-5)
    assert trade.at(printed).dear_share <= 0.37


def test_without_a_goal_prices_do_not_count() -> None:
    assert rate_report(NAMES, SCORES, [0.0, 0.01]).chosen.rate == 0.0


def test_a_sample_is_what_a_file_keeps_and_not_too_large() -> None:
    predictor = FakePredictor(expect=harder_when_longer)
    features = PromptFeatures(tuple("x" * (number % 90) for number in range(12_000)), None)
    scores = expected_of_sample(predictor, features)
    assert (scores.astype(np.float32) == scores).all()
    assert np.abs(scores - predictor.expected(features)).max() < 1e-7
    kept = with_sample(predictor, scores, list(range(12_000)), features)
    assert kept.sample.shape == (10_000, 2) and kept.sample_tokens is not None
    assert (kept.sample_tokens[0], kept.sample_tokens[-1]) == (0, 11_999)
    assert (kept.sample == scores[kept.sample_tokens.astype(int)]).all()
    small = with_sample(predictor, scores[:3], [1, 2, 3], features.rows(np.arange(3)))
    assert small.sample_tokens is not None and small.sample_tokens.tolist() == [1, 2, 3]


def vectors(n: int, seed: int, axis: int | None = None, width: int = 32) -> npt.NDArray[np.float32]:
    """Directions that gather around some axes, or around one."""
    rng = np.random.default_rng(seed)
    found = 0.15 * rng.standard_normal((n, width))
    found[np.arange(n), rng.integers(0, 8, n) if axis is None else axis] += 1.0
    lengths: npt.NDArray[np.float64] = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / lengths).astype(np.float32)


def prompts(n: int, seed: int) -> tuple[str, ...]:
    rng = np.random.default_rng(seed)
    return tuple("what is " + "a long word " * int(rng.integers(3, 20)) + "?" for _ in range(n))


@pytest.fixture(scope="module")
def known() -> Novelty:
    return Novelty.of(PromptFeatures(prompts(2000, 0), vectors(2000, 0)))


def test_prompts_like_those_of_the_training_are_not_unlike(known: Novelty) -> None:
    """About one in a hundred by each of two measures."""
    unlike = known.unlike(PromptFeatures(prompts(2000, 1), vectors(2000, 1))).mean()
    assert 0.0 < unlike < 0.05 < MANY


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (prompts(200, 2), vectors(200, 2, axis=20)),
        (("x" * 20_000,) * 50, vectors(50, 2)),
        (("你好，请问这个问题怎么解决？",) * 50, vectors(50, 2)),
        (("",) * 50, vectors(50, 2)),
        (("1234567890 " * 10,) * 50, vectors(50, 2)),
    ],
    ids=["elsewhere", "long", "another script", "empty", "numbers"],
)
def test_other_prompts_are(known: Novelty, texts: tuple[str, ...], found: Any) -> None:
    assert known.unlike(PromptFeatures(texts, found)).mean() > 0.9


def test_what_a_file_keeps_says_the_same(known: Novelty) -> None:
    again = Novelty.restore(known.tensors(), json.loads(json.dumps(known.settings())))
    for seed, axis in ((3, None), (4, 20)):
        features = PromptFeatures(prompts(300, seed), vectors(300, seed, axis))
        assert (again.unlike(features) == known.unlike(features)).all()
    assert sum(tensor.nbytes for tensor in known.tensors().values()) <= 64 * 32 * 2


def test_equal_trainings_give_equal_measures() -> None:
    one, other = (Novelty.of(PromptFeatures(prompts(300, 5), vectors(300, 5))) for _ in range(2))
    assert (one.tensors()["novelty.centroids"] == other.tensors()["novelty.centroids"]).all()
    assert one.settings() == other.settings()


def test_texts_alone_and_trainings_of_one_prompt() -> None:
    texts = Novelty.of(PromptFeatures(prompts(300, 6), None))
    assert texts.tensors() == {}
    assert texts.unlike(PromptFeatures(("x" * 30_000,), vectors(1, 0))).all()
    again = Novelty.restore({}, texts.settings())
    assert not again.unlike(PromptFeatures(prompts(1, 6), None)).any()
    one = Novelty.of(PromptFeatures(("what is this?",), vectors(1, 7)))
    assert not one.unlike(PromptFeatures(("what is this?",), vectors(1, 7))).any()
    assert one.unlike(PromptFeatures(("what is this?",), vectors(1, 8, axis=20))).all()
    with pytest.raises(QualityError, match="no prompts"):
        Novelty.of(PromptFeatures((), None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": [1.0]}, "means must be 5 numbers"),
        ({"means": [1.0, 2.0, 3.0, 4.0, "5"]}, "means must be made of numbers"),
        ({"means": [1.0, 2.0, 3.0, 4.0, True]}, "means must be made of numbers"),
        ({"spreads": [1.0, 1.0, 1.0, 1.0, 0.0]}, "above 0"),
        ({"nearness": None}, "nearness must be made of numbers"),
        ({"distance": float("inf")}, "distance must be finite"),
        ({"distance": float("nan")}, "distance must be finite"),
        ({"means": [1.0, 2.0, 3.0, 4.0, 10**400]}, "means must be finite"),
        ({"distance": [1.0]}, "distance must be made of numbers"),
    ],
)
def test_damaged_settings_are_refused(known: Novelty, change: dict[str, Any], message: str) -> None:
    with pytest.raises(QualityError, match=message):
        Novelty.restore(known.tensors(), {**known.settings(), **change})


def test_damaged_centroids_are_refused(known: Novelty) -> None:
    with pytest.raises(QualityError, match="rows and columns"):
        Novelty.restore({"novelty.centroids": np.zeros(5, np.float16)}, known.settings())


def test_centroids_of_another_width_than_the_vectors_are_told(known: Novelty) -> None:
    """A file may come from anywhere."""
    assert known.centroids is not None
    width = known.centroids.shape[1]
    damaged = Novelty.restore({"novelty.centroids": np.ones((2, width + 1), np.float16)}, known.settings())
    with pytest.raises(QualityError, match=f"vectors of {width + 1} numbers, and those given have {width}"):
        damaged.unlike(PromptFeatures(("hello",), np.ones((1, width), np.float32)))
