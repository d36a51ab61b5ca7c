"""The questions that judge a model: held-back phrasings by source, the card's routes, kinds never trained on."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from training.tiny.card_prompt import OTHER
from training.tiny.conversations import of_kind
from training.tiny.kinds_bank import Kind
from training.tiny.sampling import CARD_KINDS, Sampler

CARD_MESSAGES = Path(__file__).parent / "card_messages.jsonl"
PLAIN_SOURCES = ("bank", "clinc150", "banking77")
SOURCES = ("bank", "card", "clinc150", "banking77", "sgd", "mixed")
SEED = 71


@dataclass(frozen=True)
class Question:
    """One decision to make, with the right answer and the group that its result is counted in."""

    routes: list[dict[str, str]]
    messages: list[dict[str, str]]
    label: str
    group: str


def card_routes(kinds: dict[str, Kind]) -> list[dict[str, str]]:
    """The five routes of Arch-Router's model card, in its order."""
    return [{"name": kinds[k].names[0], "description": kinds[k].descriptions[0]} for k in CARD_KINDS]


def card_questions(kinds: dict[str, Kind]) -> list[Question]:
    """Messages typed for the purpose and never trained on, over the card's routes."""
    routes = card_routes(kinds)
    rows = [json.loads(line) for line in CARD_MESSAGES.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Question(routes, [{"role": "user", "content": r["text"]}], r["route"], "card messages") for r in rows]


def held_back_questions(held: Sampler, source: str, count: int) -> list[Question]:
    """`count` questions of held-back phrasings, `other` among the answers, a new table for each."""
    rng = random.Random(f"{SEED} {source}")
    cases = [held.case(rng, source, 1) for _ in range(count)]
    return [Question(c.routes, c.conversations[0], c.labels[0], f"held back: {source}") for c in cases]


def plain_questions(held: Sampler, source: str, count: int) -> list[Question]:
    """`count` single messages of held-back phrasing as they stand, over five routes of their source drawn by chance."""
    rng = random.Random(f"{SEED} plain {source}")
    found: list[Question] = []
    while len(found) < count:
        chosen = rng.sample(held.by_source[source], 5)
        routes = [{"name": rng.choice(kind.names), "description": rng.choice(kind.descriptions)} for kind in chosen]
        asked = rng.randrange(5)
        if chosen[asked].held and len({route["name"] for route in routes}) == 5:
            message = chosen[asked].fill(rng.choice(chosen[asked].held), rng)
            found.append(Question(routes, [{"role": "user", "content": message}], routes[asked]["name"], f"plain: {source}"))
    return found


def unseen_questions(sampler: Sampler, unseen: frozenset[str], count: int) -> list[Question]:
    """`count` questions whose right route is of a kind that the training left out altogether, among five routes."""
    rng = random.Random(f"{SEED} unseen")
    found: list[Question] = []
    for _ in range(count):
        kind = sampler.kinds[rng.choice(sorted(unseen))]
        known = [k for k in sampler.by_source[kind.source] if k.id not in unseen]
        chosen = rng.sample([kind, *rng.sample(known, 4)], 5)
        routes = sampler.describe(chosen, rng)
        label = routes[chosen.index(kind)]["name"]
        found.append(Question(routes, of_kind(kind, None, rng, held=False), label, "unseen kinds"))
    return found


def tally(questions: list[Question], decisions: list[str]) -> dict[str, dict[str, float]]:
    """The number of questions and the share of right answers for each group, and the same for `other`."""
    groups: dict[str, list[tuple[Question, str]]] = {}
    for question, decision in zip(questions, decisions, strict=True):
        groups.setdefault(question.group, []).append((question, decision))
    result: dict[str, dict[str, float]] = {}
    for group, pairs in groups.items():
        right = [question.label == decision for question, decision in pairs]
        nothing = [question.label == decision for question, decision in pairs if question.label == OTHER]
        result[group] = {"questions": len(pairs), "right": sum(right) / len(right), "other_questions": len(nothing)}
        if nothing:
            result[group]["other_right"] = sum(nothing) / len(nothing)
    return result
