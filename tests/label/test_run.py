"""Labels of files: every row once, in order, and errors in their places."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archroute_edge.config import RoutingConfig, parse_config
from archroute_edge.conversation import Messages
from archroute_edge.decision import Decision
from archroute_edge.errors import EngineError, LabelError
from archroute_edge.label import Claims, Fields, find_inputs
from archroute_edge.label._claims import claim_path
from archroute_edge.label._folder import LabelFolder
from archroute_edge.routing import Router
from tests.label.conftest import die_with, line, make_run, names, read_lines, write_lines

TEXTS = ["fix my bug", "schreib eine Mail", "x" * 3000, "  ", "plot sales per shop"] * 30


def as_decided(decision: Decision) -> dict[str, Any]:
    names = ("route", "model", "confidence", "decided_by", "reason", "trimmed")
    return {name: getattr(decision, name) for name in names}


def test_a_label_is_the_decision_on_its_row(tmp_path: Path, encoder: Router) -> None:
    lines = [line(text, id=number) for number, text in enumerate(TEXTS)]
    lines[70:70] = ["nonsense", '{"messages": [7.5], "id": "b"}', ""]
    write_lines(tmp_path / "logs" / "a.jsonl", lines)
    summary = make_run(encoder, tmp_path / "logs", tmp_path / "labels", scores=True).label_all()
    assert (summary.files, summary.rows, summary.errors) == (1, 152, 2)
    labels = read_lines(tmp_path / "labels" / "a.jsonl")
    assert [label["row"] for label in labels] == [*range(1, 73), *range(74, 154)]
    assert [label["id"] for label in labels if "route" in label] == [*range(150)]
    alone = encoder.route_many(TEXTS, scores=True)
    for label, decision in zip((each for each in labels if "route" in each), alone, strict=True):
        expected = as_decided(decision)
        assert {name: label.get(name) for name in expected} == {
            **expected,
            "confidence": pytest.approx(decision.confidence, abs=1e-4),
        }
        assert set(label.get("scores", ())) == set(decision.scores or ())
    wrong = [label for label in labels if "error" in label]
    assert wrong[0] == {"row": 71, "error": "line 71:1: not JSON: Expecting value (column 1)"}
    assert wrong[1].keys() == {"row", "id", "error"}
    assert wrong[1]["error"].startswith("row 72: message 0 is a float")


def test_parquet_gives_parquet(tmp_path: Path, encoder: Router) -> None:
    ids = pa.array([*range(1000, 1149), None], pa.uint16())
    messages = [None if number == 7 else text for number, text in enumerate(TEXTS)]
    (tmp_path / "logs").mkdir()
    pq.write_table(pa.table({"text": messages, "n": ids}), tmp_path / "logs" / "a.parquet")
    fields = Fields("text", "n")
    summary = make_run(encoder, tmp_path / "logs", tmp_path / "labels", fields=fields, scores=True).label_all()
    assert (summary.rows, summary.errors) == (150, 1)
    table = pq.read_table(tmp_path / "labels" / "a.parquet")
    assert table["row"].to_pylist() == [*range(1, 151)]
    assert table["id"].equals(pa.chunked_array([ids]))
    alone = [*encoder.route_many(TEXTS)]
    rows = table.to_pylist()
    assert [row["route"] for row in rows] == [None if number == 7 else each.route for number, each in enumerate(alone)]
    assert rows[7]["error"] == "row 8: no 'text'"
    assert sum(dict(rows[0]["scores"]).values()) == pytest.approx(1)


def test_a_run_goes_on_where_it_was(tmp_path: Path, encoder: Router) -> None:
    for number in range(3):
        write_lines(tmp_path / "logs" / f"{number}.jsonl", [line(f"text {number}")])
    first = make_run(encoder, tmp_path / "logs", tmp_path / "labels")
    first.label_all()
    (tmp_path / "labels" / "1.jsonl").unlink()
    kept = {name: (tmp_path / "labels" / name).stat().st_mtime_ns for name in ("0.jsonl", "2.jsonl")}
    seen: list[tuple[int, int]] = []
    summary = make_run(encoder, tmp_path / "logs", tmp_path / "labels", on_progress=lambda *done: seen.append(done)).label_all()
    assert (summary.files, summary.files_before, summary.rows) == (1, 2, 1)
    assert {name: (tmp_path / "labels" / name).stat().st_mtime_ns for name in kept} == kept
    assert names(tmp_path / "labels") == {"0.jsonl", "1.jsonl", "2.jsonl", "_label.json"}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] == sum(path.stat().st_size for path in (tmp_path / "logs").iterdir())


class Failing:
    """A router whose model fails on a text."""

    batch_size = 2

    def __init__(self, router: Router) -> None:
        self._router = router

    def route_many(self, conversations: Sequence[Messages], **settings: Any) -> list[Decision]:
        if any("poison" in turn.content for each in conversations for turn in each):  # type: ignore[union-attr]
            raise EngineError("out of memory")
        return self._router.route_many(conversations, **settings)


def test_a_model_that_fails_is_no_label(tmp_path: Path, encoder: Router) -> None:
    """Else a server that is away for an hour would cost an hour's labels."""
    write_lines(tmp_path / "logs" / "a.jsonl", [line("good")])
    write_lines(tmp_path / "logs" / "b.jsonl", [*[line("good")] * 5, line("poison")])
    failing: Any = Failing(encoder)
    with pytest.raises(EngineError, match="out of memory"):
        make_run(failing, tmp_path / "logs", tmp_path / "labels").label_all()
    assert names(tmp_path / "labels") == {"a.jsonl", "_label.json"}
    assert make_run(encoder, tmp_path / "logs", tmp_path / "labels").label_all().rows == 6


def test_a_file_that_cannot_be_read_leaves_the_others_to_be_labelled(tmp_path: Path, encoder: Router) -> None:
    write_lines(tmp_path / "logs" / "a.parquet", ["no Parquet"])
    write_lines(tmp_path / "logs" / "b.jsonl", [line("good")])
    summary = make_run(encoder, tmp_path / "logs", tmp_path / "labels").label_all()
    assert (summary.files, summary.rows) == (1, 1)
    (problem,) = summary.unreadable
    assert problem.startswith(f"{tmp_path}/logs/a.parquet: cannot be read as Parquet")
    assert names(tmp_path / "labels") == {"b.jsonl", "_label.json"}


def test_what_others_label_is_waited_for(tmp_path: Path, encoder: Router) -> None:
    for name in ("a", "b", "c"):
        write_lines(tmp_path / "logs" / f"{name}.jsonl", [line(name)])
    output = tmp_path / "labels"
    other = make_run(encoder, tmp_path / "logs", output)
    claims = Claims()
    first, second = claims.take(output / "a.jsonl"), claims.take(output / "c.jsonl")
    assert first is not None and second is not None
    waits: list[int] = []

    def finish(n_files: int) -> None:
        waits.append(n_files)
        # One is finished, the other is given up.
        (output / "a.jsonl").write_text("labels of another\n")
        first.give_back()
        second.give_back()

    run = make_run(encoder, tmp_path / "logs", output, on_wait=finish)
    summary = run.label_all()
    assert waits == [2]
    assert (summary.files, summary.files_by_others, summary.rows) == (2, 1, 2)
    assert (output / "a.jsonl").read_text() == "labels of another\n"
    assert names(output) == {"a.jsonl", "b.jsonl", "c.jsonl", "_label.json"}
    assert other.label_all().files_before == 3


def test_a_process_that_was_held_up_leaves_the_file_to_the_other(tmp_path: Path, encoder: Router) -> None:
    write_lines(tmp_path / "logs" / "a.jsonl", [line("good")] * 200)
    output = tmp_path / "labels"

    def take_over(done: int, total: int) -> None:
        if 0 < done < total and not claim_path(output / "a.jsonl", 2).exists():
            claim_path(output / "a.jsonl", 2).write_text("")
            (output / "a.jsonl").write_text("labels of another\n")

    summary = make_run(encoder, tmp_path / "logs", output, takeover_s=0.5, on_progress=take_over).label_all()
    assert (summary.files, summary.files_by_others, summary.rows) == (0, 1, 0)
    assert (output / "a.jsonl").read_text() == "labels of another\n"


def test_a_folder_is_of_one_run(tmp_path: Path) -> None:
    write_lines(tmp_path / "logs" / "a.jsonl", [line("x")])
    inputs = find_inputs([str(tmp_path / "logs")], tmp_path / "labels")
    run = {"model": "mini 1", "routes": "2", "scores": False}
    faster, slower = (
        LabelFolder(tmp_path / "labels", {**run, "scores": scores}, inputs, scores=scores) for scores in (False, True)
    )
    assert names(tmp_path / "labels") == set(), "else a run whose model cannot be loaded bars the next"
    faster.describe()
    with pytest.raises(LabelError, match="differs in scores"):
        slower.describe()
    LabelFolder(tmp_path / "labels", dict(run), inputs, scores=False).describe()
    with pytest.raises(LabelError, match=r"labels: has labels of another run, which differs in model, scores; choose another"):
        LabelFolder(tmp_path / "labels", {**run, "model": "mini 2", "scores": True}, inputs, scores=True)
    (tmp_path / "labels" / "_label.json").unlink()
    write_lines(tmp_path / "labels" / "a.jsonl", ["{}"])
    with pytest.raises(LabelError, match=r"a.jsonl: is there already, and is no label of this run"):
        LabelFolder(tmp_path / "labels", run, inputs, scores=False)
    with pytest.raises(LabelError, match=r"a.jsonl: cannot be used as the folder of labels"):
        LabelFolder(tmp_path / "logs" / "a.jsonl", run, inputs, scores=False)


def test_a_full_disk_leaves_no_half_of_what_a_folder_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep the same command out when there is room again."""
    folder = LabelFolder(tmp_path / "labels", {"model": "mini"}, [], scores=False)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LabelError, match="No space left"):
            folder.describe()
    assert names(tmp_path / "labels") == set()
    folder.describe()
    assert names(tmp_path / "labels") == {"_label.json"}


def test_what_a_folder_is_of_stands_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of power, or a kill at that moment, left an empty file, which kept every later run out."""
    folder = LabelFolder(tmp_path / "labels", {"model": "mini"}, [], scores=False)
    written: list[tuple[bytes, bool]] = []

    def note(handle: int) -> None:
        written.append((os.pread(handle, 100, 0), (tmp_path / "labels" / "_label.json").exists()))

    monkeypatch.setattr(os, "fsync", note)
    die_with(tmp_path / "labels" / "_label.json")
    folder.describe()
    assert written == [(b'{\n  "model": "mini"\n}\n', False)]
    assert names(tmp_path / "labels") == {"_label.json"}


def test_one_of_many_runs_has_the_folder(tmp_path: Path) -> None:
    folders = [LabelFolder(tmp_path / "labels", {"model": number}, [], scores=False) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        ends = [each.exception() for each in [pool.submit(each.describe) for each in folders]]
    assert ends.count(None) == 1
    assert {str(each).partition("has labels of ")[2] for each in ends if each} == {
        "another run, which differs in model; choose another folder with -o"
    }


def test_weights_give_a_row_the_same_model_again(tmp_path: Path, encoder: Router) -> None:
    """In every process, and each time."""
    routes = "\n".join(f"  - {{name: {name}, description: {name} things, models: [split]}}" for name in ("left", "right"))
    aliases = "model_aliases:\n  split:\n    targets: [{model: a/b, weight: 1}, {model: c/d, weight: 1}]\n"
    config: RoutingConfig = parse_config(f"default_model: split\nrouting_preferences:\n{routes}\n{aliases}")
    write_lines(tmp_path / "logs" / "a.jsonl", [line("x")] * 40)
    with encoder.with_config(config) as router:
        for folder in ("one", "two"):
            make_run(router, tmp_path / "logs", tmp_path / folder).label_all()
    one, two = (read_lines(tmp_path / folder / "a.jsonl") for folder in ("one", "two"))
    assert [label["model"] for label in one] == [label["model"] for label in two]
    assert {label["model"] for label in one} == {"a/b", "c/d"}
    assert json.dumps(one) == json.dumps(two)
