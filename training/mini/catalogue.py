"""The subjects that routes can have: single kinds of request, and categories of many kinds, with those kept out of training.

`domains/*.yaml` holds our own kinds by domain (`names`, `descriptions`, `kinds`: id -> names, about, ask; later: messages that
follow); `categories.yaml` holds schemes of categories (names, about, members, ask). A phrasing's `{word}` is filled from
`domains/slots.yaml`, a `{passage}` from `passages.yaml`. `tool_tables.py`, `public_intents.py` and `languages.py` read the
rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from training.mini.languages import Languages, load_languages
from training.mini.public_intents import add_public_intents
from training.mini.tool_tables import OwnTable, load_agents, load_own_tables
from training.tiny.kinds_bank import Kind, load_banks, split_phrasings
from training.tiny.public_data import PublicData, load_public
from training.yaml_files import read_yaml

DIFFICULTY = "difficulty"
"""A scheme of routes for all requests, by how much work one is: only what asks for nothing belongs to none."""
_HERE = Path(__file__).parent
# Kinds that a training leaves out when it is there to steer by: whole domains, services, intents and kinds of LLM request.
_HELD_OUT = [
    "clinc150:work", "clinc150:auto_and_commute", "telecom/*", "city_services/*", "payroll_hr/*", "car_workshop_garage/*",
    "ride_hailing/*", "event_tickets/*", "ferry_line/*", "savings_deposits/*", "photo_gallery_app/*",
    "voice_office_day/*", "voice_on_the_road/*", "people_development/*", "car_owner_help/*",
    "terse work_day_of_an_office_employee/*", "terse payroll_and_pensions_desk/*", "terse hr_desk/*",
    "terse taxes_and_salary_of_an_employee/*", "terse driver_and_car_care/*", "terse car_and_fuel/*",
    "sgd/Homes.*", "sgd/Events.*", "sgd/Buses.*", "sgd/Weather.*", "sgd/Dentist.*",
    "hwu64:music", "hwu64:email", "hwu64:datetime",
    "job_interview_prep", "study_plan", "fitness_workouts", "poetry_lyrics", "presentation_slides", "regex",
    "definition_lookup", "contract_legal_questions", "quiz_flashcard_generation", "product_descriptions",
]  # fmt: skip
# Of every so many, one is left out: intents of the bank, tools, and our own tables.
_HELD_OUT_BANK, _HELD_OUT_TOOLS, _HELD_OUT_TABLES = 3, 6, 5
# Languages of which a training to steer by sees nothing, by their codes in all sources.
_HELD_OUT_LANGUAGES = frozenset({"ja", "jpn", "tr", "tur", "te", "tel", "hu", "fi"})
_GENERAL = "general="
_GENERAL_NAMES = [
    "general {}", "general questions", "general {} questions", "general {} information", "{}, general", "everything else",
    "all other questions", "anything else", "miscellaneous", "general", "general information", "{}",
]  # fmt: skip
_GENERAL_DESCRIPTIONS = [
    "General questions: {about}", "everything that has no route of its own: {about}", "{about}, if no other route fits",
    "all other questions of {name}", "general information and everything else on {name}", "anything else about {name}",
    "{about}", "general information, such as {about}",
]  # fmt: skip
# Half of the messages outside every intent are left out too.
_HELD_OUT_SCOPELESS = 2


@dataclass(frozen=True)
class Subject:
    """The subject of a route: its wordings and the ids of the kinds that belong to it."""

    id: str
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    kinds: frozenset[str]


@dataclass
class Catalogue:
    """Kinds by id, categories by scheme, and messages that belong to none of the everyday categories.

    `closings` end a conversation in which nothing is asked any more; `reopenings` go before one more request.
    `strangers` are requests near to the kinds of a domain that belong to none of them, by domain. `held_out` are ids of kinds
    that the training leaves out.
    """

    kinds: dict[str, Kind]
    schemes: dict[str, list[Subject]]
    scopeless: list[str]
    held_scopeless: list[str]
    closings: list[str]
    held_closings: list[str]
    reopenings: list[str]
    own_tables: list[OwnTable]
    languages: Languages
    strangers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    held_out: frozenset[str] = field(default_factory=frozenset)

    def subject(self, kind: str) -> Subject:
        """A single kind as the subject of a route."""
        known = self.kinds[kind]
        names = dict.fromkeys(known.names)
        return Subject(kind, tuple(names), tuple(dict.fromkeys(known.descriptions)), frozenset({kind}))


def general_subject(domain: Subject, kinds: frozenset[str], rng: random.Random) -> Subject:
    """A route that takes what has no route of its own in a table of `domain`: these kinds of it."""
    name, about = rng.choice(domain.names), rng.choice(domain.descriptions)
    names = (form.format(name) for form in _GENERAL_NAMES)
    descriptions = (form.format(name=name, about=about) for form in _GENERAL_DESCRIPTIONS)
    return Subject(f"{_GENERAL}{domain.id}", tuple(names), tuple(descriptions), kinds)


def is_general(identity: str) -> bool:
    """Whether the subject of that id takes what has no route of its own."""
    return identity.startswith(_GENERAL)


def tells_difficulty(identity: str) -> bool:
    """Whether the kind or subject of that id is one of :data:`DIFFICULTY`'s."""
    return identity.startswith(f"{DIFFICULTY}=")


def matches(kind: Kind, patterns: Iterable[str]) -> bool:
    """Whether a kind is meant: by its id, or by source and domain as `source:domain`."""
    return any(fnmatchcase(kind.id, p) or fnmatchcase(f"{kind.source}:{kind.domain}", p) for p in patterns)


def load_catalogue(data: Path, steer: bool) -> Catalogue:
    """Everything that routes can be about; with `steer` some of it is marked as held out of the training.

    Raises FileNotFoundError for a public data set that is not in the folder `data`.
    """
    return build_catalogue(load_public(data), data, steer)


def build_catalogue(public: PublicData, data: Path, steer: bool) -> Catalogue:
    """The same of public data of which the first three sets are loaded already.

    Raises ValueError for a category whose members name no kind.
    """
    slots = _slots()
    kinds = load_banks() | public.kinds
    add_public_intents(data, kinds)
    own_tables = load_own_tables()
    kinds |= {kind.id: kind for table in own_tables for kind in table.kinds}
    departments: list[Subject] = []
    for path in sorted((_HERE / "domains").glob("*.yaml")):
        if path.stem != "slots":
            departments.append(_read_domain(path, kinds, slots))
    schemes = _read_schemes(kinds, slots)
    schemes["departments"] = departments
    schemes["scenarios"] = _scenarios(kinds)
    languages = load_languages(data, kinds, _HELD_OUT_LANGUAGES if steer else frozenset())
    agents = load_agents()
    kinds |= {kind.id: kind for table in agents for kind in table.kinds}
    own_tables += agents
    own, held_own = split_phrasings(_yaml("out_of_scope.yaml"))
    scopeless, held_scopeless = public.out_of_scope + own, public.held_out_of_scope + held_own
    held_out: frozenset[str] = frozenset()
    if steer:
        held_out = frozenset(k.id for k in kinds.values() if matches(k, _HELD_OUT)) | _every_so_many(kinds, own_tables)
        held_scopeless += scopeless[::_HELD_OUT_SCOPELESS]
        scopeless = [text for text in scopeless if text not in set(held_scopeless)]
    endings = _yaml("endings.yaml")
    closings, held_closings = split_phrasings(endings["closings"])
    return Catalogue(
        kinds,
        schemes,
        scopeless,
        held_scopeless,
        closings=closings,
        held_closings=held_closings,
        reopenings=endings["reopenings"],
        own_tables=own_tables,
        languages=languages,
        strangers={domain: tuple(texts) for domain, texts in _yaml("domain_strangers.yaml").items()},
        held_out=held_out,
    )


def _every_so_many(kinds: Mapping[str, Kind], own_tables: Sequence[OwnTable]) -> frozenset[str]:
    """Intents, tools and whole tables that are left out whatever they are, so that nobody chose easy ones."""
    bank = sorted(name for name, kind in kinds.items() if kind.source == "banking77")[::_HELD_OUT_BANK]
    tools = sorted(name for name, kind in kinds.items() if kind.source == "metatool")[::_HELD_OUT_TOOLS]
    return frozenset([*bank, *tools, *(kind.id for table in own_tables[::_HELD_OUT_TABLES] for kind in table.kinds)])


def _scenarios(kinds: Mapping[str, Kind]) -> list[Subject]:
    found = []
    for name, (names, *descriptions) in _yaml("intents.yaml")["scenarios"].items():
        members = frozenset(kind.id for kind in kinds.values() if kind.source == "hwu64" and kind.domain == name)
        named = (name, *(part.strip() for part in names.split(",")))
        found.append(Subject(f"scenarios={name}", named, tuple(descriptions), members))
    return found


def _yaml(name: str) -> Any:
    return read_yaml(_HERE / name)


def _slots() -> dict[str, list[str]]:
    slots: dict[str, list[str]] = _yaml("domains/slots.yaml")
    passages = _yaml("passages.yaml")
    slots["passage"] = [passage["text"] for passage in passages]
    asked = [(question, passage["text"]) for passage in passages for question in passage["questions"]]
    layouts = ["{} {}", "{}\n\n{}", "Given the text below, answer: {}\n{}", "{} Answer from this text only: {}"]
    slots["passage_question"] = [layouts[n % 4].format(question, text) for n, (question, text) in enumerate(asked)]
    slots["passage_question"] += [f"{text}\n{question}" for question, text in asked]
    return slots


def _read_domain(path: Path, kinds: dict[str, Kind], slots: dict[str, list[str]]) -> Subject:
    content = read_yaml(path)
    members = [f"{path.stem}/{name}" for name in content["kinds"]]
    for name, words in content["kinds"].items():
        train, held = split_phrasings(words["ask"])
        kind = Kind(f"{path.stem}/{name}", path.stem, [name, *words["names"]], words["about"], train, held, slots=slots)
        kind.followups, kind.held_followups = split_phrasings(words.get("later", []))
        kind.domain = path.stem
        kind.near = set(members) - {kind.id}
        kinds[kind.id] = kind
    return Subject(path.stem, tuple(content["names"]), tuple(content["descriptions"]), frozenset(members))


def _read_schemes(kinds: dict[str, Kind], slots: dict[str, list[str]]) -> dict[str, list[Subject]]:
    known = list(kinds.values())
    schemes: dict[str, list[Subject]] = {}
    for scheme, categories in _yaml("categories.yaml").items():
        schemes[scheme] = []
        for name, words in categories.items():
            members = {kind.id for kind in known if matches(kind, words["members"])}
            if not members:
                raise ValueError(f"categories.yaml: {scheme}: {name}: no kind among its members; check their ids")
            if words.get("ask"):
                own = _own_kind(f"{scheme}={name}", words, slots)
                kinds[own.id] = own
                members.add(own.id)
            subject = Subject(f"{scheme}={name}", tuple(words["names"]), tuple(words["about"]), frozenset(members))
            schemes[scheme].append(subject)
    return schemes


def _own_kind(identity: str, words: Mapping[str, Any], slots: dict[str, list[str]]) -> Kind:
    train, held = split_phrasings(words["ask"])
    return Kind(identity, "category", list(words["names"]), list(words["about"]), train, held, slots=slots)
