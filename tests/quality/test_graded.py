"""Graded prompts, and tables of grades beside outcomes, prompts and exports of the record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.quality._graded import read_graded
from archroute_edge.quality._outcomes import Prompt
from archroute_edge.quality._reading import read_outcomes
from tests.quality import test_reading
from tests.quality.test_reading import lines, one_line, pair, rows_of, write

pytestmark = pytest.mark.quick

ONE: dict[str, Any] = {"id": "a", "text": "one"}
TWO: dict[str, Any] = {"text": "two"}


def table(folder: Path, *rows: str, name: str = "grades.csv") -> Path:
    """A table of grades."""
    return write(folder / name, "\n".join(["id,model,score", *rows, ""]))


class TestLines:
    def test_scores_of_several_models(self, tmp_path: Path) -> None:
        path = lines(
            tmp_path,
            ONE | {"category": "law", "scores": {"small": 0, "large": 1}},
            TWO | {"scores": {"large": 0.5, "small": None}},
        )
        read = read_outcomes([path])
        assert read.prompts == (Prompt("a", "one", "law", "lines"), Prompt("2", "two", None, "lines"))
        assert (read.models, rows_of(read)) == (("small", "large"), [[0, 1], [None, 0.5]])

    def test_a_line_for_each_answer(self, tmp_path: Path) -> None:
        """Prompts may come again with another model."""
        path = lines(
            tmp_path,
            ONE | {"model": "small", "score": 0},
            TWO | {"model": "small", "score": 0.25},
            ONE | {"model": "large", "score": 1},
        )
        read = read_outcomes([path])
        assert (read.models, rows_of(read)) == (("small", "large"), [[0, 1], [0.25, None]])

    @pytest.mark.parametrize("key", ["request", "outcomes", "winner"])
    def test_other_keys_are_ignored(self, tmp_path: Path, key: str) -> None:
        """Those of exports, too."""
        read = read_outcomes([lines(tmp_path, ONE | {key: "r", "scores": {"small": 1}}, TWO | {"scores": {"small": 0}})])
        assert rows_of(read) == [[1], [0]]

    def test_beside_sets(self, tmp_path: Path) -> None:
        graded = lines(tmp_path, ONE | {"scores": {"large": 0.75}})
        read = read_outcomes([graded, *pair(tmp_path)])
        assert rows_of(read)[-1] == [None, 0.75]

    @pytest.mark.parametrize(
        ("line", "part"),
        [
            ({"text": "b"}, "no 'scores'"),
            ({"text": "b", "score": 1}, "a 'score' without 'model'"),
            ({"text": "b", "score": 1, "scores": {"small": 1}}, "both 'score' and 'scores'"),
            ({"text": "b", "scores": [1]}, "'scores' is"),
            ({"text": "b", "scores": {"small": 2}}, "score of 'small' is 2"),
            ({"text": "b", "scores": {"small": True}}, "expected a number from 0 to 1"),
            ({"text": "b", "scores": {" ": 1}}, "a model's name in 'scores' is blank"),
            ({"text": "b", "model": "small"}, "no 'score'"),
            (ONE | {"scores": {"small": 1}}, "the id 'a' is that of line 1, too, with a grade of 'small'"),
            (ONE | {"scores": {}}, "the id 'a' is that of line 1, too; expected one grade for each"),
            (ONE | {"text": "b", "scores": {"large": 1}}, "the id 'a' is that of line 1, too; each prompt has one of its own"),
        ],
    )
    def test_a_wrong_line(self, tmp_path: Path, line: dict[str, Any], part: str) -> None:
        path = lines(tmp_path, ONE | {"scores": {"small": 1}}, line)
        one_line(lambda: read_outcomes([path]), f"{path} line 2: ", part)

    def test_none(self, tmp_path: Path) -> None:
        one_line(lambda: read_outcomes([lines(tmp_path)]), "there are no graded prompts")

    def test_battles_are_no_outcomes(self, tmp_path: Path) -> None:
        path = lines(tmp_path, ONE | {"model_a": "x", "model_b": "y", "winner": "tie"})
        one_line(
            lambda: read_outcomes([path]), f"{path} line 1: ", "a battle, which is no outcome; name its file with --battles"
        )


class TestTables:
    def test_grades_replace_those_of_a_set(self, tmp_path: Path) -> None:
        """Of a model that no file has, too; an id is looked for in all of them."""
        export = test_reading.TestRecord().export(tmp_path)
        read = read_outcomes([*pair(tmp_path), export], [table(tmp_path, "p1,small,0.75", "p3,huge,1", "r4,huge,0.5")])
        assert read.models == ("small", "large", "huge")
        assert rows_of(read)[:3] == [[0.75, 1, None], [0.5, None, None], [None, 0.1, 1]]
        assert [None, None, 0.5] in rows_of(read)
        assert [prompt.id for prompt in read.prompts] == ["p1", "p2", "p3", "r1", "r2", "r4", "r5"]

    def test_prompts_without_scores(self, tmp_path: Path) -> None:
        """Those that no table grades are left out."""
        path = lines(tmp_path, ONE, TWO, {"text": "three"})
        read = read_outcomes([path], [table(tmp_path, "a,small,1"), table(tmp_path, "2,small,0", name="more.csv")])
        assert ([prompt.id for prompt in read.prompts], rows_of(read)) == (["a", "2"], [[1], [0]])

    def test_nothing_is_graded(self, tmp_path: Path) -> None:
        one_line(lambda: read_outcomes([lines(tmp_path, ONE)], [table(tmp_path)]), "there are no graded prompts")

    def test_an_id_of_two_files(self, tmp_path: Path) -> None:
        files = [lines(tmp_path, ONE, name=name) for name in ("x.jsonl", "y.jsonl")]
        grades = table(tmp_path, "a,small,1")
        one_line(lambda: read_outcomes(files, [grades]), f"{grades} line 2: ", "prompts of 2 files have the id 'a'")


class TestOneModel:
    def test_scores_without_a_name(self, tmp_path: Path) -> None:
        read = read_graded(lines(tmp_path, ONE | {"score": 1}, TWO | {"score": 0.25}), "new")
        assert (read.models, rows_of(read), [prompt.id for prompt in read.prompts]) == (("new",), [[1], [0.25]], ["a", "2"])

    def test_others_beside_it(self, tmp_path: Path) -> None:
        read = read_graded(lines(tmp_path, ONE | {"scores": {"old": 0, "new": 1}}, TWO | {"score": 0.25}), "new")
        assert (read.models, rows_of(read)) == (("old", "new"), [[0, 1], [None, 0.25]])

    def test_a_table(self, tmp_path: Path) -> None:
        read = read_graded(lines(tmp_path, ONE, TWO), "new", [table(tmp_path, "a,new,1")])
        assert (read.models, rows_of(read)) == (("new",), [[1]])

    def test_an_export_of_the_record(self, tmp_path: Path) -> None:
        request = json.dumps({"messages": [{"role": "user", "content": "four"}]})
        path = lines(tmp_path, {"id": "r", "request": request, "outcomes": [{"model": "new", "score": 0.25}]})
        assert rows_of(read_graded(path, "new")) == [[0.25]]

    @pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no path here")
    def test_a_pipe(self) -> None:
        """As the shell makes one of <(zcat graded.jsonl.gz): what was read of it is gone."""
        reading, writing = os.pipe()
        with os.fdopen(reading), os.fdopen(writing, "w") as file:
            file.write(json.dumps(ONE | {"score": 1}) + "\n")
            file.close()
            assert rows_of(read_graded(f"/dev/fd/{reading}", "new")) == [[1]]

    @pytest.mark.parametrize("score", [None, True, "1", -0.5, 1.5, 10**400])
    def test_a_wrong_grade(self, tmp_path: Path, score: object) -> None:
        path = lines(tmp_path, ONE | {"score": 1}, TWO | {"score": score})
        one_line(lambda: read_graded(path, "new"), f"{path} line 2: ", "'score'", "expected a number from 0 to 1")

    def test_more_models_than_there_is_room_for(self, tmp_path: Path) -> None:
        """Prompts times models are as many numbers as the square of a file's lines, if each has a model of its own."""
        many = [f"m{number}" for number in range(1001)]
        path = lines(tmp_path, ONE | {"scores": dict.fromkeys(many, 1)})
        one_line(lambda: read_outcomes([path]), f"{path}: grades of 1,001 models; at most 1,000 are read")
        grades = table(tmp_path, *(f"p1,{model},1" for model in many))
        one_line(lambda: read_outcomes(pair(tmp_path), [grades]), "grades of 1,003 models; at most 1,000 are read")

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there")
    def test_links_in_a_circle(self, tmp_path: Path) -> None:
        path = tmp_path / "circle.jsonl"
        path.symlink_to(path)
        one_line(lambda: read_outcomes([path]), f"{path}: cannot be read (")

    def test_no_graded_prompts(self, tmp_path: Path) -> None:
        one_line(lambda: read_graded(lines(tmp_path), "new"), "there are no graded prompts")
