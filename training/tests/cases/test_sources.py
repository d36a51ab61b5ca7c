"""The sources of the shipped cases, and what they become."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from archroute_edge.errors import ArchRouteError, CaseError
from training.cases.cli import SHIPPED, commands, main
from training.cases.sources import build

SOURCE = """\
domain: shop
routes:
  returns: Returns of goods
  delivery: Dates of deliveries
cases:
  - delivery: where is it?
    tags: typos
  - other: {long}
  - - delivery: where is my parcel?
    - It comes tomorrow.
    - delivery: yes
      tags: short-reply non-english
    - Fine.
    - returns: and how do I send it back?
    - With the label.
    - other: thanks
      tags: finished
"""


def source(folder: Path, text: str, name: str = "shop.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_shipped_file_is_what_its_sources_give() -> None:
    """An edit of one and not of the other would be lost."""
    assert SHIPPED.read_text(encoding="utf-8") == build(), "run: python -m training.cases build"


def test_what_a_source_becomes(tmp_path: Path) -> None:
    text = SOURCE.replace("{long}", "word " * 150)
    cases = [json.loads(line) for line in build(source(tmp_path, text)).splitlines()]
    assert cases[0] == {
        "messages": [{"role": "user", "content": "where is it?"}],
        "route": "delivery",
        "tags": ["shop", "single-turn", "typos"],
        "routes": [
            {"name": "returns", "description": "Returns of goods"},
            {"name": "delivery", "description": "Dates of deliveries"},
        ],
    }
    assert cases[1]["tags"] == ["shop", "single-turn", "other", "long"]
    turns = cases[2:]
    assert [(case["turn"], case["span"], case["route"]) for case in turns] == [
        (1, 1, "delivery"),
        (2, 1, "delivery"),
        (3, 2, "returns"),
        (4, 3, "other"),
    ]
    assert [case["tags"][2:] for case in turns] == [[], ["short-reply", "non-english"], ["topic-shift"], ["finished", "other"]]
    assert {case["conversation_id"] for case in turns} == {"shop-1"}
    assert [len(case["messages"]) for case in turns] == [1, 3, 5, 7]
    # YAML reads an unquoted yes as true.
    assert turns[1]["messages"][-1]["content"] == "yes"


def test_the_order_of_the_files_decides(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml"):
        source(tmp_path, SOURCE.replace("domain: shop", f"domain: {name[0]}").replace("{long}", "hi"), name)
    assert [json.loads(line)["tags"][0] for line in build(tmp_path).splitlines()] == ["a"] * 6 + ["b"] * 6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("domain: shop\n", "", "shop.yaml:1: a source has domain, routes and cases"),
        ("  - delivery: where is it?", "  - deliveries: where is it?", "shop.yaml:6: a user turn is one text under a route"),
        ("  - delivery: where is it?", "  - delivery: ''", "shop.yaml:6: expected a text"),
        ("  - delivery: where is it?\n    tags: typos", "  - where is it?", "shop.yaml:6: expected a mapping, not text"),
        ("tags: typos", "tags: typo", "shop.yaml:6: no tag 'typo'"),
        ("tags: typos", "returns: both", "shop.yaml:6: a user turn is one text under a route"),
        ("    - It comes tomorrow.\n", "", "shop.yaml:10: two turns of the user in a row"),
        ("    - Fine.\n", "    - Fine.\n    - Really.\n", "shop.yaml:14: two turns of the assistant in a row"),
        ("    - other: thanks\n      tags: finished\n", "", "shop.yaml:9: a conversation has two user turns or more"),
        ("tags: finished", "tags: short-reply", "shop.yaml:16: a short-reply stays on the route"),
        ("    - other: thanks", "    - returns: thanks", "shop.yaml:16: a finished request is other"),
        ("cases:\n", "cases: []\nmore:\n", "shop.yaml:1: a source has domain, routes and cases"),
        ("  delivery: Dates", "  returns: Dates", "shop.yaml:4: the key 'returns' appears twice"),
    ],
)
def test_a_mistake_in_a_source_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = SOURCE.replace("{long}", "hi")
    assert old in text
    with pytest.raises(ArchRouteError) as caught:
        build(source(tmp_path, text.replace(old, new)))
    assert message in str(caught.value)


def test_a_folder_without_sources(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="holds no sources"):
        build(tmp_path)


def test_the_build_command(tmp_path: Path) -> None:
    output = tmp_path / "cases.jsonl"
    done = CliRunner().invoke(commands, ["build", "-o", str(output)])
    assert done.exit_code == 0
    assert output.read_bytes() == SHIPPED.read_bytes()


def test_an_error_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cases", "build", "-o", str(tmp_path / "none" / "cases.jsonl")])
    monkeypatch.setattr("signal.signal", lambda *args: None)
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert (caught.value.code, said.out) == (2, "")
    assert said.err.startswith("error: ")
    assert "cannot be written" in said.err
    assert said.err.count("\n") == 1
