"""The prompt that the training sees is the prompt that the router sends, token by token."""

from __future__ import annotations

import random

import pytest

from archroute_edge.conversation import Turn
from archroute_edge.prompts import prompt_format
from archroute_edge.routes import Route, RouteTable
from training.tiny import card_prompt
from training.tiny.packing import Packer, collate
from training.tiny.sampling import Case
from training.tiny.tokenizer import CONTROL, train_tokenizer

ROUTES = [
    {"name": "bug_fixing", "description": "Fixing errors."},
    {"name": "bug_report", "description": 'Writing "reports"'},
    {"name": "größe", "description": ""},
]
TALKS = [
    [{"role": "user", "content": 'it says "no}]"\n\n'}],
    [
        {"role": "user", "content": "hello é 🙂"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "fix </conversation> it"},
    ],
    [{"role": "user", "content": "thanks"}],
]
LABELS = ["bug_fixing", "größe", "other"]


@pytest.fixture(scope="module")
def packer() -> Packer:
    text = card_prompt.body(ROUTES, TALKS[1])
    return Packer(train_tokenizer([text, *(card_prompt.answer(name) for name in LABELS)] * 3, 420))


def test_body_is_the_routers_card_prompt() -> None:
    table = RouteTable(tuple(Route(route["name"], route["description"]) for route in ROUTES))
    for talk in TALKS:
        turns = [Turn(message["role"], message["content"]) for message in talk]
        assert card_prompt.body(ROUTES, talk) == prompt_format("card").render(table, turns)


@pytest.mark.parametrize("talk", TALKS)
def test_tokenizing_in_parts_gives_the_tokens_of_the_whole(packer: Packer, talk: list[dict[str, str]]) -> None:
    start, end = (packer._tokenizer.token_to_id(token) for token in CONTROL[1:])
    whole = [start, *packer.encode("user\n" + card_prompt.body(ROUTES, talk)), end]
    whole += [*packer.encode("\n"), start, *packer.encode("assistant\n")]
    assert packer.prompt(ROUTES, talk) == whole


def test_a_full_pack_is_prompts_that_share_their_table(packer: Packer) -> None:
    """Table and one conversation of a pack, by its segments and positions, are the prompt with its answer."""
    pack = packer.pack(Case(ROUTES, TALKS, LABELS, "x"), True, 9000, random.Random(5))
    assert pack is not None
    for number, (talk, label) in enumerate(zip(TALKS, LABELS, strict=True), start=1):
        ids = [t for t, segment in zip(pack.tokens, pack.segments, strict=True) if segment in (0, number)]
        whole = packer.prompt(ROUTES, talk)[: -len(packer.encode("assistant\n"))]
        reply = [*packer.encode("assistant\n" + card_prompt.answer(label)), packer._tokenizer.token_to_id("<|im_end|>")]
        assert ids == whole + reply


def test_positions_of_short_and_full_packs_agree(packer: Packer) -> None:
    """A short pack leaves tokens out and keeps every other token where the whole prompt has it."""
    case = Case(ROUTES, TALKS[:1], LABELS[:1], "x")
    short, full = (packer.pack(case, whole, 9000, random.Random(5)) for whole in (False, True))
    assert short is not None and full is not None and len(short.tokens) < len(full.tokens)
    where = dict(zip(full.positions, full.tokens, strict=True))
    assert all(where[position] == token for position, token in zip(short.positions, short.tokens, strict=True))
    assert short.positions[-1] == full.positions[-1]


def test_targets_are_the_answers_tokens_and_weigh_most_where_names_part(packer: Packer) -> None:
    pack = packer.pack(Case(ROUTES, TALKS[:1], LABELS[:1], "x"), False, 9000, random.Random(5))
    assert pack is not None
    for index, token, weight in pack.targets:
        assert pack.tokens[index + 1] == token and weight > 0
    # bug_fixing parts from the third name and `other` at its start, from bug_report after `bug`.
    assert sum(weight == 1.0 for _, _, weight in pack.targets) == 2


def test_pointers_lead_to_the_end_of_the_right_description(packer: Packer) -> None:
    pack = packer.pack(Case(ROUTES, TALKS, LABELS, "x"), False, 9000, random.Random(5))
    assert pack is not None
    ends = [target for _, target in pack.pointers]
    text = ["" if t == 0 else packer._tokenizer.decode(pack.tokens[: t + 1]) for t in ends]
    assert text[0].endswith('Fixing errors."}') or text[0].endswith('Fixing errors."},')
    assert '""}' in text[1] and ends[2] == 0


def test_senses_stand_at_the_end_of_a_route_and_where_the_answer_to_a_request_starts(packer: Packer) -> None:
    """What an encoder makes of a text is taught where the model decides by it, and nowhere else."""
    routes = [{**ROUTES[0], "about": "repairs"}, ROUTES[1], {**ROUTES[2], "about": "unread"}]
    talks = [[{**TALKS[0][0], "phrasing": "it says {x}"}], TALKS[1], [{**TALKS[2][0], "phrasing": "unread too"}]]
    knowing = Packer(packer._tokenizer, {"repairs": 7, "it says {x}": 3})
    pack = knowing.pack(Case(routes, talks, LABELS, "x"), False, 9000, random.Random(5))
    assert pack is not None
    plain = packer.pack(Case(ROUTES, TALKS, LABELS, "x"), False, 9000, random.Random(5))
    assert plain is not None and plain.senses == [] and plain.tokens == pack.tokens
    assert pack.senses == [(plain.pointers[0][1], 7), (plain.pointers[0][0], 3)]
    batch = collate([pack, pack], 2000)
    assert list(batch.sense_index) == [*(i for i, _ in pack.senses), *(2000 + i for i, _ in pack.senses)]
    assert list(batch.sense_row) == [7, 3, 7, 3]


def test_a_table_that_does_not_fit_gives_no_pack(packer: Packer) -> None:
    assert packer.pack(Case(ROUTES, TALKS, LABELS, "x"), False, 60, random.Random(5)) is None


def test_collate_pads_and_counts_through_the_batch(packer: Packer) -> None:
    packs = [packer.pack(Case(ROUTES, TALKS[:n], LABELS[:n], "x"), False, 9000, random.Random(5)) for n in (1, 2)]
    made = [pack for pack in packs if pack is not None]
    batch = collate(made, 600)
    assert batch.tokens.shape == (2, 600)
    assert (batch.segments[0, len(made[0].tokens) :] == -1).all()
    for index, token in zip(batch.target_index, batch.target_token, strict=True):
        assert batch.tokens.reshape(-1)[index + 1] == token
