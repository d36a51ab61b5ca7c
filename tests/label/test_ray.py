"""What Ray's tasks and actors do, without Ray; ``python -m tools.measure.labelling ray`` runs them on a cluster."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from archroute_edge.config import RoutingConfig
from archroute_edge.label import Fields, RouterRecipe, find_inputs
from archroute_edge.label._ray import RayLabeller, actors_for, read_tables
from tests.label.conftest import line, make_run, read_lines, write_lines


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
    actor = RayLabeller(pickle.loads(pickle.dumps(RouterRecipe(card_config, settings, scores))))
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
