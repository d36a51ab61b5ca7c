"""How many decisions change if the same is said otherwise."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from archroute_edge import OTHER, Route, RouteTable
from tools.measure.encoder_robustness import changes
from tools.measure.encoder_robustness.__main__ import main
from tools.measure.encoder_robustness.data import LANGUAGES, Data, load
from tools.measure.encoder_robustness.figures import markdown, row_of
from tools.measure.encoder_robustness.probes import REORDERED, Change, Probe, all_changes

TABLE = RouteTable([Route("code help", "Program code"), Route("travel_plans", "Trips"), Route("smallTalk", "Chat")])


@pytest.fixture(scope="module")
def data() -> Data:
    return load()


def test_what_was_written_by_hand_is_whole(data: Data) -> None:
    """A request without its paraphrases, or a language of which a sentence is missing, would be counted as steady."""
    assert len(data.written) == 120
    assert all(len({each.text, *each.paraphrases}) == 3 for each in data.written)
    assert Counter(len(each.translations) for each in data.written) == {0: 60, len(LANGUAGES): 60}
    assert all(set(each.translations) <= set(LANGUAGES) for each in data.written)
    assert {each.table for each in data.shipped} < {each.table for each in data.written}
    assert sum(each.route == OTHER for each in data.written) >= 6
    assert not {each.text for each in data.written} & {each.text for each in data.shipped}


def test_other_words_for_routes_are_whole(data: Data) -> None:
    for table, wording in data.wordings.items():
        assert set(wording.synonyms) == set(table.names)
        changes.renamed(table, wording.synonyms)
        assert not set(wording.synonyms.values()) & set(table.names)
    by_language = [wording.descriptions for wording in data.wordings.values() if wording.descriptions]
    assert len(by_language) == 4
    for table, wording in data.wordings.items():
        for descriptions in wording.descriptions.values():
            assert set(descriptions) == set(table.names)
            assert len(set(descriptions.values())) == len(table)
    assert all(set(each) == set(LANGUAGES) for each in by_language)


@pytest.mark.parametrize("text", ["Where is my parcel?", "ÄRGER mit git rebase", "aa", "7 × 8 = ?", ""])
def test_slips(text: str) -> None:
    """The same seed has the same slips, and two are one and another, so that the rows can be compared."""
    one, two = (changes.with_slips(text, number, seed=1) for number in (1, 2))
    assert one == changes.with_slips(text, 1, seed=1)
    assert changes.with_slips(one, 0, seed=1) == one
    if any(word.isascii() and word.isalpha() and len(word) > 1 for word in text.split()):
        assert text != one != two
        assert abs(len(one) - len(text)) <= 1
    else:
        assert text == one == two


def test_slips_of_another_seed_are_others() -> None:
    text = "please write a function that sorts a list of names"
    assert len({changes.with_slips(text, 3, seed) for seed in range(20)}) >= 19


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Don't, please: it's 3.5 (or 4)!", "Don't please it's 3.5 or 4"),
        ('What does "a - b" mean?', "What does a b mean"),
        ("no mark", "no mark"),
        ("?!", ""),
    ],
)
def test_without_punctuation(text: str, bare: str) -> None:
    assert changes.without_punctuation(text) == bare


@pytest.mark.parametrize(
    ("style", "names"),
    [
        ("snake_case", ("code_help", "travel_plans", "smallTalk")),
        ("kebab-case", ("code-help", "travel-plans", "smallTalk")),
        ("camelCase", ("codeHelp", "travelPlans", "smallTalk")),
    ],
)
def test_styles_of_names(style: str, names: tuple[str, ...]) -> None:
    written = changes.renamed(TABLE, {name: changes.STYLES[style](name) for name in TABLE.names})
    assert written.names == names
    assert [each.description for each in written] == [each.description for each in TABLE]


def test_another_order_has_the_same_routes_and_is_another() -> None:
    orders = [changes.shuffled(TABLE, str(seed)) for seed in range(8)]
    assert all(order != TABLE and set(order) == set(TABLE) for order in orders)
    assert len(set(orders)) > 1
    alone = RouteTable([Route("only")])
    assert changes.shuffled(alone, "1") == alone


def test_figures() -> None:
    """A route that is called otherwise is the same route; a change from wrong to wrong is one, too."""
    renamed = changes.renamed(TABLE, names := {"code help": "coding", "travel_plans": "trips", "smallTalk": "chat"})
    answers = {
        (TABLE, "right, right"): "travel_plans",
        (renamed, "right, right"): "trips",
        (TABLE, "right, wrong"): "travel_plans",
        (renamed, "right, wrong"): OTHER,
        (TABLE, "wrong, right"): "smallTalk",
        (renamed, "wrong, right"): "trips",
        (TABLE, "wrong, wrong"): "smallTalk",
        (renamed, "wrong, wrong"): "coding",
    }
    probes = [Probe((TABLE, text), (renamed, text), "travel_plans", names) for table, text in answers if table == TABLE]
    row = row_of(Change("renamed", "by hand", tuple(probes)), answers)
    counts = [(each.right, each.total) for each in (row.changed, row.right_before, row.right_after, row.stayed_right)]
    assert counts == [(3, 4), (2, 4), (2, 4), (1, 2)]
    assert list(markdown([row, row]))[2:] == [
        "| renamed | by hand | 4 | 75.0 % | 50.0 % | 50.0 % | 50.0 % |",
        "|  | by hand | 4 | 75.0 % | 50.0 % | 50.0 % | 50.0 % |",
    ]


def test_every_kind_of_change_asks_something_else(data: Data) -> None:
    """A change that changes nothing would be 0 % for any model."""
    found = all_changes(data, seed=1)
    assert len({change.kind for change in found}) == 7
    assert all(change.probes for change in found)
    assert all(probe.before != probe.after for change in found for probe in change.probes)
    assert all(
        set(probe.names) in (set(), set(probe.before[0].names)) and probe.right in {OTHER, *probe.before[0].names}
        for change in found
        for probe in change.probes
    )


@pytest.mark.usefixtures("tried_kernels")
def test_the_command(random_encoder: Path) -> None:
    """A model with random weights changes its mind over words, and over no order of the routes."""
    called = CliRunner().invoke(main, [str(random_encoder), "--no-shipped", "--every", "20", "--threads", "1", "--json"])
    assert called.exit_code == 0, called.stderr
    rows = json.loads(called.stdout)["changes"]
    changed = {(row["kind"], row["change"]): row["changed"] for row in rows}
    assert changed["paraphrased", "by hand"]["total"] == 12
    assert {shares["right"] for (kind, _), shares in changed.items() if kind == REORDERED} == {0}
    assert changed["request in another language", "all of these"]["right"] > 0
