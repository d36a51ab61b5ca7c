"""More public data sets as kinds of request: MetaTool, HWU64, Snips, and SGD-X's wordings of the intents of dialogues.

Expected in the folder `intents` of the data: `metatool.jsonl.gz` (text, tool), `metatool_tools.jsonl.gz` (tool, description),
`hwu64.jsonl.gz` (text, intent, scenario), `snips.jsonl.gz` (text, intent), `sgdx_train.jsonl.gz` (service, intent, name,
description).
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from training.tiny.kinds_bank import Kind, split_phrasings
from training.tiny.public_data import words_of
from training.yaml_files import read_yaml

_WORDS: Final = Path(__file__).parent / "intents.yaml"
# Requests of one kind beyond these would only slow the reading down.
_MOST: Final = 240


def add_public_intents(data: Path, kinds: dict[str, Kind]) -> None:
    """Add their kinds, and SGD-X's wordings to the kinds of `sgd`; raises FileNotFoundError for a set that is missing."""
    folder = data / "intents"
    words = read_yaml(_WORDS)
    _add_metatool(folder, kinds)
    for source, scenarios in (("hwu64", True), ("snips", False)):
        texts: dict[str, list[str]] = defaultdict(list)
        domains: dict[str, str] = {}
        for row in _lines(folder / f"{source}.jsonl.gz"):
            texts[row["intent"]].append(row["text"])
            domains[row["intent"]] = row["scenario"] if scenarios else ""
        for intent, asked in texts.items():
            names, *descriptions = words[source][intent]
            train, held = split_phrasings(asked)
            named = [words_of(intent), *(name.strip() for name in names.split(","))]
            kind = Kind(f"{source}/{intent}", source, named, [*descriptions, f"requests about {named[1]}"], train[:_MOST], held)
            kind.domain = domains[intent]
            kinds[kind.id] = kind
        for intent in texts:
            same = {f"{source}/{i}" for i in texts if i != intent and domains[i] == domains[intent] != ""}
            kinds[f"{source}/{intent}"].near = same
    for row in _lines(folder / "sgdx_train.jsonl.gz"):
        found = _of_dialogues(kinds, row)
        if found is not None:
            found.names.append(words_of(row["name"]))
            found.descriptions += [row["description"], f"{row['description']} ({row['service_description']})"]


def _of_dialogues(kinds: dict[str, Kind], row: dict[str, Any]) -> Kind | None:
    named = [k for k in kinds.values() if k.source == "sgd" and k.id.endswith(f".{row['intent']}")]
    family = row["service"].split("_")[0]
    of_family = [k for k in named if k.domain == family]
    return of_family[0] if of_family else named[0] if len(named) == 1 else None


def _add_metatool(folder: Path, kinds: dict[str, Kind]) -> None:
    about = {row["tool"]: row["description"] for row in _lines(folder / "metatool_tools.jsonl.gz")}
    texts: dict[str, list[str]] = defaultdict(list)
    for row in _lines(folder / "metatool.jsonl.gz"):
        texts[row["tool"]].append(row["text"])
    for tool, found in texts.items():
        train, held = split_phrasings(found)
        kinds[f"metatool/{tool}"] = Kind(f"metatool/{tool}", "metatool", [tool], [about[tool]], train[:_MOST], held)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
