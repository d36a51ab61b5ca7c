"""Evaluation of predictors: of one that knows nothing, of one that knows the chances, and of what a bag of words sees."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from archroute_edge.errors import QualityError, SettingsError
from archroute_edge.quality._bag_of_words import BUCKETS, BagOfWords, _fit, count_words, require_scipy, word_buckets
from archroute_edge.quality._evaluation import EvaluationSettings, evaluate_predictor
from archroute_edge.quality._figures import quality_tables, report_to_dict
from archroute_edge.quality._outcomes import Outcomes, Prompt
from archroute_edge.quality._report import ORACLE, RANDOM, QualityReport
from archroute_edge.quality._yardstick import NEW_WORDS, WORDS, YardstickTraining
from tests.quality.made_up import MODELS, KnownScores, features_of, made_up_outcomes

PAIR = (("small", "large"),)


def evaluated(outcomes: Outcomes, expected: Any, **settings: Any) -> QualityReport:
    chosen = EvaluationSettings(**{"pairs": PAIR, "n_draws": 0, **settings})
    return evaluate_predictor(KnownScores(MODELS, expected), outcomes, features_of(outcomes), chosen, source="made up")


def value(report: QualityReport, row: str, figure: str = "apgr") -> float:
    found = report.pairs[0].whole.row(row)
    assert found is not None
    number = found.figures[figure].value
    assert number is not None
    return number


@pytest.fixture(scope="module")
def knowing() -> QualityReport:
    """The report of a predictor that expects each model's true chance."""
    outcomes, chances = made_up_outcomes(240)
    return evaluated(outcomes, chances, prices={"small": 0.001, "middle": 0.004, "large": 0.01}, n_draws=200)


def test_a_predictor_that_knows_the_chances_stands_between_random_and_the_oracle(knowing: QualityReport) -> None:
    assert value(knowing, RANDOM) == 0.5
    assert 0.6 < value(knowing, "heads") < value(knowing, ORACLE)
    # Half of the prompts hold about all of the gap.
    assert value(knowing, "heads", "cpt80") < 0.55
    assert value(knowing, RANDOM, "cpt80") == 0.8
    lead = knowing.pairs[0].whole.row(RANDOM)
    assert lead is not None and lead.lead is not None and lead.lead.is_above_zero
    assert [row.name for row in knowing.pairs[0].whole.rows] == ["heads", WORDS, NEW_WORDS, RANDOM, ORACLE]


def test_the_bag_of_words_sees_what_words_tell(knowing: QualityReport) -> None:
    """One of its pairs of words tells the hard prompts, of every category."""
    assert value(knowing, WORDS) > 0.6
    assert value(knowing, NEW_WORDS) > 0.6
    assert value(knowing, WORDS) <= value(knowing, "heads") + 0.02


def test_every_category_has_its_figures(knowing: QualityReport) -> None:
    parts = knowing.pairs[0].categories
    assert sorted(part.name for part in parts) == ["history", "law", "physics"]
    assert sum(part.n for part in parts) == 240
    assert all(part.rows and part.rows[0].name == "heads" for part in parts)


def test_categories_are_told_apart_by_their_last_character() -> None:
    """NumPy's own texts lose a null at the end."""
    outcomes, chances = made_up_outcomes(60, subjects=("law", "law\0"))
    parts = evaluated(outcomes, chances).pairs[0].categories
    assert [part.n for part in parts] == [30, 30]


def test_a_predictor_that_tells_nothing_apart_is_exactly_random() -> None:
    outcomes, _ = made_up_outcomes(60)
    report = evaluated(outcomes, np.full((60, 3), 0.5), n_draws=100)
    assert value(report, "heads") == 0.5
    row = report.pairs[0].whole.rows[0].figures["apgr"]
    assert (row.low, row.high) == (0.5, 0.5)
    assert "worse than a bag of words" in report.answer()[0]


def test_without_a_gap_the_report_says_so() -> None:
    outcomes, chances = made_up_outcomes(40)
    report = evaluated(outcomes, chances, pairs=(("large", "small"),))
    assert report.pairs[0].whole.rows == ()
    assert "no gap to recover" in report.answer()[0]
    assert report.mean_apgr("heads") is None
    json.dumps(report_to_dict(report), allow_nan=False)
    assert [table.title for table in quality_tables(report) if table] == ["Expected scores"]


def test_several_pairs_have_a_mean() -> None:
    outcomes, chances = made_up_outcomes(80)
    report = evaluated(outcomes, chances, pairs=(("small", "large"), ("small", "middle")))
    own = [pair.whole.rows[0].figures["apgr"].value or 0 for pair in report.pairs]
    assert report.mean_apgr("heads") == pytest.approx(sum(own) / 2)
    assert report.answer()[0].startswith(f"Mean APGR over 2 pairs: {sum(own) / 2:.3f}; bag of words ")


def test_prompts_without_an_outcome_of_both_are_left_out_and_counted() -> None:
    outcomes, chances = made_up_outcomes(60)
    scores = outcomes.scores.copy()
    scores[:10, 0] = np.nan
    scores[50:, 1] = np.nan
    report = evaluated(dataclasses.replace(outcomes, scores=scores), chances, prices={"small": 1.0, "middle": 2.0})
    assert (report.pairs[0].whole.n, report.pairs[0].left_out) == (50, 10)
    assert report.priced is not None
    assert (report.priced.whole.n, report.priced.left_out) == (40, 20)
    assert [each.predictor.count for each in report.models] == [50, 60, 50]


def test_training_outcomes_tell_seen_categories_from_others() -> None:
    outcomes, chances = made_up_outcomes(120)
    training, _ = made_up_outcomes(200, seed=1, subjects=("law",))
    report = evaluated(outcomes, chances, training=YardstickTraining(training, features_of(training).texts))
    (pair,) = report.pairs
    assert pair.seen is not None and pair.unseen is not None
    assert (pair.seen.n, pair.unseen.n) == (40, 80)
    assert [row.name for row in pair.whole.rows] == ["heads", WORDS, RANDOM, ORACLE]
    assert "trained on 200 prompts" in report.described()
    assert report.warnings == []


def test_evaluated_prompts_among_the_training_outcomes_are_told() -> None:
    """A figure on prompts that the bag of words has learned by heart is no yardstick."""
    outcomes, chances = made_up_outcomes(30)
    report = evaluated(outcomes, chances, training=YardstickTraining(outcomes.rows([1, 2]), features_of(outcomes).texts[1:3]))
    assert report.warnings == ["2 of the prompts are among the training outcomes, too, so that figures are too good."]


def test_a_model_that_the_training_outcomes_lack_is_told() -> None:
    outcomes, chances = made_up_outcomes(30)
    training = made_up_outcomes(30, seed=1)[0].columns(("large",))
    report = evaluated(outcomes, chances, training=YardstickTraining(training, features_of(training).texts))
    assert "none of small" in report.warnings[0]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"pairs": ()}, "nothing to evaluate"),
        ({"pairs": (("small", "small"),)}, "weak and the strong model at once"),
        ({"pairs": (("small", "huge"),)}, "huge: no model of the predictor, which has small, middle, large"),
        ({"prices": {"small": 1.0}}, "one model with a price"),
        ({"prices": {"small": 1.0, "large": -1.0}}, "no amount of money"),
        ({"prices": {"small": 1.0, "large": math.nan}}, "no amount of money"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_line(settings: dict[str, Any], problem: str) -> None:
    outcomes, chances = made_up_outcomes(10)
    with pytest.raises(QualityError, match=problem):
        evaluated(outcomes, chances, **settings)


def test_outcomes_that_cannot_be_evaluated_on() -> None:
    outcomes, chances = made_up_outcomes(10)
    with pytest.raises(QualityError, match="no prompts"):
        evaluated(outcomes.rows([]), chances[:0])
    with pytest.raises(QualityError, match="large: no model of the outcomes, which has small"):
        evaluated(outcomes.columns(("small",)), chances)
    with pytest.raises(QualityError, match="no prompt has outcomes of both small and large"):
        evaluated(dataclasses.replace(outcomes, scores=np.where([True, False, False], np.nan, outcomes.scores)), chances)


@pytest.mark.parametrize("wrong", [np.full((10, 3), math.nan), np.full((10, 3), 1.5), np.full((10, 2), 0.5)])
def test_a_predictor_that_gives_no_scores_is_told(wrong: Any) -> None:
    outcomes, _ = made_up_outcomes(10)
    with pytest.raises(QualityError, match="no numbers from 0 to 1"):
        evaluated(outcomes, wrong)


def test_one_prompt_alone_is_evaluated() -> None:
    """Nothing can be learned, but nothing may fail."""
    outcomes = Outcomes((Prompt("a", "hello"),), MODELS, np.array([[0.0, 0.5, 1.0]]))
    report = evaluated(outcomes, np.array([[0.2, 0.5, 0.9]]), prices={"small": 1.0, "large": 2.0}, n_draws=50)
    assert value(report, "heads") == 0.5
    assert report.pairs[0].categories == []
    json.dumps(report_to_dict(report), allow_nan=False)


def test_several_models_with_prices(knowing: QualityReport) -> None:
    """A predictor that knows the chances is better than any mixture that knows nothing, and the oracle is better still."""
    priced = knowing.priced
    assert priced is not None
    assert [each.model for each in priced.singles] == ["small", "middle", "large"]
    gains = {row.name: row.figures["gain"] for row in priced.whole.rows}
    assert gains["heads"].is_above_zero
    assert (gains[ORACLE].value or 0) > (gains["heads"].value or 0) > 0
    assert priced.best == "large"
    first, *_, last = priced.levels
    assert (first.budget, last.budget) == pytest.approx((0.001, 0.01))
    assert last.qualities[RANDOM] == pytest.approx(knowing.models[1].predictor.mean_score)
    assert first.rate > last.rate >= 0


def test_json_has_every_figure_once_and_no_nan(knowing: QualityReport) -> None:
    found = json.loads(json.dumps(report_to_dict(knowing), allow_nan=False))
    assert found["prompts"] == 240
    (pair,) = found["pairs"]
    assert pair["whole"]["rows"][0]["apgr"]["value"] == pytest.approx(value(knowing, "heads"))
    assert len(pair["curves"]["heads"]) == 101
    assert [each["model"] for each in found["models"]] == ["small", "large", "middle"]
    assert found["priced"]["whole"]["rows"][0]["name"] == "heads"
    assert {*found["priced"]["frontiers"]} == {"heads", WORDS, NEW_WORDS, ORACLE}


def test_the_tables_have_a_cell_for_every_head(knowing: QualityReport) -> None:
    tables = [table for table in quality_tables(knowing) if table is not None]
    assert [table.title for table in tables] == [
        "small → large",
        "small → large: by category",
        "Quality at equal cost",
        "What budgets buy, mean score",
        "The models, by cost",
        "Quality at equal cost, by category",
        "Expected scores",
    ]
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.headers)}, table.title


def test_few_categories_are_shown_if_few_are_wanted(knowing: QualityReport) -> None:
    by_category = next(table for table in quality_tables(knowing, most=2) if table and table.title.endswith("category"))
    assert len(by_category.rows) == 2
    assert "1 smaller category is not shown" in by_category.note


def test_the_answer_says_what_was_found(knowing: QualityReport) -> None:
    first, last = knowing.answer()
    assert first.startswith("small → large: APGR 0.")
    assert "bag of words" in first and "random 0.500" in first
    assert "points above that of the best mixture of two models" in last


def test_words_hash_alike_in_every_process() -> None:
    """Python's own hash of texts is another one in each process."""
    text = "Straße  ÅÄÖ — 漢字 don't"
    script = f"from archroute_edge.quality._bag_of_words import word_buckets;print(word_buckets({text!r}).tolist())"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert json.loads(found) == word_buckets(text).tolist()
    assert len(word_buckets(text)) == 2 * 5 - 1
    assert word_buckets("ONE two").tolist() == word_buckets("one, TWO!").tolist()


@pytest.mark.parametrize("text", ["", " \n", "!?", "\ud800", "a" * 1_000_000, "a " * 200_000])
def test_any_text_is_predicted(text: str) -> None:
    fitted = BagOfWords.fit(["a good one", "a bad one"], np.array([[1.0], [0.0]]))
    found = fitted.predict([text, "never seen before"])
    assert found.shape == (2, 1)
    assert np.isfinite(found).all() and ((found >= 0) & (found <= 1)).all()


def test_fitting_finds_the_least_loss() -> None:
    """At the minimum the gradient is zero, for fractional targets as well."""
    rng = np.random.default_rng(2)
    texts = [" ".join(rng.choice(["a", "b", "c", "d"], 5)) for _ in range(40)]
    counts, targets = count_words(texts), rng.choice([0.0, 0.25, 1.0], 40)
    used = np.unique(counts.indices)
    fitted = _fit(counts[:, used], targets)
    rest = 1 / (1 + np.exp(-(counts[:, used] @ fitted[1:] + fitted[0]))) - targets
    assert abs(rest.sum()) < 1e-2
    assert np.abs(counts[:, used].T @ rest + fitted[1:]).max() < 1e-2


def test_fractional_targets_are_expected_scores() -> None:
    fitted = BagOfWords.fit(["same words"] * 10, np.array([[0.25]] * 10))
    assert fitted.predict(["same words", "others"])[:, 0] == pytest.approx([0.25, 0.25], abs=1e-3)


def test_models_that_are_always_right_or_were_never_asked() -> None:
    scores = np.array([[1.0, 0.0, math.nan]] * 8)
    found = BagOfWords.fit(["some text"] * 8, scores).predict(["some text"])[0]
    assert 0.9 < found[0] < 1
    assert 0 < found[1] < 0.1
    assert found[2] == 0.5


def test_outcomes_that_are_missing_are_not_learned_from() -> None:
    texts = ["good", "bad", "good", "bad"]
    some = BagOfWords.fit([*texts, "odd"], np.array([[1.0], [0.0], [1.0], [0.0], [math.nan]]))
    rest = BagOfWords.fit(texts, np.array([[1.0], [0.0], [1.0], [0.0]]))
    assert some.predict(["good", "bad", "odd"]) == pytest.approx(rest.predict(["good", "bad", "odd"]))


def test_counts_have_length_one() -> None:
    counts = count_words(["one two two", ""])
    assert counts.shape == (2, BUCKETS)
    assert np.sqrt(counts.multiply(counts).sum(axis=1)).tolist() == [[pytest.approx(1.0)], [0.0]]


def test_without_scipy_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(SettingsError, match=r"archroute-edge\[quality\]"):
        require_scipy()
