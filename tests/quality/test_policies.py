"""Policies judged by categories that they were not trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality import Outcomes, Policy, PolicyTraining, PromptFeatures, Scores, merge_tiers, new_category_parts
from tests.quality.battles import unit
from tests.quality.made_up import SUBJECTS, features_of, made_up_outcomes

N = 60


def of_new_categories(outcomes: Outcomes, features: PromptFeatures, training: PolicyTraining) -> Scores:
    parts = new_category_parts(outcomes)
    assert len(parts) == len(SUBJECTS)
    return training.expected_of_new_categories(outcomes, features, parts, lambda step, done, total: None)


def levels(outcomes: Outcomes) -> PromptFeatures:
    """Marks that know which prompts are hard."""
    texts = features_of(outcomes).texts
    return PromptFeatures(texts, None, np.array([np.eye(5)[0 if "prove" in text else 4] for text in texts]))


def test_a_tier_is_the_mean_of_its_models_each_once() -> None:
    outcomes = Outcomes(made_up_outcomes(1)[0].prompts, ("a", "b"), np.array([[0.0, 1.0]]))
    assert merge_tiers(outcomes, {"both": ["a", "b", "b"]}).scores.tolist() == [[0.5]]


def test_a_prompt_is_scored_without_its_category() -> None:
    """Turning all outcomes of a category round changes what is expected elsewhere, and nothing there."""
    outcomes, _ = made_up_outcomes(N)
    features, training = levels(outcomes), PolicyTraining("causal", "ab" * 32)
    ours = np.array([prompt.category == SUBJECTS[0] for prompt in outcomes.prompts])
    turned = replace(outcomes, scores=np.where(ours[:, None], 1 - outcomes.scores, outcomes.scores))
    one, other = (of_new_categories(each, features, training) for each in (outcomes, turned))
    np.testing.assert_array_equal(one[ours], other[ours])
    assert np.abs(one[~ours] - other[~ours]).max() > 0.01
    hard = np.array(["prove" in text for text in features.texts])
    assert one[~hard, 0].mean() > one[hard, 0].mean()


def test_nothing_is_expected_of_a_model_without_outcomes_elsewhere() -> None:
    outcomes, _ = made_up_outcomes(N)
    ours = np.array([prompt.category == SUBJECTS[0] for prompt in outcomes.prompts])
    outcomes.scores[~ours, 1] = np.nan
    found = of_new_categories(outcomes, features_of(outcomes), PolicyTraining("heads"))
    assert np.isnan(found[ours, 1]).all() and not np.isnan(found[:, [0, 2]]).any()


def test_one_category_cannot_be_left_out() -> None:
    outcomes, _ = made_up_outcomes(N, subjects=("law",))
    with pytest.raises(QualityError, match="all prompts have one category"):
        new_category_parts(outcomes)


@pytest.mark.parametrize("policy", ["heads", "similarity", "factorization", "classifier", "causal"])
def test_the_sample_has_the_prompts_lengths(policy: Policy) -> None:
    """A share or a budget would price each at 1,000 tokens."""
    outcomes, _ = made_up_outcomes(N)
    vectors = unit(np.random.default_rng(0).standard_normal((N, 8)))
    features = PromptFeatures(features_of(outcomes).texts, vectors, levels(outcomes).levels)
    trained = PolicyTraining(policy, "ab" * 32).train(outcomes, None, features, lambda step, done, total: None)
    tokens = trained.predictor.sample_tokens
    assert tokens is not None and tokens.tolist() == [len(text) // 3 for text in features.texts]


def test_every_policy_holds_prompts_out() -> None:
    outcomes, _ = made_up_outcomes(N)
    vectors = np.random.default_rng(0).standard_normal((N, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features = PromptFeatures(features_of(outcomes).texts, vectors, levels(outcomes).levels)
    for policy in ("similarity", "classifier", "causal"):
        training = PolicyTraining(policy, "ab" * 32)
        found = training.train(outcomes, None, features, lambda step, done, total: None)
        assert found.predictor.policy == policy and found.predictor.encoder == "ab" * 32
        assert found.held_out is not None and not np.isnan(found.held_out).all()
        assert found.ridges is None and found.predictor.novelty is not None


@pytest.mark.parametrize("policy", ["similarity", "factorization", "classifier"])
def test_a_category_may_have_one_model_alone(policy: Policy) -> None:
    """Held out, the other category leaves nothing to compare, which must not end a training that has succeeded."""
    outcomes, _ = made_up_outcomes(N, subjects=("law", "physics"))
    is_law = np.array([prompt.category == "law" for prompt in outcomes.prompts])
    outcomes.scores[is_law, 1:] = np.nan
    vectors = unit(np.random.default_rng(0).standard_normal((N, 8)))
    features, training = PromptFeatures(features_of(outcomes).texts, vectors), PolicyTraining(policy, "ab" * 32)
    trained = training.train(outcomes, None, features, lambda step, done, total: None)
    assert trained.predictor.models == outcomes.models and trained.held_out is not None
    parts = new_category_parts(outcomes)
    of_new = training.expected_of_new_categories(outcomes, features, parts, lambda step, done, total: None)
    for found in (trained.held_out, of_new):
        assert not np.isnan(found[is_law]).any() and np.isnan(found[~is_law]).all()


def test_a_model_is_not_judged_where_the_rest_compares_it_with_none() -> None:
    """The others are, from the same rest."""
    outcomes, _ = made_up_outcomes(N)
    of = {name: np.array([prompt.category == name for prompt in outcomes.prompts]) for name in SUBJECTS}
    # The small model answers alone on half of the physics, and beside others in law only.
    outcomes.scores[of["history"], 0] = np.nan
    physics = np.flatnonzero(of["physics"])
    outcomes.scores[physics[::2], 1:] = np.nan
    outcomes.scores[physics[1::2], 0] = np.nan
    features = PromptFeatures(features_of(outcomes).texts, unit(np.random.default_rng(0).standard_normal((N, 8))))
    found = of_new_categories(outcomes, features, PolicyTraining("classifier", "ab" * 32))
    assert np.isnan(found[of["law"], 0]).all() and not np.isnan(found[of["law"], 1:]).any()
    assert not np.isnan(found[~of["law"]]).any()
