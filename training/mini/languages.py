"""Requests and routes in many languages: written for this project, and xSID's.

A file of `languages/` holds `kinds` (id of a kind that also exists in English -> name, about, ask), and `closings`, `chatter`
and `replies` in one language. A file of `narrow_languages/` holds requests for some kinds of one domain: id -> language ->
requests. `rarer_languages/` is like it. xSID (van der Goot et al. 2021, CC BY-SA 4.0) has requests to a phone's assistant in 19
languages and dialects; SIB-200 (Adelani et al. 2024; sentences of FLORES-200, CC BY-SA 4.0) sentences side by side in 26.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from archroute_edge.conversation import read_messages
from archroute_edge.deciders import conversation_text, route_text
from archroute_edge.routes import Route
from training.tiny.kinds_bank import Kind, held_back
from training.tiny.noise import STYLES, disturb, restyle
from training.yaml_files import read_yaml

FOLDER: Final = Path(__file__).parent / "languages"
NARROW_FOLDER: Final = Path(__file__).parent / "narrow_languages"
RARER_FOLDER: Final = Path(__file__).parent / "rarer_languages"
_XSID_WORDS: Final = Path(__file__).parent / "xsid.yaml"
# Dialects are read, but one that most people write seldom should not crowd the languages out.
_DIALECTS: Final = frozenset({"de-ba", "de-muc", "de-st", "gsw", "nap"})
_DIALECT_SHARE: Final = 0.3
# Longer sentences cost as much as several requests and teach the same.
_LONGEST_SENTENCE: Final = 120
_IN_ENGLISH, _IN_THE_SAME, _NAMES_ONLY = 0.6, 0.25, 0.4
_SHARE_OTHER: Final = 0.2
# How often a table is of xSID's kinds, and how often of kinds of one or two domains.
_XSID_TABLES, _NARROW_TABLES, _TWO_DOMAINS = 0.25, 0.35, 0.3
# How often the translations are texts of routes instead of sentences.
_ROUTES_AS_TRANSLATIONS: Final = 0.35


@dataclass
class Language:
    """What is written in one language: name, description and requests of kinds by id; phrases."""

    routes: dict[str, tuple[str, str]] = field(default_factory=dict)
    requests: dict[str, list[str]] = field(default_factory=dict)
    closings: list[str] = field(default_factory=list)
    chatter: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)


@dataclass
class Languages:
    """All languages by code; translations of one another; the English kinds they belong to.

    ``translations`` are lists of texts of one meaning by language.
    """

    by_code: dict[str, Language]
    kinds: dict[str, Kind]
    translations: list[dict[str, str]]
    held_translations: list[dict[str, str]]
    held_out: frozenset[str]

    @property
    def trained(self) -> dict[str, Language]:
        """The languages that training sees."""
        return {code: language for code, language in self.by_code.items() if code not in self.held_out}


def load_languages(data: Path, kinds: dict[str, Kind], held_out: frozenset[str]) -> Languages:
    """Read all of them; adds xSID's kinds to ``kinds``.

    Raises FileNotFoundError for a data set that is missing, ValueError for a text of a kind that does not exist.
    """
    by_code: dict[str, Language] = defaultdict(Language)
    for path in sorted(FOLDER.glob("*.yaml")):
        content = read_yaml(path)
        language = by_code[path.stem]
        language.closings, language.chatter, language.replies = content["closings"], content["chatter"], content["replies"]
        for identity, words in content["kinds"].items():
            _check_kind(identity, kinds, path)
            language.routes[identity] = (words["name"], words["about"])
            language.requests[identity] = list(words["ask"])
    for folder in (NARROW_FOLDER, RARER_FOLDER):
        for code, identity, asked in _requests_in(folder, kinds):
            by_code[code].requests.setdefault(identity, []).extend(asked)
    translations, held = _read_xsid(data, by_code, kinds)
    for row in _lines(data / "intents/sib200_parallel.jsonl.gz"):
        texts = {code.split("_")[0]: text for code, text in row["texts"].items()}
        if len(texts["eng"]) <= _LONGEST_SENTENCE:
            (held if held_back(texts["eng"]) else translations).append(texts)
    return Languages(dict(by_code), kinds, translations, held, held_out)


def _requests_in(folder: Path, kinds: dict[str, Kind]) -> Iterator[tuple[str, str, list[str]]]:
    """Language, kind and requests."""
    for path in sorted(folder.glob("*.yaml")):
        for identity, by_language in read_yaml(path).items():
            _check_kind(identity, kinds, path)
            for code, asked in by_language.items():
                yield code, identity, list(asked)


def _check_kind(identity: str, kinds: dict[str, Kind], path: Path) -> None:
    if identity not in kinds:
        raise ValueError(f"{path.name}: there is no kind {identity!r}; check its id")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _read_xsid(
    data: Path, by_code: dict[str, Language], kinds: dict[str, Kind]
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    words = read_yaml(_XSID_WORDS)
    aligned: dict[int, dict[str, str]] = defaultdict(dict)
    for intent, (names, *descriptions) in words.items():
        named = [name.strip() for name in names.split(",")]
        kinds[f"xsid/{intent}"] = Kind(f"xsid/{intent}", "xsid", named, descriptions, [], [])
    for row in _xsid_rows(data):
        kind, code, text = kinds[f"xsid/{row['intent']}"], row["lang"], row["text"]
        if row["id"] is not None and code not in _DIALECTS:
            aligned[row["id"]][code] = text
        if code == "en":
            (kind.held if _is_held(row) else kind.train).append(text)
        elif not _is_held(row):
            by_code[code].requests.setdefault(kind.id, []).append(text)
    usable = [(number, texts) for number, texts in sorted(aligned.items()) if len(texts) > 1]
    return [t for n, t in usable if n % 8], [t for n, t in usable if n % 8 == 0]


def _xsid_rows(data: Path) -> Iterator[dict[str, Any]]:
    """Its rows without those that have no text, of which no conversation can be made."""
    return (row for row in _lines(data / "intents/xsid_valid.jsonl.gz") if row["text"].strip())


def _is_held(row: dict[str, Any]) -> bool:
    """Whether a request of xSID is kept out of the training, together with its translations."""
    return row["id"] % 8 == 0 if row["id"] is not None else held_back(row["text"])


def held_requests(data: Path) -> list[tuple[str, str, str]]:
    """xSID's requests that training never sees: language, intent, text."""
    return [(row["lang"], f"xsid/{row['intent']}", row["text"]) for row in _xsid_rows(data) if _is_held(row)]


@dataclass
class LanguageSample:
    """Routes as texts, conversations as texts with the index of their route, -1 for `other`."""

    routes: list[str]
    conversations: list[str]
    labels: list[int]


class LanguageSampler:
    """Draws tables whose requests are in many languages, and translations."""

    def __init__(self, languages: Languages, out: frozenset[str]) -> None:
        self.languages = languages.trained
        self.kinds = {name: kind for name, kind in languages.kinds.items() if name not in out}
        known: dict[str, list[str]] = defaultdict(list)
        for code, language in self.languages.items():
            for identity in language.requests:
                known[identity].append(code)
        self.known = {identity: codes for identity, codes in known.items() if identity in self.kinds}
        self.xsid = sorted(identity for identity in self.known if identity.startswith("xsid/"))
        self.bank = sorted(identity for identity in self.known if not identity.startswith("xsid/"))
        self.described = [name for name in self.bank if any(name in one.routes for one in self.languages.values())]
        self.domains: dict[str, list[str]] = defaultdict(list)
        for identity in self.bank:
            if self.kinds[identity].source == self.kinds[identity].domain:
                self.domains[self.kinds[identity].domain].append(identity)
        self.written = sorted(code for code, language in self.languages.items() if language.closings)
        self.translations = [
            {code: text for code, text in texts.items() if code not in languages.held_out} for texts in languages.translations
        ]

    def _code(self, identity: str, rng: random.Random) -> str:
        codes = self.known[identity]
        while True:
            code = rng.choice(codes)
            if code not in _DIALECTS or rng.random() < _DIALECT_SHARE:
                return code

    def request(self, identity: str, rng: random.Random) -> tuple[str, str]:
        """A request of a kind, and its language."""
        code = self._code(identity, rng)
        text = rng.choice(self.languages[code].requests[identity])
        return (text.lower() if rng.random() < 0.1 else text), code

    def table(self, rng: random.Random, conversations: int) -> LanguageSample:
        """A table with so many conversations."""
        chosen, absent = self._choose(rng)
        size = len(chosen)
        table_code = rng.choice(self.written)
        sample = LanguageSample(self._routes(chosen, table_code, rng), [], [])
        for number in range(conversations):
            if rng.random() < _SHARE_OTHER:
                sample.conversations.append(self._other(chosen, absent, rng))
                sample.labels.append(-1)
            else:
                index = number % size if conversations >= size else rng.randrange(size)
                sample.conversations.append(self._conversation(chosen[index], chosen, rng))
                sample.labels.append(index)
        return sample

    def _choose(self, rng: random.Random) -> tuple[list[str], list[str]]:
        """The kinds of a table, and others that none of its routes fits."""
        way, size = rng.random(), rng.choice([4, 6, 8, 10, 12, 15, 16])
        if way < _XSID_TABLES:
            pool = self.xsid
        elif way < _XSID_TABLES + _NARROW_TABLES and self.domains:
            # The kinds of a domain exclude one another: without the right route, the others are wrong.
            domains = rng.sample(sorted(self.domains), min(len(self.domains), 2 if rng.random() < _TWO_DOMAINS else 1))
            pool = [identity for domain in domains for identity in self.domains[domain]]
            chosen = rng.sample(pool, min(len(pool), rng.choice([3, 5, 6, 7, 12])))
            rest = [identity for identity in pool if identity not in chosen]
            return chosen, rest
        else:
            pool = self.described
        chosen = rng.sample(pool, min(len(pool), size))
        near = set(chosen).union(*(self.kinds[identity].near for identity in chosen))
        return chosen, [identity for identity in self.described if identity not in near]

    def _routes(self, chosen: list[str], code: str, rng: random.Random) -> list[str]:
        """Texts of routes: in English, or all in one other language where they are written in it."""
        way, only_names, style = rng.random(), rng.random() < _NAMES_ONLY, rng.choice(STYLES)
        texts = []
        for identity in chosen:
            here = self.languages[code].routes.get(identity) if way > _IN_ENGLISH else None
            if here is not None:
                name, about = here
            else:
                kind = self.kinds[identity]
                name, about = restyle(rng.choice(kind.names), style), rng.choice(kind.descriptions or [""])
            texts.append(route_text(Route(name, "" if only_names else about)))
        return texts

    def _conversation(self, identity: str, chosen: list[str], rng: random.Random) -> str:
        text, code = self.request(identity, rng)
        replies = self.languages[code].replies
        before = [other for other in chosen if other != identity and code in self.known[other]]
        if not replies or not before or rng.random() < 0.75:
            return _text([{"role": "user", "content": text}])
        first = rng.choice(self.languages[code].requests[rng.choice(before)])
        return _text(_exchange(first, rng.choice(replies), text))

    def _other(self, chosen: list[str], absent: list[str], rng: random.Random) -> str:
        way = rng.random()
        if absent and way < 0.5:
            return _text([{"role": "user", "content": self.request(rng.choice(absent), rng)[0]}])
        code = rng.choice(self.written)
        language = self.languages[code]
        if way < 0.65:
            return _text([{"role": "user", "content": rng.choice(language.chatter)}])
        about = [identity for identity in chosen if code in self.known[identity]]
        first = rng.choice(language.requests[rng.choice(about)]) if about else rng.choice(language.chatter)
        closing = rng.choice(language.closings)
        return _text(_exchange(first, rng.choice(language.replies), closing))

    def pairs(self, rng: random.Random, count: int) -> tuple[list[str], list[str], list[str]]:
        """Requests in many languages, the text of the route of each, and the kind of each; no kind twice."""
        chosen = rng.sample(self.bank, min(count, len(self.bank)))
        requests, routes = [], []
        for identity in chosen:
            text, code = self.request(identity, rng)
            requests.append(disturb(text, rng) if rng.random() < 0.1 else text)
            here = self.languages[code].routes.get(identity)
            if here is not None and rng.random() < _IN_THE_SAME:
                name, about = here
            else:
                kind = self.kinds[identity]
                name, about = rng.choice(kind.names), rng.choice(kind.descriptions)
            routes.append(route_text(Route(name, about if rng.random() < 0.5 else "")))
        return requests, routes, chosen

    def parallel(self, rng: random.Random, count: int) -> tuple[list[str], list[str]]:
        """Translations of each other, no meaning twice; one side English as often as not."""
        ones, others = [], []
        if rng.random() < _ROUTES_AS_TRANSLATIONS:
            for identity in rng.sample(self.described, min(count, len(self.described))):
                code = rng.choice([c for c in self.written if identity in self.languages[c].routes])
                kind = self.kinds[identity]
                ones.append(route_text(Route(*self.languages[code].routes[identity])))
                others.append(route_text(Route(rng.choice(kind.names), rng.choice(kind.descriptions))))
            return ones, others
        for texts in rng.sample(self.translations, count):
            codes = sorted(texts)
            english = next((code for code in ("en", "eng") if code in texts), None)
            one, other = rng.sample(codes, 2) if len(codes) > 1 else (codes[0], codes[0])
            if english is not None and rng.random() < 0.5:
                other = english
            ones.append(texts[one])
            others.append(texts[other])
        return ones, others


def _exchange(first: str, reply: str, last: str) -> list[dict[str, str]]:
    said = (("user", first), ("assistant", reply), ("user", last))
    return [{"role": role, "content": content} for role, content in said]


def _text(messages: list[dict[str, str]]) -> str:
    return conversation_text(read_messages(messages))
