"""What ``archroute quality train`` prints of prompts that were held out: on them only, and with those that only look new."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archroute_edge.quality._alike import like_learned, rare_rows_of_words
from archroute_edge.quality._splits import Split
from tests.cli.conftest import Run
from tests.quality.few_ridges import search_few_ridges

Lines = list[dict[str, object]]


@pytest.fixture(autouse=True)
def few_ridges(monkeypatch: pytest.MonkeyPatch) -> None:
    search_few_ridges(monkeypatch, 1)


def line(number: int, category: str, scores: dict[str, float], text: str = "") -> dict[str, object]:
    words = text or f"{'prove' if number % 2 else 'name'} {category} {number * 7919 % 1000}"
    return {"id": f"{category} {number}", "text": words, "category": category, "scores": scores}


def train(run: Run, folder: Path, lines: Lines) -> tuple[str, dict[str, object] | None]:
    """What a training prints, and the figure as JSON."""
    file = folder / "graded.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    command = ("quality", "train", str(file), "--encoder", "none", "-o", str(folder / "p.safetensors"))
    printed, as_json = run(*command), run(*command, "--json")
    assert printed.exit_code == as_json.exit_code == 0, printed.output
    return printed.stdout, json.loads(as_json.stdout)["held_out"]


def test_models_of_one_category_are_not_judged_by_what_they_learned(run: Run, tmp_path: Path) -> None:
    """The figure was of scores that the heads were trained on: nothing else is known of a and b."""
    lines = [line(number, "law", {"a": float(number % 2 == 0), "b": 1.0}) for number in range(40)]
    lines += [line(number, "physics", {"c": 0.0}) for number in range(40)]
    printed, figure = train(run, tmp_path, lines)
    assert figure is None
    assert "no figure: too few different prompts have scores of two models that have scores elsewhere, too;" in printed


def test_the_judged_pair_is_one_that_can_be_held_out(run: Run, tmp_path: Path) -> None:
    """The models farthest apart are those of one category alone."""
    lines: Lines = []
    for category in ("law", "physics"):
        alone = {"a": 0.0, "b": 1.0} if category == "law" else {}
        lines += [line(number, category, {**alone, "c": float(number % 2 == 0), "d": 1.0}) for number in range(40)]
    _, figure = train(run, tmp_path, lines)
    assert figure is not None
    assert (figure["weak"], figure["strong"], figure["prompts"], figure["alike"]) == ("c", "d", 80, 0)
    assert figure["new_apgr"] is None


def test_prompts_that_another_category_asks_in_other_words_are_counted(run: Run, tmp_path: Path) -> None:
    """Whole categories are held out, and a question may stand in two of them."""
    lines: Lines = []
    for category, begin in (("law", "Please tell:"), ("physics", "I wonder,")):
        for number in range(40):
            question = f"{begin} what does case {number} of the book say about a house that has {number} doors and no windows?"
            lines.append(line(number, category, {"c": float(number % 2 == 0), "d": 1.0}, question if number < 10 else ""))
    printed, figure = train(run, tmp_path, lines)
    assert figure is not None and (figure["prompts"], figure["alike"]) == (80, 20)
    assert "\n  20 of them share twelve words in a row (short ones: all) with a prompt that was learned from\n" in printed
    assert f"\n  without these APGR {figure['new_apgr']:.3f}; bag of words {figure['new_words_apgr']:.3f}\n" in printed


def test_rows_of_words_that_many_prompts_have_say_nothing() -> None:
    words = [str(number) for number in range(13)]
    template, other = " ".join(words), " ".join(reversed(words))
    texts = (*[template] * 7, other, "A b", "a  B!", f"so: {other}")
    rare = rare_rows_of_words(texts)
    assert [len(each) for each in rare] == [0] * 7 + [2, 1, 1, 2]
    parts = [Split(np.arange(8), np.arange(8, 11)), Split(np.arange(8, 11), np.arange(8))]
    assert np.flatnonzero(like_learned(texts, parts)).tolist() == [7, 10]
