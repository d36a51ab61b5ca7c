"""The public data sets as kinds of request: CLINC150, BANKING77 and Schema-Guided Dialogue.

Expected in one folder: `clinc150_train_val.jsonl.gz` (lines of `text`, `intent`, `domain`), `banking77_train.jsonl.gz`
(lines of `text`, `intent`), `sgd_train.jsonl.gz` (lines of `messages` and `labels`: index of a user message, service,
intent) and `sgd_train_schema.json` (`intents`: service, intent, description).
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.tiny.kinds_bank import Kind, held_back, split_phrasings
from training.yaml_files import read_yaml

_WORDS = Path(__file__).parent / "public_kinds.yaml"
# Dialogues end in such a turn; it still bears the intent of the request that was just fulfilled.
_FAREWELL = re.compile(r"(?i)thank|that('s| is| will be) (all|it)|nothing else|no more|bye|i'm good|^no\b")
_DOMAINS = {"Services_1": "Salon", "Services_2": "Dentist", "Services_3": "Doctor"}


@dataclass
class PublicData:
    """Kinds by source, and CLINC150's messages that belong to none of its intents."""

    kinds: dict[str, Kind]
    out_of_scope: list[str]
    held_out_of_scope: list[str]


def words_of(name: str) -> str:
    """The words of an identifier in lower case: `Refund_not_showing_up?`, `FindBus` or `pin-blocked`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[_\-?\s]+", " ", spaced).strip().lower()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _kind(source: str, intent: str, words: dict[str, list[str]], texts: list[str]) -> Kind:
    own_words = words_of(intent.split(".")[-1])
    names, *descriptions = words[intent]
    train, held = split_phrasings(texts)
    templated = [own_words, f"requests about {own_words}", f"anything to do with {own_words}"]
    return Kind(
        id=f"{source}/{intent}",
        source=source,
        names=[own_words, own_words, *(name.strip() for name in names.split(","))],
        descriptions=[*descriptions, *descriptions, *templated],
        train=train,
        held=held,
    )


def load_public(folder: Path) -> PublicData:
    """Read the three data sets of a folder; raises FileNotFoundError for one that is missing."""
    words = read_yaml(_WORDS)
    kinds: dict[str, Kind] = {}
    texts: dict[str, list[str]] = defaultdict(list)
    domains: dict[str, str] = {}
    scopeless: list[str] = []
    for row in _lines(folder / "clinc150_train_val.jsonl.gz"):
        if row["intent"] is None:
            scopeless.append(row["text"])
        else:
            texts[row["intent"]].append(row["text"])
            domains[row["intent"]] = row["domain"]
    for intent, messages in texts.items():
        kind = kinds[f"clinc150/{intent}"] = _kind("clinc150", intent, words["clinc150"], messages)
        kind.domain = domains[intent]
        kind.near = {f"clinc150/{i}" for i, d in domains.items() if d == domains[intent] and i != intent}
    texts = defaultdict(list)
    for row in _lines(folder / "banking77_train.jsonl.gz"):
        texts[row["intent"]].append(row["text"])
    for intent, messages in texts.items():
        kind = kinds[f"banking77/{intent}"] = _kind("banking77", intent, words["banking77"], messages)
        kind.near = {f"banking77/{i}" for i in texts if i != intent}
    kinds |= _schema_guided(folder, words["sgd"])
    train, held = split_phrasings(scopeless)
    return PublicData(kinds, train, held)


def _family(key: str) -> str:
    return key.split(".")[0].replace("Movies", "Media")


def _domain(service: str) -> str:
    return _DOMAINS.get(service, service.split("_")[0])


def _schema_guided(folder: Path, words: dict[str, list[str]]) -> dict[str, Kind]:
    schema = json.loads((folder / "sgd_train_schema.json").read_text(encoding="utf-8"))
    kinds: dict[str, Kind] = {}
    for entry in schema["intents"]:
        key = f"{_domain(entry['service'])}.{entry['intent']}"
        if f"sgd/{key}" not in kinds:
            kinds[f"sgd/{key}"] = _kind("sgd", key, words, [])
            kinds[f"sgd/{key}"].domain = _domain(entry["service"])
        kinds[f"sgd/{key}"].descriptions.append(entry["description"])
    for kind in kinds.values():
        kind.near = {other for other in kinds if _family(other) == _family(kind.id) and other != kind.id}
    for dialogue in _lines(folder / "sgd_train.jsonl.gz"):
        _add_dialogue(kinds, dialogue)
    return kinds


def _add_dialogue(kinds: dict[str, Kind], dialogue: dict[str, Any]) -> None:
    messages = dialogue["messages"]
    held = held_back(messages[0]["content"])
    current, begun = None, 0
    for label in dialogue["labels"]:
        if (label["service"], label["intent"]) != current:
            current, begun = (label["service"], label["intent"]), label["turn"]
        if label["service"] is None or label["intent"] in (None, "NONE") or label["turn"] - begun > 6:
            continue
        if label["turn"] == len(messages) - 2 and _FAREWELL.search(messages[label["turn"]]["content"]):
            continue
        key = f"sgd/{_domain(label['service'])}.{label['intent']}"
        pool = kinds[key].held_dialogues if held else kinds[key].dialogues
        pool.append((messages, begun, label["turn"]))
