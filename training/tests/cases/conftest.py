"""The public data sets in small: files of exactly the layouts that are published, with texts of our own."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

DOMAINS = {"banking": ["balance", "transfer", "pin_change"], "travel": ["book_flight", "vaccines"], "meta": ["yes"]}


def user(text: str, *active: tuple[str, str]) -> dict[str, Any]:
    frames = [
        {"service": service, "slots": [], "state": {"active_intent": intent, "requested_slots": [], "slot_values": {}}}
        for service, intent in active
    ]
    return {"frames": frames, "speaker": "USER", "utterance": text}


def system(text: str, service: str, *acts: str) -> dict[str, Any]:
    actions = [{"act": act, "slot": "", "values": []} for act in acts]
    return {"frames": [{"actions": actions, "service": service, "slots": []}], "speaker": "SYSTEM", "utterance": text}


def service(name: str, **intents: str) -> dict[str, Any]:
    listed = [
        {"name": intent, "description": text, "is_transactional": False, "required_slots": [], "optional_slots": {}}
        for intent, text in intents.items()
    ]
    return {"service_name": name, "description": f"{name} in all", "slots": [], "intents": listed}


SCHEMA = [
    service("Buses_1", FindBus="Find a bus between two cities", BuyBusTicket="Buy a bus ticket"),
    service("Buses_2", FindBus="Search for buses"),
    service("Hotels_1", SearchHotel="Find a place to sleep", ReserveHotel="Reserve a room"),
    service("Movies_1", FindMovies="Find films at the cinema"),
    service("Media_1", FindMovies="Find films to stream", PlayMovie="Play a film"),
    service("Weather_1", GetWeather="Get the weather of a city"),
]
DIALOGUES = [
    {
        "dialogue_id": "1_00000",
        "services": ["Buses_1", "Hotels_1"],
        "turns": [
            user("a bus to Bergen please", ("Buses_1", "FindBus")),
            system("One leaves at nine. Shall I buy it?", "Buses_1", "OFFER", "OFFER_INTENT"),
            user("yes", ("Buses_1", "BuyBusTicket")),
            system("Done.", "Buses_1", "NOTIFY_SUCCESS"),
            user("and somewhere to sleep", ("Hotels_1", "SearchHotel"), ("Buses_1", "BuyBusTicket")),
            system("The Fjord Inn has rooms.", "Hotels_1", "OFFER"),
            user("is it quiet?", ("Hotels_1", "SearchHotel")),
            system("Very. Anything else?", "Hotels_1", "INFORM", "REQ_MORE"),
            user("hm", ("Hotels_1", "NONE")),
            system("Yes?", "Hotels_1", "REQ_MORE"),
            user("thanks, bye", ("Hotels_1", "SearchHotel")),
            system("Goodbye.", "Hotels_1", "GOODBYE"),
        ],
    },
    {
        "dialogue_id": "1_00001",
        "services": ["Movies_1", "Media_1"],
        "turns": [
            user("which films are on tonight", ("Movies_1", "FindMovies")),
            system("Alien and Heat.", "Movies_1", "OFFER"),
            user("and something to watch at home", ("Media_1", "FindMovies")),
        ],
    },
]


@pytest.fixture
def clinc150(tmp_path: Path) -> Path:
    """CLINC150's repository: 8 messages an intent in every split, 6 out of scope."""
    folder = tmp_path / "oos-eval"
    (folder / "data").mkdir(parents=True)
    content = {}
    for split in ("train", "val", "test"):
        intents = [intent for each in DOMAINS.values() for intent in each]
        content[split] = [[f"{split} message {n} on {intent}", intent] for intent in intents for n in range(8)]
        content[f"oos_{split}"] = [[f"{split} message {n} on nothing", "oos"] for n in range(6)]
    (folder / "data" / "data_full.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "data" / "domains.json").write_text(json.dumps(DOMAINS), encoding="utf-8")
    return folder


@pytest.fixture
def banking77(tmp_path: Path) -> Path:
    """BANKING77's repository: 10 messages for each of four intents, one of them over two lines."""
    folder = tmp_path / "task-specific-datasets"
    (folder / "banking_data").mkdir(parents=True)
    for split in ("train", "test"):
        with (folder / "banking_data" / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "category"])
            for intent in ("pin_blocked", "card_swallowed", "Refund_not_showing_up", "reverted_card_payment?"):
                rows.writerows([f'it says "{split}",\nnumber {n}: {intent}', intent] for n in range(10))
    return folder


@pytest.fixture
def schema_guided(tmp_path: Path) -> Path:
    """Schema-Guided Dialogue's repository, with its test split."""
    folder = tmp_path / "dstc8-schema-guided-dialogue"
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    for number, dialogue in enumerate(DIALOGUES, start=1):
        (folder / "test" / f"dialogues_{number:03}.json").write_text(json.dumps([dialogue]), encoding="utf-8")
    return folder
