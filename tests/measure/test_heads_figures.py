"""Figures of ``heads``: which prompts are learned from, and the lines of a predictor for each set and of one for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from archroute_edge.quality import Outcomes, Prompt
from archroute_edge.quality import Split as Part
from tests.quality.few_ridges import search_few_ridges
from tools.measure import heads_figures as measured

WEAK, STRONG = "weak", "strong"
N_PROMPTS = 300
FRUIT = ["apple", "banana", "cherry", "date", "elder", "fig", "grape", "lemon", "mango", "orange", "peach", "plum"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_measurements(monkeypatch)


def small_measurements(patch: pytest.MonkeyPatch) -> None:
    """Of two sets; categories are judged in the first one."""
    patch.setattr(measured, "PAIRS", {"letters": [(WEAK, STRONG)], "numbers": [(WEAK, STRONG)]})
    patch.setattr(measured, "BY_CATEGORY", ("letters",))
    search_few_ridges(patch, 2)


@pytest.fixture(scope="module")
def small_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets in which other prompts are easy."""
    folder: Path = tmp_path_factory.mktemp("sets")
    draw = np.random.default_rng(5)
    for name in ("letters", "numbers"):
        rows, table = [], [f"id,{WEAK},{STRONG}"]
        for number in range(N_PROMPTS):
            is_easy = bool(draw.random() < 0.5)
            text = " ".join(["short" if is_easy == (name == "letters") else "long", *draw.choice(FRUIT, 4), name, str(number)])
            rows.append({"id": f"{name}-{number}", "text": text, "category": f"{name} {number % 5}"})
            table.append(f"{name}-{number},{int(is_easy)},{int(draw.random() < 0.9)}")
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"prompts_{name}.jsonl.gz").write_text(lines, encoding="utf-8")
        (folder / f"outcomes_{name}.csv.gz").write_text("\n".join(table) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pairs(small_sets: Path) -> list[dict[str, object]]:
    """The lines of a predictor for each set."""
    with pytest.MonkeyPatch.context() as patch:
        small_measurements(patch)
        return lines_of(small_sets, "pairs", "--split", "prompts", "--parts", "1")


def lines_of(folder: Path, *arguments: str) -> list[dict[str, object]]:
    result = CliRunner().invoke(measured.main, [str(folder), *arguments])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_a_predictor_for_each_set(pairs: list[dict[str, object]]) -> None:
    *of_sets, mean = pairs
    assert [line["set"] for line in of_sets] == ["letters", "numbers"]
    for line in of_sets:
        assert float(str(line["heads"])) > 0.6
        assert line["pair"] == [WEAK, STRONG] and 40 < int(str(line["prompts"])) < 80
        assert {*line} == {"set", "pair", "prompts", "heads", "bag of words", "ridges"}
    assert mean["pairs"] == 2 and mean["over"] == "bag of words"


def test_one_predictor_of_all_sets(small_sets: Path, pairs: list[dict[str, object]]) -> None:
    """What is easy in one set is hard in the other one, so heads of all sets together know nothing."""
    *of_sets, over_together, over_alone, over_words = lines_of(small_sets, "together", "--split", "prompts", "--parts", "1")
    assert [line["set"] for line in of_sets] == ["letters", "numbers"]
    for line in of_sets:
        assert line["shares"] == [0.25]
        assert float(str(line["train"])) > float(str(line["together"])) + 0.1
        assert float(str(line["set alone"])) > 0.6
    assert [line["over"] for line in (over_together, over_alone, over_words)] == ["together", "set alone", "bag of words"]
    # The same prompts are judged, by the same bag of words.
    for key in ("prompts", "bag of words"):
        assert [line[key] for line in of_sets] == [line[key] for line in pairs[:2]]


def test_categories_are_judged_in_some_sets(small_sets: Path) -> None:
    line, *_ = lines_of(small_sets, "together", "--split", "categories", "--parts", "1", "--usual-ridges")
    alone, _ = lines_of(small_sets, "pairs", "--split", "categories", "--parts", "1")
    assert line["set"] == "letters" and line["prompts"] == 60
    assert [line[key] for key in ("prompts", "bag of words")] == [alone[key] for key in ("prompts", "bag of words")]


def test_what_is_like_a_judged_prompt_is_left_out_in_every_set() -> None:
    many = " ".join(f"word{number}" for number in range(14))
    texts = ("One question", many, "other", "one  QUESTION", f"so: {many}", "another")
    prompts = tuple(Prompt(str(number), text, None, "a" if number < 3 else "b") for number, text in enumerate(texts))
    sets = [Outcomes(prompts[:3], ("x",), np.ones((3, 1))), Outcomes(prompts[3:], ("y", "x"), np.zeros((3, 2)))]
    outcomes = measured.joined(sets)
    assert outcomes.prompts == prompts and outcomes.models == ("x", "y")
    assert outcomes.scores[2:4].tolist() == [[1.0, pytest.approx(np.nan, nan_ok=True)], [0.0, 0.0]]
    first, second, *_ = measured.parts_of(np.array([0, 0, 1, -1, -1, -1]), texts)
    assert (first[0].tolist(), first[1].tolist()) == ([2, 5], [0, 1])
    assert (second[0].tolist(), second[1].tolist()) == ([0, 1, 3, 4, 5], [2])


def test_a_question_that_another_set_has_in_other_words_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its subject has another name there, so leaving out whole subjects keeps it among what is learned."""
    words = " ".join(FRUIT)
    for name in ("letters", "numbers"):
        texts = [f"{words} {n} {words} {name if n % 2 else ''}" if n < 4 else f"{name} {n}" for n in range(30)]
        rows = [{"id": str(n), "text": text, "category": f"{name} {n % 5}"} for n, text in enumerate(texts)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"prompts_{name}.jsonl.gz").write_text(lines, encoding="utf-8")
        table = "".join(f"{n},{n % 2},1\n" for n in range(30))
        (tmp_path / f"outcomes_{name}.csv.gz").write_text(f"id,{WEAK},{STRONG}\n{table}", encoding="utf-8")
    tiers = tmp_path / "tiers.json"
    tiers.write_text(json.dumps({"small": [WEAK], "mid": [WEAK], "frontier": [STRONG]}), encoding="utf-8")
    learned: list[list[set[str]]] = []

    def train(outcomes: Outcomes, *_: object, parts: Sequence[Part], **__: object) -> None:
        texts = [str(prompt.messages) for prompt in outcomes.prompts]
        learned.append([{texts[row][:75] for row in part.train} & {texts[row][:75] for row in part.test} for part in parts])
        raise KeyboardInterrupt

    monkeypatch.setattr(measured, "train_heads_by_kind", train)
    for more in ((), ("--without-like",)):
        CliRunner().invoke(measured.main, [str(tmp_path), "tiers", str(tiers), "letters", "numbers", *more])
    like, without = learned
    assert any(like) and not any(without)
