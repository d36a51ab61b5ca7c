"""Tables for the encoder's training: what is called right is right, and what is called wrong is not right after all."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from archroute_edge.conversation import read_messages
from training.mini.batches import collate
from training.mini.catalogue import Catalogue, build_catalogue, is_general, tells_difficulty
from training.mini.pairs import Pairs, draw_pairs
from training.mini.tables import EXCLUSIVE, SOURCES, Table, TableSampler
from training.mini.tool_tables import AGENTS, TERSE
from training.tiny.public_data import PublicData


def tables(catalogue: Catalogue) -> list[Table]:
    rng = random.Random(3)
    sampler = TableSampler(catalogue, {k.id: frozenset(k.near) for k in catalogue.kinds.values()})
    return [sampler.table(rng, source, 10) for source in SOURCES for _ in range(12)]


def test_a_label_is_the_one_route_its_kind_belongs_to(steered: Catalogue) -> None:
    """A message that two routes of its table could claim would teach the model noise."""
    for table in tables(steered):
        assert len(table.routes) == len(table.subjects) == len(set(table.routes))
        for name, label in zip(table.kinds, table.labels, strict=True):
            owners = [number for number, subject in enumerate(table.subjects) if name in subject.kinds]
            assert owners == ([] if label == len(table.routes) else [label])


def test_a_near_kind_is_answered_by_other_only_if_the_routes_exclude_it(steered: Catalogue) -> None:
    """Intents of one domain exclude one another. Otherwise an absent sibling is a matter of taste, and nothing is taught."""
    taken_out = 0
    for table in tables(steered):
        single = all(subject.kinds == {subject.id} for subject in table.subjects)
        present = {name for subject in table.subjects for name in subject.kinds}
        for name, label in zip(table.kinds, table.labels, strict=True):
            if name and label == len(table.routes) and steered.kinds[name].near & present:
                kind = steered.kinds[name]
                assert single and (kind.source in EXCLUSIVE or kind.source == kind.domain)
                taken_out += 1
    assert taken_out > 20


def test_what_is_held_out_never_takes_part(steered: Catalogue) -> None:
    """Otherwise the figures that steer the training would flatter it."""
    assert {"clinc150/work_0", "sgd/Homes.Do1", "telecom/roaming", "regex", "hwu64/email_query"} <= steered.held_out
    seen = {name for table in tables(steered) for name in table.kinds}
    assert seen.isdisjoint(steered.held_out)
    said = {messages[-1]["content"] for table in tables(steered) for messages in table.conversations}
    assert said.isdisjoint([*steered.held_closings, *steered.held_scopeless]) and not said.isdisjoint(steered.closings)
    routed = {name for table in tables(steered) for s in table.subjects if len(s.kinds) == 1 for name in s.kinds}
    assert routed.isdisjoint(steered.held_out)


def test_of_every_source_something_is_held_out(steered: Catalogue) -> None:
    """The sets that steer ask about tools, narrow intents, a bank and a home assistant, none of them ever trained on."""
    held = [steered.kinds[name] for name in steered.held_out]
    for source in ("clinc150", "banking77", "sgd", "hwu64", "metatool", "tools", "narrow", AGENTS, TERSE):
        trained = sum(kind.source == source for kind in steered.kinds.values()) - sum(kind.source == source for kind in held)
        assert 0 < sum(kind.source == source for kind in held) < trained


def test_a_table_of_ours_is_held_out_as_a_whole(steered: Catalogue) -> None:
    """Beside a trained rival a held-out route would be known by what it is not."""
    said = {messages[-1]["content"] for table in tables(steered) for messages in table.conversations}
    held = 0
    for table in steered.own_tables:
        out = {kind.id in steered.held_out for kind in table.kinds}
        assert len(out) == 1
        if out == {True}:
            held += 1
            own = {*table.none, *(text for kind in table.kinds for text in kind.train)}
            # A word or two, such as "next", are said of many things.
            assert {text for text in said & own if len(text.split()) > 2} == set()
    assert held >= 10


def test_requests_near_to_a_table_of_ours_fit_none_of_its_routes(steered: Catalogue) -> None:
    near = [*(table.none for table in steered.own_tables), *steered.strangers.values()]
    strangers = {text for texts in near for text in texts}
    drawn = [table for table in tables(steered) if table.strangers]
    answered = [
        label == len(table.routes)
        for table in drawn
        for messages, label in zip(table.conversations, table.labels, strict=True)
        if messages[-1]["content"] in strangers
    ]
    assert answered and all(answered)
    for table in steered.own_tables:
        assert set(table.none).isdisjoint(text for kind in table.kinds for text in [*kind.train, *kind.held])


def test_requests_near_to_a_domain_are_of_a_domain_and_none_of_its_kinds(steered: Catalogue) -> None:
    domains = {domain.id: domain for domain in steered.schemes["departments"]}
    assert steered.strangers.keys() == domains.keys()
    for name, texts in steered.strangers.items():
        kinds = [steered.kinds[identity] for identity in domains[name].kinds]
        assert len(texts) >= 6 and set(texts).isdisjoint(text for kind in kinds for text in [*kind.train, *kind.held])


def test_wordings_of_a_schema_become_names_of_its_intents(steered: Catalogue) -> None:
    kind = steered.kinds["sgd/Hotels.Do1"]
    assert "reserve room" in kind.names and "Books a room (Rooms and more)" in kind.descriptions


def test_a_training_on_everything_holds_nothing_out(public: PublicData, data: Path) -> None:
    catalogue = build_catalogue(public, data, steer=False)
    assert catalogue.held_out == catalogue.languages.held_out == frozenset()


def test_a_category_without_members_is_refused(public: PublicData, data: Path) -> None:
    """A misspelt member would silently empty a category."""
    without = PublicData({k: v for k, v in public.kinds.items() if v.domain != "meta"}, [], [])
    with pytest.raises(ValueError, match="meta: no kind among its members"):
        build_catalogue(without, data, steer=False)


def test_a_batch_calls_no_possible_answer_wrong(steered: Catalogue) -> None:
    """Routes of other tables are wrong answers only where they cannot be right; the right one is in the own table."""
    found = [table for table in tables(steered) if table.conversations][:8]
    related = {k.id: frozenset(k.near) for k in steered.kinds.values()}
    batch = collate(found, related)
    assert not (batch.own & batch.foreign).any()
    names = [name for table in found for name in table.kinds]
    subjects = [subject for table in found for subject in table.subjects]
    for row, name in enumerate(names):
        if batch.target[row] >= 0:
            assert batch.own[row, batch.target[row]]
            assert name in subjects[batch.target[row]].kinds
        for column in np.flatnonzero(batch.foreign[row]):
            assert name and not subjects[column].kinds & (related[name] | {name})


def test_every_request_is_easy_or_hard(steered: Catalogue) -> None:
    """Of the routes that tell how much work a request is, one is right for each: none is `other`, in its table or beside it."""
    by_difficulty = [table for table in tables(steered) if tells_difficulty(table.subjects[0].id)]
    assert len(by_difficulty) == 12
    for table in by_difficulty:
        n_routes = len(table.routes)
        assert n_routes in (2, 3)
        assert all(not name for name, label in zip(table.kinds, table.labels, strict=True) if label == n_routes)
        other = next(table for table in tables(steered) if any(table.kinds))
        assert not collate([table, other], {}).foreign[:, :n_routes].any()


def test_a_general_route_takes_what_the_others_leave(steered: Catalogue) -> None:
    """Of its domain alone; what fits no route is then no request of the domain, nor one of another, which it could claim."""
    general = [table for table in tables(steered) if is_general(table.subjects[-1].id)]
    assert len(general) == 12
    taken = 0
    for table in general:
        *others, rest = table.subjects
        domain = rest.id.removeprefix("general=")
        members = {name for name, kind in steered.kinds.items() if kind.domain == kind.source == domain}
        assert rest.kinds == members - {name for subject in others for name in subject.kinds} - steered.held_out
        assert all(not name for name, label in zip(table.kinds, table.labels, strict=True) if label == len(table.routes))
        taken += table.labels.count(len(others))
    assert taken > 5


def test_a_pair_is_a_request_and_its_own_route_and_no_possible_answer_counts_as_wrong(steered: Catalogue) -> None:
    """The kinds of a pair are found again by their texts: each phrasing of the public kinds here names its kind."""
    alike = {"clinc150/home_0": frozenset({"clinc150/utility_1"}), "clinc150/utility_1": frozenset({"clinc150/home_0"})}
    sampler = TableSampler(steered, {k.id: alike.get(k.id, frozenset()) | k.near for k in steered.kinds.values()})
    drawn = [draw_pairs(sampler, 64, random.Random(seed)) for seed in range(40)]
    public = [pairs for pairs in drawn if any(request.startswith("clinc150/") for request in pairs.requests)]
    assert public and len(drawn) > len(public)
    for pairs in drawn:
        assert len(pairs.requests) == len(pairs.routes) == len(pairs.open)
        assert not pairs.open.diagonal().any() and (pairs.open == pairs.open.T).all()
        same = np.array(pairs.routes)[:, None] == np.array(pairs.routes)[None, :]
        assert (pairs.open | ~same | np.eye(len(same), dtype=bool)).all()
    for pairs in public:
        _check_public(pairs)


def _check_public(pairs: Pairs) -> None:
    kinds = [request.split(" request ")[0].split("/")[-1] for request in pairs.requests]
    touched = [number for number, kind in enumerate(kinds) if pairs.routes[number].split(":")[0] != kind.replace("_", " ")]
    assert len(touched) < len(kinds) / 3  # Noise may have hit the word that names the kind.
    row, column = kinds.index("home_0"), kinds.index("utility_1")
    assert pairs.open[row, column]
    assert not pairs.open[row, kinds.index("home_1")]


def test_a_finished_conversation_belongs_to_none_of_its_routes(steered: Catalogue) -> None:
    """Whatever it was about: a routed message that asks for nothing starts work that nobody wants."""
    closings = set(steered.closings)
    ends = [
        (table.kinds[number], table.labels[number] == len(table.routes), messages)
        for table in tables(steered)
        for number, messages in enumerate(table.conversations)
        if messages[-1]["content"] in closings
    ]
    assert any(len(messages) > 4 for _, _, messages in ends)
    for kind, other, messages in ends:
        assert (kind, other) == ("", True)
        assert [message["role"] for message in messages[-2:]] == ["assistant", "user"]


def test_conversations_are_ones_that_a_router_reads(steered: Catalogue) -> None:
    for table in tables(steered):
        for messages in table.conversations:
            assert read_messages(messages)[-1].role == "user"
