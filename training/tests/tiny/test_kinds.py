"""The phrase banks and what is drawn from them."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from training.tiny.card_prompt import OTHER
from training.tiny.kinds_bank import Kind, held_back, load_banks
from training.tiny.noise import disturb, restyle
from training.tiny.questions import CARD_MESSAGES, card_questions, card_routes, tally
from training.tiny.sampling import CARD_KINDS, Sampler


@pytest.fixture(scope="module")
def banks() -> dict[str, Kind]:
    return load_banks()


def made_kind(name: str, near: set[str] | None = None) -> Kind:
    return Kind(
        id=name,
        source="banking77",
        names=[f"{name} route", f"{name} matters"],
        descriptions=[f"All about {name}"],
        train=[f"tell me about {name} number {n}" for n in range(9)],
        held=[f"what of {name}"],
        near=near or set(),
    )


def as_pattern(kind: Kind, template: str) -> str:
    """A regular expression for every message that a template can become, final punctuation aside."""
    pieces = re.split(r"(\{\{|\}\}|\{\w+\})", template)
    for number, piece in enumerate(pieces):
        fillers = kind.slots.get(piece.strip("{}")) if piece.startswith("{") else None
        pieces[number] = f"(?:{'|'.join(as_pattern(kind, f) for f in fillers)})" if fillers else re.escape(piece)
    return "".join(pieces).replace(r"\{\{", r"\{").replace(r"\}\}", r"\}")


def test_there_are_at_least_sixty_kinds_with_names_and_phrasings(banks: dict[str, Kind]) -> None:
    assert len(banks) >= 60
    for kind in banks.values():
        assert len(set(kind.names)) >= 8, kind.id
        assert len(set(kind.descriptions)) >= 10, kind.id
        assert len(kind.train) >= 30 and kind.held, kind.id


def test_nearness_goes_both_ways(banks: dict[str, Kind]) -> None:
    assert all(kind.id in banks[other].near for kind in banks.values() for other in kind.near)


def test_no_held_back_phrasing_is_trained_on(banks: dict[str, Kind]) -> None:
    trained = {template for kind in banks.values() for template in kind.train + kind.followups}
    held = {template for kind in banks.values() for template in kind.held + kind.held_followups}
    assert not trained & held
    assert all(held_back(template) for template in held)


def test_every_phrasing_can_be_filled(banks: dict[str, Kind]) -> None:
    rng = random.Random(1)
    for kind in banks.values():
        for template in kind.train + kind.held + kind.followups + kind.held_followups:
            assert kind.fill(template, rng).strip()


def test_a_doubled_brace_is_a_brace_and_a_filler_may_hold_slots() -> None:
    kind = made_kind("x")
    kind.slots = {"what": ["the {colour} one"], "colour": ["red"]}
    assert kind.fill("{{give}} {what}", random.Random(0)) == "{give} the red one"


def test_an_unknown_slot_names_file_and_kind(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(
        "kinds:\n- {kind: k, names: [a], descriptions: [b], requests: ['draw a {shape}']}\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"odd\.yaml.*'k'.*'shape'"):
        load_banks(tmp_path)


def test_a_kind_defined_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        text = "kinds:\n- {kind: k, names: [a], descriptions: [b], requests: [c]}\n"
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"b\.yaml.*twice"):
        load_banks(tmp_path)


@pytest.mark.parametrize("source", ["bank", "card"])
def test_cases_are_well_formed(banks: dict[str, Kind], source: str) -> None:
    """Labels are routes of the table or `other`, names are distinct, and the last turn is the user's."""
    sampler, rng = Sampler(banks), random.Random(3)
    seen = set()
    for _ in range(150):
        case = sampler.case(rng, source, 4)
        names = [route["name"] for route in case.routes]
        assert len(set(names)) == len(names) and OTHER not in names
        for messages, label in zip(case.conversations, case.labels, strict=True):
            assert label in [*names, OTHER]
            assert messages[-1]["role"] == "user" and messages[-1]["content"]
            seen.add(label == OTHER)
    assert seen == {True, False}


def test_no_other_where_a_near_kind_is_present() -> None:
    """With its near kind always in the table, a message is never called unroutable."""
    near = {"loans": made_kind("loans", {"credit"}), "credit": made_kind("credit", {"loans"})}
    sampler, rng = Sampler(near, other_share=0.9), random.Random(4)
    for _ in range(300):
        case = sampler.case(rng, "banking77", 1)
        said = case.conversations[0][0]["content"]
        if case.labels[0] == OTHER:
            assert len(case.conversations[0]) > 1 or not any(word in said for word in ("loans", "credit"))


def test_the_same_seed_gives_the_same_case(banks: dict[str, Kind]) -> None:
    first, second = (Sampler(banks).case(random.Random(8), "bank", 6) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("style", "name"),
    [
        ("snake", "find_my_bus"),
        ("kebab", "find-my-bus"),
        ("camel", "findMyBus"),
        ("pascal", "FindMyBus"),
        ("title", "Find My Bus"),
        ("upper", "FIND_MY_BUS"),
        ("keep", "FindMy-bus"),
    ],
)
def test_restyle(style: str, name: str) -> None:
    assert restyle("FindMy-bus", style) == name


def test_noise_never_empties_a_message() -> None:
    rng = random.Random(2)
    assert all(disturb(text, rng).strip() for text in ("?", "a", "hi there") for _ in range(200))


def test_card_messages_are_of_the_cards_routes_and_not_trained_on(banks: dict[str, Kind]) -> None:
    questions = card_questions(banks)
    names = [route["name"] for route in card_routes(banks)]
    assert names == CARD_KINDS
    assert len(questions) >= 60 and {q.label for q in questions} == {*names, OTHER}
    texts = [json.loads(line)["text"] for line in CARD_MESSAGES.read_text(encoding="utf-8").splitlines()]
    found = []
    for kind in banks.values():
        for template in kind.train + kind.followups:
            pattern = re.compile(as_pattern(kind, template.strip(" ?.!")) + "[ ?.!]*", re.IGNORECASE)
            found += [(text, template) for text in texts if pattern.fullmatch(text)]
    assert not found


def test_tally_counts_other_apart(banks: dict[str, Kind]) -> None:
    questions = [q for q in card_questions(banks) if q.label in ("bug_fixing", OTHER)]
    figures = tally(questions, ["bug_fixing"] * len(questions))["card messages"]
    bugs = sum(q.label == "bug_fixing" for q in questions)
    assert figures["right"] == bugs / len(questions)
    assert figures["other_right"] == 0.0 and figures["other_questions"] == len(questions) - bugs
