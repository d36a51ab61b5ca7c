"""The policies beside RouteLLM's figures: what they learn from, and the lines printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from archroute_edge.quality import read_outcomes
from tools.measure import routellm_policies as measured

SUBJECTS = ("algebra", "law", "history", "physics", "logic")


def write_set(folder: Path, name: str, categories: list[str], more: tuple[str, ...] = ()) -> None:
    models = (measured.WEAK, measured.STRONG, *more)
    rows = [
        {"id": f"{name}-{number}", "text": f"{category} question {number} of {name}", "category": category}
        for number, category in enumerate(categories)
    ]
    (folder / f"prompts_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = [",".join(("id", *models))]
    for number, row in enumerate(rows):
        scores = (str((number + place) % 3 % 2) for place in range(len(models)))
        table.append(",".join((row["id"], *scores)))
    (folder / f"outcomes_{name}.csv").write_text("\n".join(table) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path, "routellm_mmlu", 5 * list(SUBJECTS))
    write_set(tmp_path, "routellm_gsm8k", 10 * ["gsm8k"])
    write_set(tmp_path, "mmlupro", 6 * ["law"])
    write_set(tmp_path, "arenahard", 6 * ["arena"], ("another",))
    return tmp_path


def test_what_is_learned_from_has_nothing_of_what_is_judged(folder: Path) -> None:
    outcomes = read_outcomes([folder])
    ways = dict(measured.trainings(outcomes, "routellm_mmlu", 0))
    assert set(ways) == {"prompts", "subjects", "others"}
    for parts in ways.values():
        assert sorted(row for _, test in parts for row in test) == sorted(
            row for row, prompt in enumerate(outcomes.prompts) if prompt.group == "routellm_mmlu"
        )
        assert not any(set(train) & set(test) for train, test in parts)
    for train, test in ways["subjects"]:
        assert not {outcomes.prompts[row].category for row in train} & {outcomes.prompts[row].category for row in test}
    ((others, _),) = ways["others"]
    assert {outcomes.prompts[row].group for row in others} == {"routellm_gsm8k", "arenahard"}


def test_a_set_of_one_subject_has_none_to_leave_out(folder: Path) -> None:
    assert set(dict(measured.trainings(read_outcomes([folder]), "routellm_gsm8k", 0))) == {"prompts", "others"}


def test_the_lines_have_each_policy_beside_the_bag_of_words(
    folder: Path, bundled_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for policy in ("factorization", "classifier"):
        monkeypatch.setitem(measured.FROM_BATTLES, policy, measured.FROM_BATTLES["similarity"])
    arguments = [str(folder), "--resamples", "20", "--judge", str(bundled_model)]
    result = CliRunner().invoke(measured.main, arguments, catch_exceptions=False)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["set"], line["trained_on"], line["policy"]) for line in lines[:-1]] == [
        (name, way, policy)
        for name, ways in (("routellm_mmlu", ("prompts", "subjects", "others")), ("routellm_gsm8k", ("prompts", "others")))
        for way in ways
        for policy in ("similarity", "factorization", "classifier", "causal")
    ]
    for line in lines[:-1]:
        assert set(line[line["policy"]]) == set(line["bag of words"]) == {"apgr", "cpt50", "cpt80"}
        assert isinstance(line[line["policy"]]["apgr"]["value"], float)
    assert lines[0]["routellm"]["apgr"] == 0.603
    assert len(lines[-1]["encoder"]) > 10
