"""The policy causal: what marks mean for each model, and marks that a real language model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archroute_edge.conversation import read_messages
from archroute_edge.decoding import AnswerSet
from archroute_edge.engine import LoadedModel
from archroute_edge.errors import ModelFileError, QualityError
from archroute_edge.prompts import PromptBuilder, to_gbnf
from archroute_edge.quality import (
    LEVEL_FORMAT,
    LEVELS,
    Causal,
    Outcomes,
    Prompt,
    PromptFeatures,
    Scores,
    features_of,
    load_predictor,
    model_identity,
    open_reader,
    save_predictor,
)
from archroute_edge.quality._causal import fit_model, tempered, train_causal
from archroute_edge.quality._levels import _TABLE, LevelReader
from tests.quality.made_up import MODELS

N = 400
TRUE = np.array([[0.05, 0.1, 0.3, 0.6, 0.9], [0.4, 0.5, 0.6, 0.8, 0.95], [0.8, 0.85, 0.9, 0.9, 0.95]])


def marked(n: int = N, seed: int = 0, sureness: float = 3.0) -> tuple[Outcomes, PromptFeatures]:
    """Prompts with marks that a sure language model would give them, and outcomes by :data:`TRUE`."""
    draw = np.random.default_rng(seed)
    mark = draw.integers(0, 5, n)
    logits = draw.standard_normal((n, 5)) + sureness * np.eye(5)[mark]
    levels = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = (draw.random((n, 3)) < TRUE[:, mark].T).astype(np.float64)
    prompts = tuple(Prompt(f"p{number}", f"prompt {number}", f"subject {number % 4}") for number in range(n))
    return Outcomes(prompts, MODELS, scores), PromptFeatures(tuple(str(each.messages) for each in prompts), None, levels)


def trained(n: int = N, seed: int = 0) -> Causal:
    return train_causal(*marked(n, seed), model="ab" * 32)


class TestValues:
    def test_marks_mean_what_models_made_of_them(self) -> None:
        found = trained(4000)
        np.testing.assert_allclose(found.values, TRUE, atol=0.12)
        assert (np.diff(found.values, axis=1) >= 0).all()

    def test_an_expectation_and_no_argmax(self) -> None:
        """Half sure of two marks is between the two."""
        found = trained()
        chances = np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0.5, 0, 0, 0, 0.5]], np.float64)
        low, high, middle = found.expected(PromptFeatures(("", "", ""), None, chances))
        np.testing.assert_allclose(middle, (low + high) / 2, atol=1e-3)
        assert (low < middle).all() and (middle < high).all()

    def test_calibrated_on_prompts_that_it_has_not_seen(self) -> None:
        outcomes, features = marked(3000, seed=1)
        expected = trained(3000).expected(features)
        for column, scores in zip(expected.T, outcomes.scores.T, strict=True):
            for part in np.array_split(np.argsort(column), 4):
                assert column[part].mean() == pytest.approx(scores[part].mean(), abs=0.06)

    def test_too_sure_a_model_is_made_less_sure(self) -> None:
        """Marks that are often wrong and always sure."""
        outcomes, features = marked(2000, sureness=1.0)
        assert features.levels is not None
        sharp = PromptFeatures(features.texts, None, tempered(features.levels, 0.2))
        assert train_causal(outcomes, sharp, model=None).temperature > train_causal(outcomes, features, model=None).temperature

    def test_models_that_are_exchanged_exchange_their_scores(self) -> None:
        outcomes, features = marked()
        order = [2, 0, 1]
        turned = Outcomes(outcomes.prompts, tuple(MODELS[number] for number in order), outcomes.scores[:, order])
        one, other = (train_causal(each, features, model=None).expected(features) for each in (outcomes, turned))
        np.testing.assert_allclose(one[:, order], other, atol=1e-9)

    def test_twice_the_same_training(self) -> None:
        np.testing.assert_array_equal(trained().values, trained().values)

    @pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("n", [1, 40])
    def test_outcomes_that_are_all_alike(self, score: float, n: int) -> None:
        """A model that always wins, only ties, one prompt alone."""
        outcomes, features = marked(n)
        outcomes.scores[:] = score
        found = train_causal(outcomes, features, model=None).expected(features)
        assert np.isfinite(found).all() and (found > 0).all() and (found < 1).all()
        np.testing.assert_allclose(found, score, atol=0.3)

    def test_marks_that_tell_nothing(self) -> None:
        """An untrained model: each is expected to do as well as it does on average."""
        outcomes, features = marked()
        same = PromptFeatures(features.texts, None, np.full((N, 5), 0.2))
        found = train_causal(outcomes, same, model=None).expected(same)
        np.testing.assert_allclose(found, np.broadcast_to(outcomes.scores.mean(axis=0), found.shape), atol=0.02)

    def test_marks_the_wrong_way_round_tell_nothing(self) -> None:
        """Values never fall, so a model that is no judge is not believed backwards."""
        outcomes, features = marked()
        assert features.levels is not None
        back = PromptFeatures(features.texts, None, features.levels[:, ::-1])
        assert np.ptp(train_causal(outcomes, back, model=None).expected(back), axis=0).max() < 0.05

    def test_missing_outcomes(self) -> None:
        outcomes, features = marked()
        outcomes.scores[::2, 0] = np.nan
        outcomes.scores[5] = np.nan
        found = train_causal(outcomes, features, model=None)
        np.testing.assert_allclose(found.values, trained().values, atol=0.15)
        outcomes.scores[:, 1] = np.nan
        with pytest.raises(QualityError, match="no answer of middle was scored"):
            train_causal(outcomes, features, model=None)

    def test_a_model_is_added(self) -> None:
        """Others stay to the last bit; from few grades it is about what training on all makes of it."""
        outcomes, features = marked(2000)
        two = train_causal(outcomes.columns(MODELS[:2]), features, model="ab" * 32)
        rows = np.arange(100)
        three = two.with_model("large", outcomes.rows(rows).columns(("large",)), features.rows(rows))
        np.testing.assert_array_equal(three.expected(features)[:, :2], two.expected(features))
        assert three.sample.shape == (2000, 3)
        whole = train_causal(outcomes, features, model=None).expected(features)
        assert np.abs(three.expected(features)[:, 2] - whole[:, 2]).mean() < 0.08
        with pytest.raises(QualityError, match="has the model 'large' already"):
            three.with_model("large", outcomes, features)

    def test_few_grades_follow_what_all_models_share(self) -> None:
        shared = np.array([0.1, 0.2, 0.5, 0.7, 0.9])
        own = fit_model(np.full((2, 5), 0.2), np.array([0.5, 0.5]), shared)
        assert (np.diff(own) > 0.05).all()

    def test_a_file_has_all_of_it(self, tmp_path: Path) -> None:
        found, (_, features) = trained(), marked(seed=2)
        save_predictor(found, tmp_path / "p")
        again = load_predictor(tmp_path / "p")
        assert isinstance(again, Causal) and again.reads == "levels" and again.encoder == "ab" * 32
        np.testing.assert_array_equal(again.expected(features), found.expected(features))

    @pytest.mark.parametrize(
        "levels", [None, np.full((3, 4), 0.25), np.full((3, 5), np.nan), np.full((3, 5), -1.0)], ids=["none", "4", "nan", "-1"]
    )
    def test_no_marks(self, levels: Scores | None) -> None:
        with pytest.raises(QualityError, match="levels"):
            trained().expected(PromptFeatures(("", "", ""), None, levels))


TEXTS = ("What is two and two?", "Prove that the square root of 2 is irrational.", "hello", "x" * 9000)
CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "and now?"}]


class TestLanguageModel:
    """The bundled model, which was not trained for this: what it says does not matter, only that it says marks."""

    @pytest.fixture(autouse=True)
    def one_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """llama.cpp's threads spin for each other."""
        monkeypatch.setattr("archroute_edge.deciders._generative.physical_cores", lambda: 1)

    def test_the_question(self, bundled_model: Path) -> None:
        with LoadedModel(bundled_model, vocabulary_only=True, wanted="generative") as model:
            prompt = PromptBuilder(model, LEVEL_FORMAT)
            text = prompt.text(_TABLE, read_messages(CHAT))
            assert "<conversation>\nuser: hi\nassistant: hello\nuser: and now?\n</conversation>" in text
            answers = prompt.answers(_TABLE)
            assert [answer.text for answer in answers] == [f"[[{level}]]" for level in LEVELS]
            assert to_gbnf(answers).count("[[") == 1
            static = prompt.static_parts(_TABLE)
            assert len(static.prefix) > 50 and static.n_closing > 3
            # All five begin alike up to the digit, whatever the vocabulary makes of the brackets.
            canonical = AnswerSet(model.vocabulary, answers).canonical
            assert len({path[:1] for path in canonical}) == 1

    def test_one_evaluation_says_all_marks(self, bundled_model: Path) -> None:
        reader = LevelReader(bundled_model, 1)
        try:
            conversations = [read_messages(text) for text in TEXTS]
            levels = reader.levels(conversations)
            assert levels.shape == (4, 5) and (levels > 0).all()
            np.testing.assert_allclose(levels.sum(axis=1), 1, atol=1e-9)
            (verdict,) = reader._decider.decide_many(_TABLE, [read_messages("something else")], scores=True, keep=False)
            assert verdict.tokens.evaluations == 1 and verdict.route in LEVELS
            # The instructions were evaluated before.
            assert verdict.tokens.reused >= 50
            assert np.ptp(levels, axis=0).max() > 0
        finally:
            reader.close()

    def test_the_same_marks_every_time(self, bundled_model: Path) -> None:
        """Alone and among others; a new process evaluates what another one reuses, which rounds otherwise."""
        prompts = [Prompt(str(number), text) for number, text in enumerate(TEXTS[:3])]
        one, two = (features_of(prompts, bundled_model).levels for _ in range(2))
        assert one is not None and two is not None
        np.testing.assert_array_equal(one, two)
        back = features_of(prompts[::-1], bundled_model).levels
        assert back is not None
        np.testing.assert_allclose(one, back[::-1], atol=1e-3)

    def test_other_kinds_of_models(self, random_encoder: Path) -> None:
        with pytest.raises(ModelFileError):
            LevelReader(random_encoder)
        with open_reader(random_encoder, 1) as reader:
            features = reader.features([read_messages("hello")])
        assert features.levels is None and features.vectors is not None

    def test_a_predictor_of_a_real_models_marks(self, bundled_model: Path, tmp_path: Path) -> None:
        outcomes, _ = marked(30)
        features = features_of(outcomes.prompts, bundled_model)
        found = train_causal(outcomes, features, model=model_identity(bundled_model))
        path = tmp_path / "p.safetensors"
        save_predictor(found, path)
        again = load_predictor(path)
        # The bundled model is found by its identity.
        assert again.encoder is not None
        expected = again.expected(features_of(outcomes.prompts[:3], again.encoder))
        np.testing.assert_allclose(expected, found.expected(features)[:3], atol=1e-3)
