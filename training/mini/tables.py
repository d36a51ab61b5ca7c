"""Route tables with conversations, drawn at random from the catalogue: the encoder's training samples.

Each conversation's label is the index of its route, or the number of routes if it belongs to none of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from archroute_edge.deciders import route_text
from archroute_edge.routes import OTHER, Route
from training.mini.catalogue import DIFFICULTY, Catalogue, Subject, general_subject, is_general, tells_difficulty
from training.mini.tool_tables import AGENTS, TERSE
from training.tiny import conversations as talk
from training.tiny.kinds_bank import Kind
from training.tiny.noise import STYLES, disturb, restyle
from training.tiny.sampling import CARD_KINDS, CHAT_KINDS, SHORT_INTENTS

_ONE_DOMAIN = "one domain"
# How often a table comes from each source.
SOURCES = {
    "clinc150": 0.20, "banking77": 0.08, "sgd": 0.11, "bank": 0.08, "domains": 0.13, "everyday": 0.09, "chat": 0.04,
    "tasks": 0.05, "teams": 0.02, "departments": 0.02, "card": 0.02, "any": 0.03, "tools": 0.07, "narrow": 0.06,
    "metatool": 0.03, "hwu64": 0.03, "scenarios": 0.05, "snips": 0.01, "general": 0.08, DIFFICULTY: 0.05,
    AGENTS: 0.30, TERSE: 0.18, _ONE_DOMAIN: 0.10,
}  # fmt: skip
_PUBLIC = ("clinc150", "banking77", "sgd")
# The everyday categories beside which a message outside every intent of CLINC150 belongs to none of them.
_CORE = {
    f"everyday={name}"
    for name in (
        "banking", "credit cards", "kitchen and dining", "home", "auto and commute", "travel", "utility", "work",
        "small talk", "meta",
    )
}  # fmt: skip
EASY_AND_HARD = (f"{DIFFICULTY}=little work", f"{DIFFICULTY}=much work")
_OPAQUE = ["route", "option", "team", "r", "class", "agent", "model"]
_NAME_ONLY, _WITH_EXAMPLES, _OPAQUE_NAMES = 0.50, 0.10, 0.03
# How often the names alone are all the terse ones of a data set or of ours, as programmers name things.
_TERSE_NAMES = 0.6
_SHARE_OTHER, _SHARE_OTHER_NEAR = 0.22, 0.35
EXCLUSIVE = frozenset({"clinc150", "banking77", "tools", AGENTS, "narrow", TERSE, "hwu64", "metatool"})
"""Sources whose kinds exclude one another, as those of our domains do: without the right route, the others are wrong."""
# How often a conversation was about something else before, where it can have been, and how often what the assistant said
# in it has words of its subject, as answers have.
_CHANGE_OF_SUBJECT = 0.3
_ANSWER_HAS_WORDS = 0.6
_TRIES = 30
# How many kinds of a domain at least are left to the route that takes all the others, and how often routes by difficulty are
# only the easy and the hard one.
_LEFT_OVER = 3
_TWO_TIERS = 0.65
# How often a conversation ends with a closing written for this training.
_OWN_CLOSING = 0.7


@dataclass
class Table:
    """Routes as texts with their subjects; conversations with the kind of each ("" for none) and its label.

    `strangers` are requests that are near to the routes and belong to none.
    """

    routes: list[str]
    subjects: list[Subject]
    conversations: list[talk.Messages]
    kinds: list[str]
    labels: list[int]
    strangers: tuple[str, ...] = ()


@dataclass
class TableSampler:
    """Draws tables of the kinds that are not held out.

    `related` says for a kind which others could pass for it: they are never a reason to answer `other`.
    """

    catalogue: Catalogue
    related: Mapping[str, frozenset[str]]

    def __post_init__(self) -> None:
        kinds = self.catalogue.kinds.values()
        known = [k for k in kinds if k.id not in self.catalogue.held_out and k.source != "xsid"]
        trained = [k for k in known if k.train or k.dialogues]
        self.trained = {kind.id: kind for kind in trained}
        of_any_table = [kind for kind in trained if not tells_difficulty(kind.id) and kind.source not in (AGENTS, TERSE)]
        self.pools: dict[str, list[Kind]] = {"any": of_any_table, "bank": [], "domains": []}
        self.own_tables = [t for t in self.catalogue.own_tables if t.kinds[0].id in self.trained]
        for kind in trained:
            if kind.source in _PUBLIC or kind.source in ("metatool", "hwu64", "snips", "tools", AGENTS, "narrow", TERSE):
                self.pools.setdefault(kind.source, []).append(kind)
            elif kind.source == kind.domain:
                self.pools["domains"].append(kind)
            elif kind.source != "category":
                self.pools["bank"].append(kind)
        self.schemes = {
            name: [s for s in subjects if any(k in self.trained for k in s.kinds)]
            for name, subjects in self.catalogue.schemes.items()
        }
        self.with_strangers = [s for s in self.schemes["departments"] if s.id in self.catalogue.strangers]
        self.domains = [s for s in self.schemes["departments"] if len(s.kinds & self.trained.keys()) >= 2 * _LEFT_OVER]

    def draw(self, rng: random.Random, conversations: int) -> Table:
        """A table of a random source."""
        return self.table(rng, rng.choices(list(SOURCES), list(SOURCES.values()))[0], conversations)

    def table(self, rng: random.Random, source: str, conversations: int) -> Table:
        """A table of `source` (one of SOURCES) with so many conversations, every route asked for about equally often."""
        subjects, strangers = self._choose(rng, source)
        table = Table([], subjects, [], [], [], strangers)
        table.routes = self.describe(subjects, rng)
        order = rng.sample(range(len(subjects)), len(subjects))
        present = frozenset(kind for subject in subjects for kind in subject.kinds)
        share = _SHARE_OTHER_NEAR if source in (AGENTS, TERSE, _ONE_DOMAIN) else _SHARE_OTHER
        while len(table.conversations) < conversations:
            if rng.random() < share:
                self._add_other(table, present, rng)
                continue
            index = order[len(table.labels) % len(order)]
            kind = self._member(subjects, index, rng)
            if kind is not None:
                table.conversations.append(self._talk(kind, rng, present))
                table.kinds.append(kind.id)
                table.labels.append(index)
            else:
                order[len(table.labels) % len(order)] = rng.randrange(len(subjects))
        return table

    def _choose(self, rng: random.Random, source: str) -> tuple[list[Subject], tuple[str, ...]]:
        size = rng.choice([2, 3, 5, 5, 8, 8, 10, 10, 12, 15, 15, 20])
        if source == "card":
            return [self.catalogue.subject(kind) for kind in rng.sample(CARD_KINDS, rng.choice([4, 5, 5, 5]))], ()
        if source == "general":
            return self._with_general(rng, size), ()
        if source in self.schemes:
            return self._categories(rng, source, max(4, size)), ()
        if source == _ONE_DOMAIN:
            return self._one_domain(rng, size)
        if source in ("tools", AGENTS, "narrow", TERSE):
            return self._own_table(rng, source, size)
        return self._kinds(rng, source, size), ()

    def _own_table(self, rng: random.Random, source: str, size: int) -> tuple[list[Subject], tuple[str, ...]]:
        """One of our tables or a part of it; some with routes of others, as agents have tools of several kinds."""
        tables = [table for table in self.own_tables if table.kinds[0].source == source]
        first = rng.choice(tables)
        chosen = rng.sample(first.kinds, min(len(first.kinds), max(2, size)))
        if source in ("tools", AGENTS) and rng.random() < 0.4:
            for other in rng.sample(tables, min(len(tables), rng.choice([1, 2, 4]))):
                if source == AGENTS and self._alike(other.kinds, chosen):
                    continue
                chosen += [kind for kind in other.kinds if kind not in first.kinds and kind not in chosen]
            return [self.catalogue.subject(kind.id) for kind in rng.sample(chosen, min(len(chosen), 24))], ()
        return [self.catalogue.subject(kind.id) for kind in chosen], first.none

    def _alike(self, some: Sequence[Kind], others: Sequence[Kind]) -> bool:
        """Whether a request for one of these could be one for one of the others."""
        ids = {kind.id for kind in others}
        return any(self.related.get(kind.id, frozenset()) & ids for kind in some)

    def _one_domain(self, rng: random.Random, size: int) -> tuple[list[Subject], tuple[str, ...]]:
        """Kinds of one domain, and requests near to it that fit none of its kinds."""
        domain = rng.choice(self.with_strangers)
        kinds = sorted(domain.kinds & self.trained.keys())
        chosen = rng.sample(kinds, min(len(kinds), size))
        return [self.catalogue.subject(kind) for kind in chosen], self.catalogue.strangers[domain.id]

    def _kinds(self, rng: random.Random, source: str, size: int) -> list[Subject]:
        pool = self.pools[source]
        first = rng.choice(pool)
        chosen = [first]
        if rng.random() < 0.75:
            near = [k for k in pool if k.id in first.near]
            chosen += rng.sample(near, min(len(near), rng.randrange(1, size + 1), size - 1))
        rest = [k for k in pool if k not in chosen]
        chosen += rng.sample(rest, min(len(rest), size - len(chosen)))
        subjects = [self.catalogue.subject(kind.id) for kind in chosen]
        if rng.random() < 0.12:
            subjects += self._unrelated_categories(rng, subjects)
        return rng.sample(subjects, len(subjects))

    def _categories(self, rng: random.Random, scheme: str, size: int) -> list[Subject]:
        pool = self.schemes[scheme]
        if scheme == "everyday" and rng.random() < 0.6:
            pool = [subject for subject in pool if subject.id in _CORE]
        if scheme == DIFFICULTY and rng.random() < _TWO_TIERS:
            pool = [subject for subject in pool if subject.id in EASY_AND_HARD]
        return rng.sample(pool, min(len(pool), size))

    def _with_general(self, rng: random.Random, size: int) -> list[Subject]:
        """Some kinds of a domain, and a route that takes all others, as applications have it."""
        domain = rng.choice(self.domains)
        kinds = [self.trained[name] for name in sorted(domain.kinds & self.trained.keys())]
        chosen = rng.sample(kinds, min(size, len(kinds) - _LEFT_OVER))
        left = frozenset(kind.id for kind in kinds if kind not in chosen)
        return [*(self.catalogue.subject(kind.id) for kind in chosen), general_subject(domain, left, rng)]

    def _unrelated_categories(self, rng: random.Random, subjects: list[Subject]) -> list[Subject]:
        """Some broad routes beside narrow ones, as a table of an application has them."""
        taken = set().union(*(subject.kinds for subject in subjects))
        close = taken.union(*(self.related.get(kind, frozenset()) for kind in taken))
        every = [s for scheme in ("everyday", "departments", "tasks") for s in self.schemes[scheme]]
        found: list[Subject] = []
        for subject in rng.sample(every, 6):
            if len(found) < 3 and not subject.kinds & close:
                found.append(subject)
                close |= subject.kinds
        return found

    def _member(self, subjects: list[Subject], index: int, rng: random.Random) -> Kind | None:
        """A kind of that subject which belongs to no other of the table."""
        elsewhere = {kind for n, subject in enumerate(subjects) if n != index for kind in subject.kinds}
        open_to = [self.trained[k] for k in subjects[index].kinds if k in self.trained and k not in elsewhere]
        if not open_to:
            return None
        open_to.sort(key=lambda kind: kind.id)
        # Messages of the category itself are few kinds' worth and would drown among its members.
        own = [kind for kind in open_to if kind.source == "category"]
        share = 0.75 if tells_difficulty(subjects[index].id) else 0.3
        return rng.choice(own) if own and rng.random() < share else rng.choice(open_to)

    def _talk(self, kind: Kind, rng: random.Random, present: frozenset[str]) -> talk.Messages:
        before = None
        if rng.random() < 0.7:
            before = self.trained[rng.choice(sorted(present & self.trained.keys()))]
        if before is kind or (before is not None and before.dialogues):
            before = None
        if before is not None and kind.train and rng.random() < _CHANGE_OF_SUBJECT:
            return self._after_another(kind, before, rng)
        short_replies = not any(k.split("/")[-1] in SHORT_INTENTS for k in present)
        return talk.of_kind(kind, before, rng, held=False, short_replies=short_replies)

    def _after_another(self, kind: Kind, before: Kind, rng: random.Random) -> talk.Messages:
        """A request of `kind` behind a conversation about `before`."""
        messages = talk.finished(before, rng, held=False)
        answer_with_words(messages, before, rng)
        # What follows on an answer does so with a word of thanks, or without.
        *rest, thanks = messages
        request = kind.request(rng, held=False)
        way = rng.random()
        if way < 0.3:
            request = f"{rng.choice(self.catalogue.reopenings)} {request}"
        elif way < 0.5:
            request = f"{thanks['content']}{rng.choice(['. ', ', ', '! ', ' '])}{request}"
        return [*rest[-rng.choice([2, 2, 4, 5]) :], {"role": "user", "content": disturb(request, rng)}]

    def _add_other(self, table: Table, present: frozenset[str], rng: random.Random) -> None:
        found = self._absent(table.subjects, table.strangers, present, rng)
        if found is not None:
            table.conversations.append(found[0])
            table.kinds.append(found[1])
            table.labels.append(len(table.subjects))

    def _absent(
        self, subjects: list[Subject], strangers: tuple[str, ...], present: frozenset[str], rng: random.Random
    ) -> tuple[talk.Messages, str] | None:
        """A conversation that fits none of the subjects, and its kind; None if this draw found none."""
        quiet = not any(
            k.split("/")[-1] in CHAT_KINDS or k.startswith(("chat=", "tasks=chat", "hwu64/general")) for k in present
        )
        draw = rng.random()
        if strangers and draw < 0.5:
            return [{"role": "user", "content": disturb(rng.choice(strangers), rng)}], ""
        draw = rng.random()
        if draw < 0.30:
            known = sorted(k for k in present & self.trained.keys() if not self.trained[k].dialogues)
            if not quiet or not known:
                return None
            about = rng.sample(known, min(len(known), rng.choice([1, 1, 2, 3])))
            messages = finished_talk([self.trained[kind] for kind in about], rng, held=False)
            if rng.random() < _OWN_CLOSING:
                messages[-1]["content"] = disturb(rng.choice(self.catalogue.closings), rng)
            return messages, ""
        if draw < 0.37:
            return (talk.english_chatter(rng, held=False), "") if quiet else None
        # A route for everything else could claim what is of another subject.
        if any(tells_difficulty(subject.id) or is_general(subject.id) for subject in subjects):
            return None
        if draw < 0.60 and (
            all(subject.id in _CORE for subject in subjects)
            or all(self.catalogue.kinds[k].source in _PUBLIC for k in present if k in self.catalogue.kinds)
        ):
            return [{"role": "user", "content": rng.choice(self.catalogue.scopeless)}], ""
        if draw < 0.85 and all(subject.kinds == {subject.id} for subject in subjects):
            taken_out = self._taken_out(present, rng)
            if taken_out is not None:
                return talk.of_kind(taken_out, None, rng, held=False), taken_out.id
        pool = "any" if draw < 0.92 else rng.choice(["clinc150", "banking77", "sgd", "bank", "domains"])
        stranger = rng.choice(self.pools[pool])
        if stranger.id in present or self.related.get(stranger.id, frozenset()) & present:
            return None
        return talk.of_kind(stranger, None, rng, held=False), stranger.id

    def _taken_out(self, present: frozenset[str], rng: random.Random) -> Kind | None:
        """A kind near to one of the table that is not in it, of a source whose kinds exclude one another."""
        beside = self.trained.get(rng.choice(sorted(present)))
        if beside is None or (beside.source not in EXCLUSIVE and beside.source != beside.domain):
            return None
        near = [k for k in sorted(beside.near) if k in self.trained and k not in present]
        return self.trained[rng.choice(near)] if near else None

    def describe(self, subjects: list[Subject], rng: random.Random) -> list[str]:
        """Texts of routes for these subjects, in one way of writing names and of describing picked for the table."""
        style = rng.choice(STYLES)
        way = rng.random()
        # Names alone are as often written in words as in code style.
        if way < _NAME_ONLY and rng.random() < 0.5:
            style = rng.choice(["spaces", "keep", "title"])
        terse = way < _NAME_ONLY and rng.random() < _TERSE_NAMES
        taken = {OTHER}
        texts: list[str] = []
        for subject in subjects:
            named = replace(subject, names=subject.names[:1]) if terse else subject
            name = _free_name(named, lambda name: restyle(name, style), taken, rng)
            description = ""
            if way >= _NAME_ONLY:
                description = self._description(subject, rng, way > 1 - _WITH_EXAMPLES)
                if _NAME_ONLY <= way < _NAME_ONLY + _OPAQUE_NAMES:
                    name = _free_name(subject, lambda _: f"{rng.choice(_OPAQUE)}_{rng.randrange(100)}", taken, rng)
            taken.add(name)
            texts.append(route_text(Route(name, description)))
        return texts

    def _description(self, subject: Subject, rng: random.Random, with_examples: bool) -> str:
        text = rng.choice(subject.descriptions)
        if with_examples:
            members = [self.trained[k] for k in sorted(subject.kinds) if k in self.trained and self.trained[k].train]
            if members:
                kinds = [rng.choice(members) for _ in range(rng.choice([1, 2, 3]))]
                quoted = ", ".join(f"'{kind.request(rng, held=False)[:80]}'" for kind in kinds)
                text = rng.choice(["e.g. {}", "{}", "messages like {}", "such as {}", text + ", for example {}"]).format(quoted)
        if rng.random() < 0.4:
            text = (str.upper if rng.random() < 0.5 else str.lower)(text[:1]) + text[1:]
        return text.rstrip(".") + "." if rng.random() < 0.15 else text


def finished_talk(about: Sequence[Kind], rng: random.Random, held: bool) -> talk.Messages:
    """A conversation about these kinds, one after the other, that ends with thanks for all of it."""
    messages: talk.Messages = []
    for kind in about:
        part = talk.finished(kind, rng, held)
        answer_with_words(part, kind, rng)
        messages = [*messages[:-1], *part]
    return messages


def answer_with_words(messages: talk.Messages, kind: Kind, rng: random.Random) -> None:
    """Let the last answer of a conversation on `kind` say something of its subject, more often than not."""
    if rng.random() < _ANSWER_HAS_WORDS and kind.train:
        messages[-2] = {**messages[-2], "content": f"{messages[-2]['content']} {kind.request(rng, held=False)}"}


def _free_name(subject: Subject, write: Callable[[str], str], taken: set[str], rng: random.Random) -> str:
    for _ in range(_TRIES):
        name = write(rng.choice(subject.names))
        if name not in taken:
            return name
    return f"{name} {len(taken)}"
