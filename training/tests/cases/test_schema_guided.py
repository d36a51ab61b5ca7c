"""Schema-Guided Dialogue as conversations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archroute_edge.evaluation import Case, read_cases
from training.cases.cli import commands
from training.cases.errors import DataSetError
from training.cases.schema_guided import conversation_cases, read_schema_guided
from training.tests.cases.conftest import DIALOGUES, SCHEMA


def load(folder: Path, output: Path, *options: str) -> dict[str | None, list[Case]]:
    done = CliRunner().invoke(commands, ["load", "sgd", "--from", str(folder), "-o", str(output), "--count", "2", *options])
    assert done.exit_code == 0, done.output
    found: dict[str | None, list[Case]] = {}
    for case in read_cases(output):
        found.setdefault(case.conversation_id, []).append(case)
    return found


def test_every_user_turn_is_a_case(schema_guided: Path, tmp_path: Path) -> None:
    cases = load(schema_guided, tmp_path / "s.jsonl", "--routes", "6")["test/1_00000"]
    assert [(case.turn, case.span, case.route) for case in cases] == [
        (1, "1", "find_bus"),
        (2, "2", "buy_bus_ticket"),
        (3, "3", "search_hotel"),
        (4, "3", "search_hotel"),
        (5, "4", "other"),
        (6, "4", "other"),
    ]
    assert [len(case.messages) for case in cases] == [1, 3, 5, 7, 9, 11]
    assert cases[1].messages[1] == {"role": "assistant", "content": "One leaves at nine. Shall I buy it?"}
    assert [case.tags[4:] for case in cases] == [(), ("topic-shift",), ("topic-shift",), (), ("other",), ("finished", "other")]


def test_a_table_has_the_intents_of_the_services_and_others_that_cannot_be_meant(schema_guided: Path, tmp_path: Path) -> None:
    found = load(schema_guided, tmp_path / "s.jsonl", "--routes", "6")
    table = found["test/1_00000"][0].table
    assert {"find_bus", "buy_bus_ticket", "search_hotel", "reserve_hotel"} < set(table.names)
    assert len(table) == 6
    assert table["find_bus"].description == "Find a bus between two cities"
    # The other dialogue has two intents of one name, and a domain that is like another of its own.
    cases = found["test/1_00001"]
    assert [case.route for case in cases] == ["movies_1_find_movies", "media_1_find_movies"]
    assert cases[0].table["media_1_find_movies"].description == "Find films to stream"


def test_fewer_routes_than_the_services_have_keeps_them_all(schema_guided: Path, tmp_path: Path) -> None:
    found = load(schema_guided, tmp_path / "s.jsonl", "--routes", "1")
    assert len(found["test/1_00000"][0].table) == 4


def test_the_seed_decides(schema_guided: Path) -> None:
    data = read_schema_guided(schema_guided, "test")
    drawn = [list(conversation_cases(data, "test", count=2, routes=6, seed=seed)) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_more_conversations_than_there_are(schema_guided: Path) -> None:
    data = read_schema_guided(schema_guided, "test")
    with pytest.raises(DataSetError, match="3 conversations are more than the 2"):
        next(conversation_cases(data, "test", count=3, routes=6, seed=0))


def altered(change: Callable[[Any], object]) -> str:
    dialogue = json.loads(json.dumps(DIALOGUES[0]))
    change(dialogue)
    return json.dumps([dialogue])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("schema.json", None, "has no test/schema.json"),
        ("schema.json", '[{"service_name": "Buses_1"}]', "schema.json: expected services"),
        ("dialogues_001.json", "{}", "dialogues_001.json: expected a list of dialogues"),
        ("dialogues_001.json", altered(lambda each: each.pop("turns")), "dialogue 0 is not laid out as published"),
        ("dialogues_001.json", altered(lambda each: each["turns"][0]["frames"][0].pop("state")), "(KeyError: 'state')"),
        ("dialogues_001.json", altered(lambda each: each["turns"].pop(1)), "not those of a user and a system in turn"),
        ("dialogues_001.json", altered(lambda each: each["services"].append("Taxi_1")), "has no service 'Taxi_1'"),
        ("dialogues_001.json", altered(lambda each: each["services"].remove("Hotels_1")), "'SearchHotel' is no intent of its"),
    ],
)
def test_another_layout(schema_guided: Path, name: str, content: str | None, message: str) -> None:
    path = schema_guided / "test" / name
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(DataSetError) as caught:
        read_schema_guided(schema_guided, "test")
    assert message in str(caught.value)


def test_a_folder_without_dialogues(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    with pytest.raises(DataSetError, match=r"has no dialogues_\*\.json"):
        read_schema_guided(tmp_path, "test")
