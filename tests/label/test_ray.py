"""What Ray's tasks and actors do, without Ray; ``python -m tools.measure.labelling ray`` runs them on a cluster."""

from __future__ import annotations

import datetime
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archroute_edge.config import RoutingConfig
from archroute_edge.errors import LabelError, ModelNotFoundError, SettingsError
from archroute_edge.label import Claims, Fields, LabelFolder, Labeller, RouterRecipe, Row, find_inputs
from archroute_edge.label._ray import RayLabeller, actors_for, alone_in, read_tables
from tests.label.conftest import line, make_run, names, read_lines, write_lines


def folder_of(path: Path) -> LabelFolder:
    return LabelFolder(path, {"run": 1}, [], scores=False)


@pytest.mark.parametrize("scores", [False, True])
def test_an_actor_gives_the_labels_of_a_local_run(
    tmp_path: Path, random_encoder: Path, card_config: RoutingConfig, encoder: Any, scores: bool
) -> None:
    texts = [line("fix my bug", id="a"), "nonsense", "", line("hello", id=7), '{"messages": "x", "id": {"b": [1]}}'] * 60
    write_lines(tmp_path / "logs" / "day" / "a.jsonl", texts)
    make_run(encoder, tmp_path / "logs", tmp_path / "labels", scores=scores).label_all()
    local = read_lines(tmp_path / "labels" / "day" / "a.jsonl")
    (file,) = find_inputs([str(tmp_path / "logs")], tmp_path / "ray")
    settings = {"model": str(random_encoder), "prefix_cache": False, "threads": None}
    # As it comes to a node.
    given = (RouterRecipe(card_config, settings, scores), folder_of(tmp_path / "ray"))
    actor = RayLabeller(*pickle.loads(pickle.dumps(given)))
    table = pa.concat_tables([actor(batch) for batch in read_tables(file, Fields())])
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == [f"day/a.jsonl:{label['row']}" for label in local]
    assert {row["file"] for row in rows} == {"day/a.jsonl"}
    assert [row["id"] for row in rows[:5]] == ["a", None, "7", '{"b": [1]}', "a"]
    for row, label in zip(rows, local, strict=True):
        for name in ("row", "route", "model", "decided_by", "reason", "trimmed", "error"):
            assert row[name] == label.get(name)
        assert row["confidence"] == pytest.approx(label.get("confidence"), abs=1e-4)
        if scores:
            assert dict(row["scores"] or ()) == pytest.approx(label.get("scores", {}), abs=1e-4)


def test_what_json_or_a_table_cannot_hold(tmp_path: Path, encoder: Any) -> None:
    """Labels and errors are those of a run on one machine; one such row does not end the run."""
    day = datetime.datetime(2026, 1, 1)
    whole = [{"role": "user", "content": "fix my bug", "at": day}]
    source = pa.table({"id": ["a", "b", "c"], "messages": pa.array([whole] * 3)})
    (tmp_path / "logs").mkdir()
    pq.write_table(source, tmp_path / "logs" / "a.parquet")
    pq.write_table(pa.table({"messages": [b"fix my bug"]}), tmp_path / "logs" / "b.parquet")
    write_lines(tmp_path / "logs" / "c.jsonl", [line("hello", id="\ud83d")])
    (tmp_path / "logs" / os.fsdecode(b"\xff.jsonl")).write_text(line("hello") + "\n", encoding="utf-8")
    make_run(encoder, tmp_path / "logs", tmp_path / "labels").label_all()
    files = find_inputs([str(tmp_path / "logs")], tmp_path / "ray")
    rows = {file.name: [row for table in read_tables(file, Fields()) for row in table.to_pylist()] for file in files}
    assert [json.loads(row["messages"])[0]["content"] for row in rows["a.parquet"]] == ["fix my bug"] * 3
    (wrong,) = rows["b.parquet"]
    assert wrong["messages"] is None
    assert [wrong["error"]] == pq.read_table(tmp_path / "labels" / "b.parquet")["error"].to_pylist()
    assert rows["c.jsonl"][0]["id"] == r"\ud83d"
    assert rows[os.fsdecode(b"\xff.jsonl")][0]["key"] == r"\udcff.jsonl:1"


def test_a_row_that_is_nested_deep_is_an_error_wherever_the_stack_ends(
    tmp_path: Path, random_encoder: Path, card_config: RoutingConfig, encoder: Any
) -> None:
    """An actor may have less room than the reader had; the run would end each time it came to that row."""
    deep = "[" * 900 + "]" * 900
    path = write_lines(tmp_path / "logs" / "a.jsonl", [f'{{"messages": {deep}}}', f'{{"messages": [{{"role": {deep}}}]}}'])
    (file,) = find_inputs([str(path)], tmp_path / "labels")
    (table,) = read_tables(file, Fields())
    recipe = RouterRecipe(card_config, {"model": str(random_encoder), "prefix_cache": False}, scores=False)
    actor = RayLabeller(recipe, folder_of(tmp_path / "labels"))

    def below(n_frames: int, do: Callable[[], Any]) -> Any:
        return below(n_frames - 1, do) if n_frames else do()

    for n_frames in range(0, 200, 8):
        labels = below(n_frames, lambda: actor(table)).to_pylist()
        assert [each["route"] for each in labels] == [None, None]
        assert all(each["error"].startswith(f"row {each['row']}: ") for each in labels)
    rows = [Row(1, messages=json.loads(deep)), Row(2, messages=[{"role": json.loads(deep)}])]
    for n_frames in range(0, 200, 8):
        found = below(n_frames, lambda: Labeller(encoder).label(rows, ["1", "2"]))
        assert [each.decision for each in found] == [None, None]


def test_a_model_that_cannot_be_loaded_leaves_the_folder_free(
    tmp_path: Path, random_encoder: Path, card_config: RoutingConfig
) -> None:
    folder = folder_of(tmp_path / "labels")
    unusable = RouterRecipe(card_config, {"model": str(random_encoder), "prefix_cache": False, "budget": 999}, scores=False)
    with pytest.raises(SettingsError, match="budget is about a model that is given a prompt"):
        unusable.check()
    with pytest.raises(SettingsError, match="budget is about a model that is given a prompt"):
        RayLabeller(unusable, folder)
    assert names(tmp_path / "labels") == set()
    usable = RouterRecipe(card_config, {"model": str(random_encoder), "prefix_cache": False}, scores=False)
    usable.check()
    assert names(tmp_path / "labels") == set()
    RayLabeller(usable, folder)
    assert names(tmp_path / "labels") == {"_label.json"}


def test_names_are_those_of_the_place_where_the_run_was_started(
    tmp_path: Path, random_encoder: Path, card_config: RoutingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's processes work in folders of their own."""
    shutil.copy(random_encoder, tmp_path / "here.gguf")
    (tmp_path / "node").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = RouterRecipe(card_config, {"model": "here.gguf", "prefix_cache": False}, scores=False)
    given = pickle.dumps((recipe, folder_of(Path("labels"))))
    monkeypatch.chdir(tmp_path / "node")
    RayLabeller(*pickle.loads(given))
    assert names(tmp_path / "labels") == {"_label.json"}
    elsewhere = replace(recipe, place=tmp_path / "away")
    monkeypatch.chdir(tmp_path / "node")
    with pytest.raises(ModelNotFoundError, match=r"here\.gguf: no such model file"):
        elsewhere.check()


class _Taken(Claims):
    """Claims that others have."""

    def take(self, output: Path) -> None:
        return None


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """Two would label rows twice: what is labelled already is read when a run begins."""
    with pytest.raises(LabelError, match="another run on Ray is at work there"), alone_in(tmp_path, _Taken(0.01)):
        pass
    with alone_in(tmp_path, Claims()):
        assert names(tmp_path) == {"._ray_run.claim-1"}
    assert names(tmp_path) == set()


def test_a_file_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.parquet", ["no Parquet"])
    (file,) = find_inputs([str(path)], tmp_path / "labels")
    (table,) = read_tables(file, Fields())
    (row,) = table.to_pylist()
    assert (row["key"], row["row"], row["messages"]) == ("a.parquet:0", 0, None)
    assert row["error"].startswith(f"{path}: cannot be read as Parquet")


@pytest.mark.parametrize(
    ("n_cpus", "threads", "most"), [(2, 1, 0), (3, 1, 1), (4, 4, 0), (6, 4, 1), (8, 1, 6), (100, 1, 89), (100, 4, 22)]
)
def test_room_is_left_to_read_and_write(n_cpus: float, threads: int, most: int) -> None:
    """Else a run that goes on from its checkpoints waits for ever: actors are placed first."""
    assert actors_for(n_cpus, threads) == most
