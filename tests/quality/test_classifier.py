"""The policy classifier: three labels for any two models, and its last layer in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archroute_edge.quality import Classifier, Outcomes, load_predictor, save_predictor
from archroute_edge.quality._classifier import LastLayer, _likelihood, labels_of, train_classifier
from tests.quality import battles as made

ASKED = made.features(12, seed=9)


def layer(threshold: float = 0.7) -> LastLayer:
    draw = np.random.default_rng(0)
    return LastLayer(draw.standard_normal((3, 16)).astype(np.float32), draw.standard_normal(3), threshold)


def test_a_tie_counts_half_whichever_model_stands_first() -> None:
    """The paper's rule gives ties to the weak model, so that swapping the two changes what is expected."""
    assert ASKED.vectors is not None
    strengths = layer().strengths(ASKED.vectors)
    predictor, ahead = Classifier(made.MODELS, None, np.empty((0, 3)), layer(), None), strengths[:, 0] - strengths[:, 2]
    chance, back = predictor.chance(ahead), predictor.chance(-ahead)
    np.testing.assert_allclose(chance, 1 - back, atol=1e-12)
    won, lost = 1 / (1 + np.exp(0.7 - ahead)), 1 / (1 + np.exp(0.7 + ahead))
    np.testing.assert_allclose(chance, won + 0.5 * (1 - won - lost), atol=1e-12)


def test_slopes_are_those_of_the_likelihood() -> None:
    """Against finite differences; and the likelihood is that of the three labels."""
    draw = np.random.default_rng(1)
    ahead, shares = draw.standard_normal(9) * 3, draw.random((9, 3))
    for threshold in (0.01, 0.5, 4.0):
        value, slopes, by_threshold = _likelihood(ahead, threshold, shares)
        won, lost = 1 / (1 + np.exp(threshold - ahead)), 1 / (1 + np.exp(threshold + ahead))
        assert value == pytest.approx(-(shares * np.log(np.stack([won, 1 - won - lost, lost], axis=1))).sum())
        for place in range(9):
            step = np.eye(9)[place] * 1e-6
            above, below = (_likelihood(ahead + sign * step, threshold, shares)[0] for sign in (1, -1))
            assert slopes[place] == pytest.approx((above - below) / 2e-6, abs=1e-5)
        above, below = (_likelihood(ahead, threshold + sign * 1e-6, shares)[0] for sign in (1, -1))
        assert by_threshold == pytest.approx((above - below) / 2e-6, rel=1e-4)


def test_labels_are_counted() -> None:
    """Pairs in one order, of mean weight 1."""
    rows = [(0, 1, 0, 1.0), (0, 0, 1, 0.5), (0, 0, 1, 0.5), (1, 0, 2, 1.0), (1, 2, 1, 0.0)]
    labels = labels_of(made.few(rows, made.MODELS, 2))
    assert list(zip(labels.prompt, labels.low, labels.high, strict=True)) == [(0, 0, 1), (1, 0, 2), (1, 1, 2)]
    np.testing.assert_allclose(labels.shares * 5 / 3, [[0, 2, 1], [1, 0, 0], [1, 0, 0]])


def test_more_ties_are_a_wider_tie() -> None:
    battles = made.battles(60)
    few = train_classifier(battles, made.features(60)).layer.threshold
    battles.won[::2] = 0.5
    assert train_classifier(battles, made.features(60)).layer.threshold > few * 1.2


def test_a_file_has_all_of_it(tmp_path: Path) -> None:
    """An added model, too."""
    outcomes = made.outcomes(60)
    trained = train_classifier(made.battles(60), made.features(60), outcomes, encoder="ab" * 32)
    graded = Outcomes(outcomes.prompts[:20], ("new",), outcomes.scores[:20, :1])
    for predictor in (trained, trained.with_model("new", graded, made.features(60).rows(np.arange(20)))):
        path = tmp_path / "p.safetensors"
        save_predictor(predictor, path)
        again = load_predictor(path)
        assert isinstance(again, Classifier) and again.models == predictor.models
        np.testing.assert_array_equal(again.expected(ASKED), predictor.expected(ASKED))
    np.testing.assert_array_equal(again.expected(ASKED)[:, :3], trained.expected(ASKED))
