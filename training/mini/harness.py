"""The questions that judge the encoder: sets like those that a router meets, most about subjects it was never trained on.

Needs a catalogue loaded with ``steer``. In *out of scope* and *finished conversations* no message belongs to a route; in the
other sets every message does, except a tenth of the card's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archroute_edge.conversation import read_messages
from archroute_edge.deciders import conversation_text, route_text
from archroute_edge.routes import OTHER, Route
from training.mini.catalogue import DIFFICULTY, Catalogue
from training.mini.languages import held_requests
from training.mini.tables import EASY_AND_HARD, finished_talk
from training.mini.tool_tables import AGENTS, TERSE
from training.tiny.conversations import Messages, of_dialogue
from training.tiny.kinds_bank import Kind
from training.tiny.public_data import words_of
from training.tiny.questions import card_questions
from training.yaml_files import read_yaml

_HERE = Path(__file__).parent
_SEED = 417
_BASE_TALLY = 20
# Held-out domains that have requests in common: a route of one can be right for a request of another.
_IN_COMMON = (
    {"work", "payroll_hr", "people_development", "voice_office_day", "tools_03.1"},
    {
        "auto_and_commute", "car_owner_help", "car_workshop_garage", "voice_on_the_road", "ride_hailing", "tools_04.1",
        "tools_08.1", "tools_14.2",
    },
    {"event_tickets", "theatre_box_office", "ferry_line", "tools_05.1"},
    {"city_services", "moving_firm", "school_office"},
    {"tools_07.1", "tools_09.1", "tools_13.3"},
    {"tools_03.1", "tools_10.6", "tools_12.4"},
)  # fmt: skip
_OWN_GROUPS = {
    "tools": "tool tables", AGENTS: "tools of agents", "narrow": "narrow intents, names only",
    TERSE: "intents of a domain, names only",
}  # fmt: skip
Routes = dict[str, str]


@dataclass(frozen=True)
class Question:
    """Routes as texts by their names, the text of a conversation, the right name or `other`, and the set it is of."""

    routes: dict[str, str]
    text: str
    label: str
    group: str


def _text(messages: Messages) -> str:
    return conversation_text(read_messages(messages))


def _single(text: str) -> str:
    return _text([{"role": "user", "content": text}])


def questions(catalogue: Catalogue, data: Path) -> list[Question]:
    """All sets, the same ones every time; raises FileNotFoundError for a data set that is not in the folder `data`."""
    made = [*_ten_domains(catalogue), *_scopeless(catalogue)]
    for domain in ("work", "auto_and_commute"):
        kinds = [k for k in catalogue.kinds.values() if k.domain == domain and k.source == "clinc150"]
        made += _names_only(catalogue, kinds, len(kinds), f"intents of {domain}, names only", 150)
    bank = [k for k in catalogue.kinds.values() if k.source == "banking77" and k.id in catalogue.held_out]
    made += _names_only(catalogue, bank, 8, "bank intents, names only", 240)
    made += _chat_categories(catalogue)
    made += _tasks(catalogue)
    made += _services(catalogue)
    card = card_questions(catalogue.kinds)
    routes = {r["name"]: route_text(Route(r["name"], r["description"])) for r in card[0].routes}
    made += [Question(routes, _text(q.messages), q.label, "card's five routes") for q in card]
    for domain in ("telecom", "ferry_line", "savings_deposits", "photo_gallery_app"):
        kinds = [k for k in catalogue.kinds.values() if k.domain == domain]
        made += _names_only(catalogue, kinds, len(kinds), "intents of four domains, names only", 100)
    made += [*_tools_never_seen(catalogue), *_own_tables(catalogue), *_scenarios(catalogue)]
    made += [*_with_general(catalogue), *_easy_or_hard(catalogue), *_few_routes(catalogue)]
    made += _near_a_domain(catalogue)
    return made + _finished(catalogue) + _other_languages(catalogue, data)


def _listed(catalogue: Catalogue, group: str) -> tuple[Routes, dict[str, list[Kind]]]:
    """Route texts of a listed table, and the kinds of each route."""
    listed: dict[str, list[str]] = read_yaml(_HERE / "harness_routes.yaml")[group]
    subjects = {subject.id: subject for subjects in catalogue.schemes.values() for subject in subjects}
    routes = {name: route_text(Route(name, description)) for name, (_, description) in listed.items()}
    members = {name: [catalogue.kinds[k] for k in sorted(subjects[identity].kinds)] for name, (identity, _) in listed.items()}
    return routes, members


def _unseen(catalogue: Catalogue, kind: Kind) -> list[str]:
    """Phrasings that the training does not see."""
    return kind.train + kind.held if kind.id in catalogue.held_out else kind.held


def _ten_domains(catalogue: Catalogue) -> list[Question]:
    routes, members = _listed(catalogue, "ten domains")
    rng = random.Random(_SEED)
    made: list[Question] = []
    for name, kinds in members.items():
        group = "ten domains, never trained" if kinds[0].id in catalogue.held_out else "ten domains"
        # Our own narrow domains would crowd the public data out.
        asked = [k for k in kinds if k.source != k.domain and (_unseen(catalogue, k) or k.held_dialogues)]
        for _ in range(_BASE_TALLY if group == "ten domains" else 2 * _BASE_TALLY):
            kind = rng.choice(asked)
            pool = _unseen(catalogue, kind)
            text = kind.fill(rng.choice(pool), rng) if pool else _first_user_message(rng.choice(kind.held_dialogues))
            made.append(Question(routes, _single(text), name, group))
    return made


def _first_user_message(dialogue: tuple[Any, int, int]) -> str:
    recorded, begun, _ = dialogue
    return str(recorded[begun]["content"])


def _scopeless(catalogue: Catalogue) -> list[Question]:
    routes, _ = _listed(catalogue, "ten domains")
    return [Question(routes, _single(text), OTHER, "out of scope") for text in catalogue.held_scopeless]


def _names_only(catalogue: Catalogue, kinds: Sequence[Kind], size: int, group: str, count: int) -> list[Question]:
    rng = random.Random(f"{_SEED} {group} {kinds[0].id}")
    made: list[Question] = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        others = rng.sample([k for k in kinds if k is not kind], size - 1)
        names = [words_of(k.id.split("/")[-1]) for k in (kind, *others)]
        routes = {name: route_text(Route(name)) for name in rng.sample(names, len(names))}
        text = kind.fill(rng.choice(_unseen(catalogue, kind)), rng)
        made.append(Question(routes, _single(text), names[0], group))
    return made


def _chat_categories(catalogue: Catalogue) -> list[Question]:
    routes, _ = _listed(catalogue, "chat categories")
    lines = (_HERE / "chat_messages.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [Question(routes, _single(row["text"]), row["category"], "chat categories") for row in rows]


def _tasks(catalogue: Catalogue) -> list[Question]:
    """Kinds of LLM request that were never trained on, each among seven others drawn by chance."""
    rng = random.Random(_SEED + 1)
    elsewhere = ("category", "banking77", "metatool", "snips", "xsid")
    banks = [k for k in catalogue.kinds.values() if not k.domain and k.source not in elsewhere]
    asked = [k for k in banks if k.id in catalogue.held_out]
    made: list[Question] = []
    for kind in asked:
        for _ in range(_BASE_TALLY):
            near = kind.near
            others = rng.sample([k for k in banks if k is not kind and k.id not in near], 7)
            routes = {k.id: route_text(Route(k.id, rng.choice(k.descriptions))) for k in rng.sample([kind, *others], 8)}
            made.append(Question(routes, _single(kind.request(rng, held=rng.random() < 0.2)), kind.id, "kinds of LLM task"))
    return made


def _services(catalogue: Catalogue) -> list[Question]:
    rng = random.Random(_SEED + 2)
    kinds = [k for k in catalogue.kinds.values() if k.source == "sgd" and k.id in catalogue.held_out and k.dialogues]
    made: list[Question] = []
    for number in range(200):
        kind = kinds[number % len(kinds)]
        chosen = rng.sample([kind, *rng.sample([k for k in kinds if k is not kind], 7)], 8)
        routes = {k.id: route_text(Route(words_of(k.id.split(".")[-1]) + " " + k.domain, k.descriptions[-1])) for k in chosen}
        made.append(Question(routes, _text(of_dialogue(kind, rng, held=False)), kind.id, "services never trained"))
    return made


def _finished(catalogue: Catalogue) -> list[Question]:
    """Conversations about one or two of eight routes, in which nothing is asked any more."""
    rng = random.Random(_SEED + 3)
    domains = {k.domain for k in catalogue.kinds.values() if k.id in catalogue.held_out and k.source == k.domain}
    made: list[Question] = []
    for domain in sorted(domains):
        kinds = [k for k in catalogue.kinds.values() if k.domain == domain]
        for _ in range(_BASE_TALLY):
            chosen = rng.sample(kinds, 8)
            routes = {k.id: route_text(Route(words_of(k.names[0]), rng.choice(k.descriptions))) for k in chosen}
            messages = finished_talk(rng.sample(chosen, rng.choice([1, 2])), rng, held=True)
            messages[-1]["content"] = rng.choice(catalogue.held_closings)
            made.append(Question(routes, _text(messages), OTHER, "finished conversations"))
    return made


def _with_general(catalogue: Catalogue) -> list[Question]:
    """Seven kinds of a domain, and a route for all others of it, which every second request belongs to."""
    rng = random.Random(_SEED + 7)
    domains = [s for s in catalogue.schemes["departments"] if s.kinds <= catalogue.held_out and len(s.kinds) > 9]
    made: list[Question] = []
    for domain in domains:
        for number in range(_BASE_TALLY):
            kinds = rng.sample([catalogue.kinds[name] for name in sorted(domain.kinds)], len(domain.kinds))
            general = f"general {domain.names[0]}"
            routes = {k.id: route_text(Route(words_of(k.names[0]), rng.choice(k.descriptions))) for k in kinds[:7]}
            routes[general] = route_text(Route(general, rng.choice(domain.descriptions)))
            kind = rng.choice(kinds[7:] if number % 2 else kinds[:7])
            text = kind.fill(rng.choice(_unseen(catalogue, kind)), rng)
            made.append(Question(routes, _single(text), general if number % 2 else kind.id, "a domain with a general route"))
    return made


def _easy_or_hard(catalogue: Catalogue) -> list[Question]:
    """Requests whose phrasing the training does not see, over two routes by how much work one is."""
    rng = random.Random(_SEED + 8)
    tiers = [s for s in catalogue.schemes[DIFFICULTY] if s.id in EASY_AND_HARD]
    made: list[Question] = []
    for subject in tiers:
        for text in catalogue.kinds[subject.id].held:
            routes = {s.id: route_text(Route(rng.choice(s.names), rng.choice(s.descriptions))) for s in tiers}
            made.append(Question(routes, _single(catalogue.kinds[subject.id].fill(text, rng)), subject.id, "easy or hard"))
    return made


def _few_routes(catalogue: Catalogue) -> list[Question]:
    """Two to four kinds that were never trained on, of one domain or of several, with and without the right one."""
    rng = random.Random(_SEED + 9)
    domains: dict[str, list[Kind]] = {}
    for name in sorted(catalogue.held_out):
        kind = catalogue.kinds[name]
        if kind.domain and kind.train and kind.source in (kind.domain, "tools", "narrow", "clinc150"):
            domains.setdefault(kind.domain, []).append(kind)
    own = sorted(domains)
    made: list[Question] = []
    for number in range(300):
        domain = own[number % len(own)]
        kind = rng.choice(domains[domain])
        alike = {domain}.union(*(group for group in _IN_COMMON if domain in group))
        elsewhere = [other for name in own if name not in alike for other in domains[name]]
        beside = [other for other in domains[domain] if other is not kind]
        n_beside = rng.choice([1, 2, 3])
        others = rng.sample(beside if number % 2 and len(beside) >= n_beside else elsewhere, n_beside)
        names_only = rng.random() < 0.3
        fits = number % 3 > 0
        table = rng.sample([kind, *others], n_beside + 1) if fits else [*others, rng.choice(elsewhere)]
        routes = {
            k.id: route_text(Route(words_of(k.names[0]), "" if names_only else rng.choice(k.descriptions))) for k in table
        }
        text = kind.fill(rng.choice(_unseen(catalogue, kind)), rng)
        if fits:
            made.append(Question(routes, _single(text), kind.id, "few routes"))
        else:
            made.append(Question(routes, _single(text), OTHER, "few routes, nothing fits"))
    return made


def _tools_never_seen(catalogue: Catalogue) -> list[Question]:
    rng = random.Random(_SEED + 4)
    tools = [k for k in catalogue.kinds.values() if k.source == "metatool" and k.id in catalogue.held_out]
    made: list[Question] = []
    for number in range(180):
        kind = tools[number % len(tools)]
        chosen = rng.sample([kind, *rng.sample([k for k in tools if k is not kind], 7)], 8)
        routes = {k.id: route_text(Route(k.names[0], k.descriptions[0])) for k in chosen}
        made.append(Question(routes, _single(rng.choice(kind.train)), kind.id, "tools never seen"))
    return made


def _own_tables(catalogue: Catalogue) -> list[Question]:
    """Whole tables of ours that training never saw: every request for one of its routes, and for none."""
    made: list[Question] = []
    for table in catalogue.own_tables:
        if table.kinds[0].id not in catalogue.held_out:
            continue
        source = table.kinds[0].source
        is_tools = source in ("tools", AGENTS)
        routes = {k.id: route_text(Route(k.names[0], k.descriptions[0] if is_tools else "")) for k in table.kinds}
        group = _OWN_GROUPS[source]
        for kind in table.kinds:
            made += [Question(routes, _single(text), kind.id, group) for text in dict.fromkeys([*kind.train, *kind.held])]
        nothing = f"{group.removesuffix(', names only')}, nothing fits"
        made += [Question(routes, _single(text), OTHER, nothing) for text in table.none]
    return made


def _near_a_domain(catalogue: Catalogue) -> list[Question]:
    """Requests near to a domain that training never saw, over routes for kinds of it that none of them is of."""
    rng = random.Random(_SEED + 10)
    made: list[Question] = []
    for domain in catalogue.schemes["departments"]:
        if not domain.kinds <= catalogue.held_out:
            continue
        for text in catalogue.strangers.get(domain.id, ()):
            kinds = rng.sample([catalogue.kinds[name] for name in sorted(domain.kinds)], min(len(domain.kinds), 10))
            routes = {k.id: route_text(Route(words_of(k.names[0]), rng.choice(k.descriptions))) for k in kinds}
            made.append(Question(routes, _single(text), OTHER, "a domain, nothing fits"))
    return made


def _scenarios(catalogue: Catalogue) -> list[Question]:
    """Broad routes of a home assistant; three of them were never trained on."""
    rng = random.Random(_SEED + 5)
    subjects = catalogue.schemes["scenarios"]
    routes = {subject.id: route_text(Route(subject.names[0], subject.descriptions[0])) for subject in subjects}
    made: list[Question] = []
    for number in range(260):
        subject = subjects[number % len(subjects)]
        kind = catalogue.kinds[rng.choice(sorted(subject.kinds))]
        made.append(Question(routes, _single(rng.choice(_unseen(catalogue, kind))), subject.id, "home scenarios"))
    return made


def _other_languages(catalogue: Catalogue, data: Path) -> list[Question]:
    rng = random.Random(_SEED + 6)
    languages = catalogue.languages
    intents = [k for k in catalogue.kinds.values() if k.source == "xsid"]
    routes = {k.id: route_text(Route(k.names[0], k.descriptions[0])) for k in intents}
    made: list[Question] = []
    by_code: dict[str, list[tuple[str, str]]] = {}
    for code, identity, text in held_requests(data):
        by_code.setdefault(code, []).append((identity, text))
    for code, rows in sorted(by_code.items()):
        seen = "never trained" if code in languages.held_out else "trained"
        group = "16 routes in English" if code == "en" else f"16 routes in languages {seen}"
        for identity, text in rng.sample(rows, min(len(rows), 40 if code == "en" else 16)):
            made.append(Question(routes, _single(text), identity, group))
    for code in sorted(languages.held_out & languages.by_code.keys()):
        language = languages.by_code[code]
        made += _narrow_in(code, catalogue, rng)
        written = [identity for identity in language.requests if identity in language.routes]
        for identity in rng.sample(written, min(len(written), 24)):
            near = catalogue.kinds[identity].near
            others = rng.sample([name for name in written if name != identity and name not in near], 9)
            chosen = [catalogue.kinds[name] for name in rng.sample([identity, *others], 10)]
            table = {k.id: route_text(Route(k.names[0], k.descriptions[0])) for k in chosen}
            text = rng.choice(language.requests[identity])
            made.append(Question(table, _single(text), identity, "tasks in languages never trained"))
            if language.closings and rng.random() < 0.5:
                talk = [text, rng.choice(language.replies), rng.choice(language.closings)]
                roles = ("user", "assistant", "user")
                messages = [{"role": role, "content": content} for role, content in zip(roles, talk, strict=True)]
                made.append(Question(table, _text(messages), OTHER, "finished in languages never trained"))
    return made


def _narrow_in(code: str, catalogue: Catalogue, rng: random.Random) -> Iterator[Question]:
    """Requests in one language for kinds of one domain each, whose routes are in English."""
    language = catalogue.languages.by_code[code]
    by_domain: dict[str, list[Kind]] = {}
    for identity in language.requests:
        kind = catalogue.kinds[identity]
        if kind.source == kind.domain:
            by_domain.setdefault(kind.domain, []).append(kind)
    for kinds in (kinds for kinds in by_domain.values() if len(kinds) > 2):
        routes = {k.id: route_text(Route(words_of(k.names[0]), rng.choice(k.descriptions))) for k in kinds}
        for kind in kinds:
            text = rng.choice(language.requests[kind.id])
            yield Question(routes, _single(text), kind.id, "narrow intents in languages never trained")


def distinct(found: Iterable[str]) -> list[str]:
    """Texts without repetitions, in order."""
    return list(dict.fromkeys(found))
