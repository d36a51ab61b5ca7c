"""Reading the public data sets, on small files of their shape."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from training.tiny.public_data import load_public, words_of


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clinc: list[dict[str, str | None]]
    clinc = [{"text": f"set a timer {n}", "intent": "timer", "domain": "utility"} for n in range(30)]
    clinc += [{"text": f"wake me {n}", "intent": "alarm", "domain": "utility"} for n in range(30)]
    clinc += [{"text": "how tall is the moon", "intent": None, "domain": None}]
    write(tmp_path / "clinc150_train_val.jsonl.gz", clinc)
    write(tmp_path / "banking77_train.jsonl.gz", [{"text": "pin is blocked", "intent": "pin_blocked"}])
    said = ["find me a bus", "From where?", "Oslo", "Booked. More?", "buy it", "Done", "thanks, bye", "Bye"]
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    intents = ["FindBus", "FindBus", "BuyBusTicket", "BuyBusTicket"]
    labels = [{"turn": 2 * n, "service": "Buses_1", "intent": intent} for n, intent in enumerate(intents)]
    write(tmp_path / "sgd_train.jsonl.gz", [{"messages": messages, "labels": labels}])
    schema = [{"service": "Buses_1", "intent": i, "description": f"{i} of the schema"} for i in ("FindBus", "BuyBusTicket")]
    (tmp_path / "sgd_train_schema.json").write_text(json.dumps({"intents": schema}), encoding="utf-8")
    return tmp_path


def test_intents_become_kinds_with_near_ones_of_their_domain(folder: Path) -> None:
    kinds = load_public(folder).kinds
    assert kinds["clinc150/timer"].near == {"clinc150/alarm"}
    assert "timer" in kinds["clinc150/timer"].names
    assert len(kinds["clinc150/timer"].train) + len(kinds["clinc150/timer"].held) == 30
    assert "FindBus of the schema" in kinds["sgd/Buses.FindBus"].descriptions


def test_messages_out_of_scope_belong_to_no_kind(folder: Path) -> None:
    data = load_public(folder)
    assert [*data.out_of_scope, *data.held_out_of_scope] == ["how tall is the moon"]


def test_dialogue_turns_know_where_their_intent_began_and_farewells_have_none(folder: Path) -> None:
    kinds = load_public(folder).kinds
    turns = {key: [(begun, turn) for _, begun, turn in kind.dialogues + kind.held_dialogues] for key, kind in kinds.items()}
    assert turns["sgd/Buses.FindBus"] == [(0, 0), (0, 2)]
    assert turns["sgd/Buses.BuyBusTicket"] == [(4, 4)]


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "banking77_train.jsonl.gz").unlink()
    with pytest.raises(FileNotFoundError, match="banking77_train"):
        load_public(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [("FindBus", "find bus"), ("reverted_card_payment?", "reverted card payment"), ("pin-blocked now", "pin blocked now")],
)
def test_words_of(name: str, words: str) -> None:
    assert words_of(name) == words
