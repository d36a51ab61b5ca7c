"""Route tables and labelled conversations, drawn at random from the kinds.

A table mixes kinds that are easy to confuse with kinds that are not, under names and descriptions picked per table. `other` is
the answer if the table has neither the message's kind nor one close to it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from training.tiny import conversations as talk
from training.tiny.card_prompt import OTHER
from training.tiny.kinds_bank import Kind
from training.tiny.noise import STYLES, restyle
from training.tiny.public_data import words_of

CARD_KINDS = ["code_generation", "bug_fixing", "performance_optimization", "api_help", "programming"]
# Banks of work-like requests: messages to a voice assistant or a bank never belong to one of their kinds.
_WORK_BANKS = {"coding", "coding2", "writing", "office"}
# Intents that a work-like kind (planning, e-mail, translation, explaining) might claim.
_AMBIGUOUS = {
    "calculator", "definition", "spelling", "measurement_conversion", "date", "time", "text", "schedule_meeting",
    "meeting_schedule", "calendar", "calendar_update", "reminder", "reminder_update", "todo_list", "todo_list_update",
    "taxes", "fun_fact", "tell_joke", "improve_credit_score", "change_language", "meaning_of_life", "repeat",
    "oil_change_how", "jump_start", "tire_change", "shopping_list", "shopping_list_update", "cancel", "yes", "no", "maybe",
    "what_can_i_ask_you", "what_is_your_name",
}  # fmt: skip
# Kinds that chatter or thanks could belong to.
CHAT_KINDS = {
    "greeting", "goodbye", "thank_you", "yes", "no", "maybe", "cancel", "repeat", "are_you_a_bot", "what_is_your_name",
    "what_can_i_ask_you", "tell_joke", "fun_fact", "do_you_have_pets", "how_old_are_you", "where_are_you_from",
    "who_made_you", "what_are_your_hobbies", "who_do_you_work_for", "change_volume", "whisper_mode", "play_music",
    "joke_humour", "roleplay_character", "weather_news", "weather", "relationship_advice", "user_name",
}  # fmt: skip
# Kinds whose whole message is a short reply: "yes" cannot mean "stay on the route" beside them.
SHORT_INTENTS = {"yes", "no", "maybe", "cancel", "repeat"}


@dataclass
class Case:
    """A route table and conversations with the name of the route that each belongs to.

    A route's `about` is the description of its kind that its own was made of; so is a message's `phrasing`, where it has one.
    """

    routes: list[dict[str, str]]
    conversations: list[talk.Messages]
    labels: list[str]
    source: str


@dataclass
class Sampler:
    """Draws cases. `held` picks held-back phrasings; `excluded` kinds appear neither in tables nor in messages."""

    kinds: dict[str, Kind]
    out_of_scope: list[str] = field(default_factory=list)
    held: bool = False
    excluded: frozenset[str] = frozenset()
    other_share: float = 0.15

    def __post_init__(self) -> None:
        self.by_source: dict[str, list[Kind]] = {}
        for kind in self.kinds.values():
            if kind.id not in self.excluded and (kind.train or kind.dialogues):
                group = kind.source if kind.source in ("clinc150", "banking77", "sgd") else "bank"
                self.by_source.setdefault(group, []).append(kind)
        self.work = [k for k in self.by_source.get("bank", []) if k.source in _WORK_BANKS]
        self.errands = [
            k
            for source in ("clinc150", "banking77", "sgd")
            for k in self.by_source.get(source, [])
            if k.id.split("/")[-1] not in _AMBIGUOUS
        ]

    def case(self, rng: random.Random, source: str, count: int) -> Case:
        """A table of `source` (bank, card, clinc150, banking77, sgd, mixed) with `count` conversations."""
        if source == "card":
            chosen = [self.kinds[k] for k in CARD_KINDS]
            routes = [{"name": k.names[0], "description": k.descriptions[0], "about": k.descriptions[0]} for k in chosen]
            if rng.random() < 0.5:
                order = rng.sample(range(5), 5)
                chosen, routes = [chosen[i] for i in order], [routes[i] for i in order]
        else:
            chosen = self._choose(rng, source)
            routes = self.describe(chosen, rng)
        talks: list[talk.Messages] = []
        labels: list[str] = []
        short_replies = not any(k.id.split("/")[-1] in SHORT_INTENTS for k in chosen)
        order = rng.sample(range(len(chosen)), len(chosen))
        while len(talks) < count:
            absent = self._absent(chosen, rng) if rng.random() < self.other_share else None
            if absent is not None:
                talks.append(absent)
                labels.append(OTHER)
                continue
            index = order[len(talks) % len(order)] if rng.random() < 0.7 else rng.randrange(len(chosen))
            before = rng.choice(chosen) if rng.random() < 0.7 else None
            if before is chosen[index] or (before is not None and before.dialogues):
                before = None
            talks.append(talk.of_kind(chosen[index], before, rng, self.held, short_replies))
            labels.append(routes[index]["name"])
        return Case(routes, talks, labels, source)

    def _choose(self, rng: random.Random, source: str) -> list[Kind]:
        size = rng.choice([1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 7, 8, 9, 10])
        if source == "mixed":
            size = max(size, 2)
            some = rng.randrange(1, size)
            pool = rng.sample(self.work, min(some, len(self.work)))
            group = rng.choice(["clinc150", "banking77", "sgd"])
            errands = [k for k in self.errands if k.source == group]
            return pool + rng.sample(errands, min(size - len(pool), len(errands)))
        pool = self.by_source[source]
        first = rng.choice(pool)
        chosen = [first]
        near = [k for k in pool if k.id in first.near]
        if near and rng.random() < 0.6:
            chosen += rng.sample(near, min(rng.randrange(1, size + 1), len(near), max(size - 1, 0)))
        rest = [k for k in pool if k not in chosen]
        chosen += rng.sample(rest, min(max(size - len(chosen), 0), len(rest)))
        return rng.sample(chosen, len(chosen))

    def describe(self, chosen: list[Kind], rng: random.Random) -> list[dict[str, str]]:
        """Routes for the chosen kinds, under names and descriptions picked for this table."""
        style = rng.choice(STYLES)
        mixed_styles = rng.random() < 0.1
        opaque = rng.random() < 0.05
        way = rng.random()
        routes: list[dict[str, str]] = []
        taken = {OTHER}
        for index, kind in enumerate(chosen):
            for _ in range(20):
                name = restyle(rng.choice(kind.names), rng.choice(STYLES) if mixed_styles else style)
                if name not in taken:
                    break
            else:
                name = f"{name}_{index}"
            if opaque:
                name = f"{['route', 'option', 'team', 'r', 'class'][len(taken) % 5]}_{rng.randrange(1000)}"
            taken.add(name)
            about = rng.choice(kind.descriptions)
            routes.append({"name": name, "description": self._description(kind, about, rng, way, opaque), "about": about})
        return routes

    def _description(self, kind: Kind, text: str, rng: random.Random, way: float, opaque: bool) -> str:
        if way < 0.04 and not opaque:
            return rng.choice(["", words_of(rng.choice(kind.names))])
        if way < 0.16 and kind.train:
            examples = [kind.fill(t, rng)[:90] for t in rng.sample(kind.train, min(rng.choice([1, 2, 3]), len(kind.train)))]
            quoted = ", ".join(f"'{e}'" for e in examples)
            text = rng.choice(["e.g. {}", "{}", "messages like {}", "such as {}", text + ", for example {}"]).format(quoted)
        if rng.random() < 0.25:
            text = text[:1].lower() + text[1:]
        elif rng.random() < 0.25:
            text = text[:1].upper() + text[1:]
        if rng.random() < 0.12:
            text = text.rstrip(".") + "."
        return text

    def _absent(self, chosen: list[Kind], rng: random.Random) -> talk.Messages | None:
        """A conversation that fits none of the chosen kinds, or None if this draw found none."""
        sources = {k.source for k in chosen}
        quiet = not any(k.id.split("/")[-1] in CHAT_KINDS for k in chosen)
        draw = rng.random()
        if draw < 0.14:
            kind = rng.choice(chosen)
            return talk.finished(kind, rng, self.held) if quiet else None
        if draw < 0.24:
            return talk.chatter(rng, self.held) if quiet else None
        if draw < 0.32 and "clinc150" in sources and self.out_of_scope and len(sources) == 1:
            return [{"role": "user", "content": rng.choice(self.out_of_scope)}]
        public = [k.source for k in chosen if k.source in ("clinc150", "banking77", "sgd")]
        if self.errands and ((draw < 0.55 and sources <= _WORK_BANKS) or 0 < len(public) < len(chosen)):
            stranger = rng.choice(self.errands)
        elif draw < 0.55 and len(public) == len(chosen) and self.work:
            stranger = rng.choice(self.work)
        else:
            stranger = rng.choice(self.by_source[public[0] if public else "bank"])
        present = {k.id for k in chosen}
        if stranger.id in present or stranger.near & present or any(stranger.id in k.near for k in chosen):
            return None
        if "programming" in present and stranger.source in ("coding", "coding2"):
            return None
        return talk.of_kind(stranger, None, rng, self.held)
