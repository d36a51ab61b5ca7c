"""Schema-Guided Dialogue as published, and its conversations as cases: every user turn is one.

The right route is the intent that the data set calls active; of two, the one that the turn brings in. NONE is ``other``, and so
is a turn that the system answers only with a goodbye: the request is then fulfilled, though often still marked active.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from archroute_edge.routes import OTHER
from training.cases.drawing import words_of
from training.cases.errors import DataSetError
from training.cases.published_intents import find, read_json

_NONE: Final = "NONE"
# Domains whose intents would both be right for one message are not put into one table.
_ALIKE: Final = {"Movies": "Media", "Payment": "Banks"}

Intent = tuple[str, str]
"""Service and name of an intent."""


@dataclass(frozen=True)
class Turn:
    """One turn: who speaks, the intents that are active after it (the user's), whether it only says goodbye (the system's)."""

    role: str
    text: str
    active: tuple[Intent, ...]
    is_goodbye: bool


@dataclass(frozen=True)
class Dialogue:
    """A conversation: its id, its services, and its turns, the user's first."""

    name: str
    services: tuple[str, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class SchemaGuided:
    """One split: descriptions by service and intent, and the dialogues in the order of their files."""

    intents: Mapping[Intent, str]
    dialogues: Sequence[Dialogue]


def read_schema_guided(folder: Path, split: str) -> SchemaGuided:
    """Read ``SPLIT/schema.json`` and ``SPLIT/dialogues_*.json``.

    Raises:
        DataSetError: a file is missing or of another layout; the message says where.
    """
    path = find(folder, f"{split}/schema.json")
    try:
        intents = {
            (str(service["service_name"]), str(intent["name"])): str(intent["description"])
            for service in read_json(path)
            for intent in service["intents"]
        }
    except (TypeError, KeyError) as exc:
        raise DataSetError(f"{path}: expected services with service_name and intents (name, description)") from exc
    files = sorted(path.parent.glob("dialogues_*.json"))
    if not files:
        raise DataSetError(f"{path.parent}: has no dialogues_*.json; give the folder of the data set as it is published")
    return SchemaGuided(intents, [dialogue for each in files for dialogue in _read_dialogues(each, intents)])


def _read_dialogues(path: Path, intents: Mapping[Intent, str]) -> Iterator[Dialogue]:
    content = read_json(path)
    if not isinstance(content, list):
        raise DataSetError(f"{path}: expected a list of dialogues")
    known = {service for service, _ in intents}
    for index, each in enumerate(content):
        place = f"{path}: dialogue {index}"
        try:
            turns = tuple(_read_turn(turn) for turn in each["turns"])
            dialogue = Dialogue(str(each["dialogue_id"]), tuple(each["services"]), turns)
        except (TypeError, KeyError, AttributeError) as exc:
            raise DataSetError(f"{place} is not laid out as published ({type(exc).__name__}: {exc})") from exc
        if not turns or any(turn.role != ("assistant" if number % 2 else "user") for number, turn in enumerate(turns)):
            raise DataSetError(f"{place}: its turns are not those of a user and a system in turn")
        for service in dialogue.services:
            if service not in known:
                raise DataSetError(f"{place}: schema.json has no service {service!r}")
        for intent in (intent for turn in turns for intent in turn.active):
            if intent not in intents or intent[0] not in dialogue.services:
                raise DataSetError(f"{place}: {intent[1]!r} is no intent of its services")
        yield dialogue


def _read_turn(turn: Mapping[str, Any]) -> Turn:
    frames = turn["frames"]
    if turn["speaker"] == "USER":
        states = [(str(frame["service"]), str(frame["state"]["active_intent"])) for frame in frames]
        return Turn("user", str(turn["utterance"]), tuple(intent for intent in states if intent[1] != _NONE), False)
    acts = {action["act"] for frame in frames for action in frame.get("actions", [])}
    return Turn("assistant", str(turn["utterance"]), (), acts == {"GOODBYE"})


def conversation_cases(data: SchemaGuided, split: str, *, count: int, routes: int, seed: int) -> Iterator[dict[str, Any]]:
    """Lines of a file of cases: ``count`` dialogues drawn by seed, every user turn of each.

    A table has all intents of the dialogue's services, filled up to ``routes`` with intents of other domains. Dialogues
    of the same services have the same table.

    Raises:
        DataSetError: the split has fewer dialogues.
    """
    if count > len(data.dialogues):
        raise DataSetError(f"{count} conversations are more than the {len(data.dialogues)} that the split has")
    tables: dict[tuple[str, ...], dict[Intent, str]] = {}
    for dialogue in random.Random(seed).sample(list(data.dialogues), count):
        services = tuple(sorted(set(dialogue.services)))
        if services not in tables:
            tables[services] = _table(data.intents, services, routes, random.Random(f"{seed}/{services}"))
        yield from _turns(dialogue, tables[services], data.intents, split)


def _turns(
    dialogue: Dialogue, names: Mapping[Intent, str], descriptions: Mapping[Intent, str], split: str
) -> Iterator[dict[str, Any]]:
    routes = [{"name": name, "description": descriptions[intent]} for intent, name in names.items()]
    domains = list(dict.fromkeys(_domain(service) for service in dialogue.services))
    messages: list[dict[str, str]] = []
    turn = span = 0
    before: Intent | None = None
    for index, each in enumerate(dialogue.turns):
        messages.append({"role": each.role, "content": each.text})
        if each.role != "user":
            continue
        is_farewell = turn > 0 and any(answer.is_goodbye for answer in dialogue.turns[index + 1 : index + 2])
        active = () if is_farewell else each.active
        label = next((intent for intent in reversed(active) if intent != before), active[-1] if active else None)
        turn, span = turn + 1, span + (label != before or not span)
        tags = ["sgd", *domains, "multi-turn"]
        if label is None:
            tags += [*(["finished"] if is_farewell else []), OTHER]
        elif label != before and turn > 1:
            tags.append("topic-shift")
        before = label
        yield {
            "messages": list(messages), "route": names[label] if label else OTHER, "tags": tags, "routes": routes,
            "conversation_id": f"{split}/{dialogue.name}", "turn": turn, "span": span,
        }  # fmt: skip


def _table(intents: Mapping[Intent, str], services: Sequence[str], n_routes: int, rng: random.Random) -> dict[Intent, str]:
    """Intents with the names of their routes, in a drawn order."""
    table = [intent for intent in intents if intent[0] in services]
    own_names = [name for _, name in table]
    taken = set(own_names)
    domains = {_family(service) for service in services}
    others = [intent for intent in intents if _family(intent[0]) not in domains]
    for intent in rng.sample(others, len(others)):
        # An intent of the same name would be just as right.
        if len(table) < n_routes and intent[1] not in taken:
            table.append(intent)
            taken.add(intent[1])
    repeated = {name for name in own_names if own_names.count(name) > 1}
    return {
        (service, name): "_".join(words_of(f"{service} {name}" if name in repeated else name))
        for service, name in rng.sample(table, len(table))
    }


def _domain(service: str) -> str:
    return service.rsplit("_", 1)[0]


def _family(service: str) -> str:
    return _ALIKE.get(_domain(service), _domain(service))
