"""The page of an evaluation."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from archroute_edge.quality._evaluation import EvaluationSettings, evaluate_predictor
from archroute_edge.quality._page import quality_page
from archroute_edge.quality._report import QualityReport
from tests.quality.made_up import MODELS, KnownScores, features_of, made_up_outcomes


@pytest.fixture(scope="module")
def report() -> QualityReport:
    """A pair with a gap and one without, several categories, and prices."""
    outcomes, chances = made_up_outcomes(60)
    settings = EvaluationSettings(
        pairs=(("small", "large"), ("large", "small")), prices={"small": 0.001, "middle": 0.004, "large": 0.1}, n_draws=40
    )
    return evaluate_predictor(KnownScores(MODELS, chances), outcomes, features_of(outcomes), settings, source="made up")


@pytest.fixture(scope="module")
def page(report: QualityReport) -> str:
    return quality_page(report, "today").render()


def test_the_page_has_the_answer_every_plot_and_every_table(report: QualityReport, page: str) -> None:
    for line in report.answer():
        assert line.replace("'", "&#x27;") in page
    # Gap recovered, categories, cost and quality, calibration.
    assert page.count("<svg ") == 4
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "small → large",
        "large → small",
        "Cost and quality",
        "Quality at equal cost",
        "What budgets buy, mean score",
        "The models, by cost",
        "Quality at equal cost, by category",
        "How true the expected scores are",
    ]
    assert "there is no gap to recover" in page
    for name in ("heads", "bag of words", "bag of words, unseen", "random", "oracle"):
        assert f"<td>{name}</td>" in page


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    """A report is opened from a mail, or years later."""
    assert not re.search(r"<(?:script|link|img|iframe)\b", page)
    assert re.findall(r"(?:href|src)=\"(?!#)", page) == []
    assert "prefers-color-scheme: dark" in page
    # Text and lines are in the page's own colour, on either background.
    assert "#000000" not in page and "currentColor" in page


def test_names_are_no_markup(report: QualityReport) -> None:
    pair = dataclasses.replace(report.pairs[0], weak="<b>$x$</b>")
    text = quality_page(dataclasses.replace(report, pairs=[pair], priced=None), "today").render()
    assert "<b>" not in text
    assert "&lt;b&gt;$x$&lt;/b&gt; → large" in text


def test_the_same_report_gives_the_same_page(report: QualityReport, page: str) -> None:
    assert quality_page(report, "today").render() == page


def test_a_page_of_one_prompt_without_intervals(tmp_path: Path) -> None:
    outcomes, chances = made_up_outcomes(1)
    outcomes = dataclasses.replace(outcomes, scores=np.array([[0.0, 0.5, 1.0]]))
    report = evaluate_predictor(
        KnownScores(MODELS, chances),
        outcomes,
        features_of(outcomes),
        EvaluationSettings(pairs=(("small", "large"),), prices={"small": 0.0, "large": 0.0}, n_draws=0),
    )
    quality_page(report, "").write(tmp_path / "page.html")
    assert "One text is too little" in (tmp_path / "page.html").read_text(encoding="utf-8")
