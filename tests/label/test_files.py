"""Which files are labelled, and where their labels go."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.errors import LabelError
from archroute_edge.label import find_inputs
from tests.label.conftest import write_lines


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jsonl", "day1/a.ndjson", "day2/a.jsonl", "day2/c.PARQUET", ".day1.jsonl", "_tmp/x.jsonl", "notes.txt"):
        write_lines(tmp_path / "logs" / name, ["{}"])
    return tmp_path / "logs"


def found(*given: str, folder: str = "labels") -> dict[str, str]:
    return {each.path.as_posix(): each.output.as_posix() for each in find_inputs(given, Path(folder))}


def test_a_folder_stands_for_its_tree(logs: Path) -> None:
    assert found("logs") == {
        "logs/b.jsonl": "labels/b.jsonl",
        "logs/day1/a.ndjson": "labels/day1/a.ndjson",
        "logs/day2/a.jsonl": "labels/day2/a.jsonl",
        "logs/day2/c.PARQUET": "labels/day2/c.PARQUET",
    }


def test_links_to_folders_are_followed(logs: Path) -> None:
    """They were left out without a word. One to a folder above it has no end, and none has the same files labelled twice."""
    write_lines(logs.parent / "disk2" / "day3" / "d.jsonl", ["{}"])
    (logs / "day3").symlink_to("../disk2/day3")
    before = found("logs")
    assert before.pop("logs/day3/d.jsonl") == "labels/day3/d.jsonl"
    (logs / "day1" / "above").symlink_to("../..")
    (logs / "a_link_to_day2").symlink_to("day2")
    (logs / "day2" / "day3").symlink_to("../day3")
    (logs.parent / "disk2" / "day3" / "back").symlink_to("../../logs/day2")
    assert found("logs").keys() == {*before, "logs/day3/d.jsonl"}
    # By the name that was given, whatever links to it.
    assert found("logs/a_link_to_day2").keys() >= {"logs/a_link_to_day2/a.jsonl"}


def test_a_folder_of_labels_behind_links_in_a_circle_is_left_to_who_makes_it(logs: Path) -> None:
    """It was a traceback; that it cannot be made is said in one line."""
    (logs.parent / "labels").symlink_to("loop")
    (logs.parent / "loop").symlink_to("labels")
    assert found("logs/b.jsonl") == {"logs/b.jsonl": "labels/b.jsonl"}


def test_a_folder_that_cannot_be_read_is_an_error(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its files are missing, and the exit status is 0. Simulated, since root may read all folders."""
    scandir = os.scandir

    def scan(path: str) -> Any:
        if str(path).endswith("day2"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(LabelError, match=r"logs/day2: cannot be read \(Permission denied\)"):
        found("logs")


def test_a_pattern_keeps_the_tree_below_its_fixed_part(logs: Path) -> None:
    assert found("logs/day*/a.*") == {
        "logs/day1/a.ndjson": "labels/day1/a.ndjson",
        "logs/day2/a.jsonl": "labels/day2/a.jsonl",
    }
    assert found(f"{logs}/**/*.jsonl").keys() == {f"{logs}/b.jsonl", f"{logs}/day2/a.jsonl", f"{logs}/_tmp/x.jsonl"}


def test_one_file_may_be_named_twice(logs: Path) -> None:
    assert found("logs/b.jsonl", "logs", "logs/*.jsonl") == found("logs")


def test_labels_below_the_inputs_are_no_inputs(logs: Path) -> None:
    before = found("logs", folder="logs/labels")
    write_lines(logs / "labels" / "b.jsonl", ["{}"])
    assert found("logs", folder="logs/labels") == before
    assert found("logs/*/*.jsonl", folder="logs/labels").keys() == {"logs/day2/a.jsonl", "logs/_tmp/x.jsonl"}


@pytest.mark.parametrize(
    ("given", "folder", "said"),
    [
        (["nowhere"], "labels", "nowhere: no such file or folder"),
        (["logs/*.parquet"], "labels", r"logs/\*.parquet: no file matches"),
        (["logs/notes.txt"], "labels", "notes.txt: expected a name that ends in .jsonl, .ndjson or .parquet"),
        (["logs/_tmp/.."], "logs", "choose another"),
        (["logs/b.jsonl"], "logs", "b.jsonl: its labels would replace it; choose another folder than logs with -o"),
        (["logs/day2/a.jsonl", "logs/_tmp/../day2"], "labels/x", None),
        (["logs/b.jsonl", "other/b.jsonl"], "labels", "would both be labelled as labels/b.jsonl"),
        (["empty"], "labels", "empty: no file in it ends in"),
    ],
)
def test_what_cannot_be(logs: Path, given: list[str], folder: str, said: str | None) -> None:
    write_lines(logs.parent / "other" / "b.jsonl", ["{}"])
    (logs.parent / "empty").mkdir()
    if said is None:
        assert len(find_inputs(given, Path(folder))) == 2
        return
    with pytest.raises(LabelError, match=said) as caught:
        find_inputs(given, Path(folder))
    assert "\n" not in str(caught.value)
