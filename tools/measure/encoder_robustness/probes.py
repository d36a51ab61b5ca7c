"""The questions: each request before and after a change that leaves its meaning as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from archroute_edge import Router, RouteTable
from tools.measure.encoder_robustness import changes
from tools.measure.encoder_robustness.data import LANGUAGES, Data, Request

Question = tuple[RouteTable, str]
"""A table and a message."""

REORDERED: Final = "routes in another order"
"""The kind of change that no decision may depend on."""

_SLIPS: Final = (1, 2, 3)
_ORDERS: Final = 2


@dataclass(frozen=True)
class Probe:
    """Two questions that ask the same; ``names`` are the new names of routes that are called otherwise in the second."""

    before: Question
    after: Question
    right: str
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """Probes of one change, such as two slips, which is of a kind, such as typing errors."""

    kind: str
    name: str
    probes: tuple[Probe, ...]


def all_changes(data: Data, seed: int) -> list[Change]:
    """Every change, in the order of the report. What a change leaves as it was is not asked again, and not counted."""
    return [
        Change(kind, name, tuple(each for each in probes if each.before != each.after))
        for kind, name, probes in _changes(data, seed)
    ]


def _changes(data: Data, seed: int) -> Iterator[tuple[str, str, Iterable[Probe]]]:
    plain = data.written + data.shipped
    yield "paraphrased", "by hand", [_said(each, text) for each in data.written for text in each.paraphrases]
    for number in _SLIPS:
        slips = f"{number} slip{'s' * (number > 1)}"
        yield "typing errors", slips, [_said(each, changes.with_slips(each.text, number, seed)) for each in plain]
    for name, change in _WRITTEN.items():
        yield "written otherwise", name, [_said(each, change(each.text)) for each in plain]
    shuffled = f"{_ORDERS} orders"
    yield REORDERED, shuffled, [_in_table(each, table) for each in plain for table in _orders(each.table, seed)]
    yield from _renamings(data, plain)
    yield from _languages(
        "descriptions in another language",
        lambda code: [
            _in_table(each, changes.described(each.table, data.wordings[each.table].descriptions[code]))
            for each in plain
            if each.table in data.wordings and code in data.wordings[each.table].descriptions
        ],
    )
    yield from _languages(
        "request in another language",
        lambda code: [_said(each, each.translations[code]) for each in data.written if code in each.translations],
    )


_WRITTEN: Final[Mapping[str, Callable[[str], str]]] = {
    "UPPER CASE": str.upper,
    "lower case": str.lower,
    "no punctuation": changes.without_punctuation,
}


def _orders(table: RouteTable, seed: int) -> list[RouteTable]:
    return [changes.shuffled(table, f"{seed} {number}") for number in range(_ORDERS)]


def _renamings(data: Data, plain: Sequence[Request]) -> Iterator[tuple[str, str, Iterable[Probe]]]:
    kind = "routes renamed"
    for style, write in changes.STYLES.items():
        yield kind, style, [_renamed(each, each.table, {name: write(name) for name in each.table.names}) for each in plain]
    with_synonyms = [each for each in plain if each.table in data.wordings]
    for name, table_of in (("synonyms", lambda table: table), ("synonyms, without descriptions", changes.names_alone)):
        yield kind, name, [_renamed(each, table_of(each.table), data.wordings[each.table].synonyms) for each in with_synonyms]


def _languages(kind: str, probes: Callable[[str], list[Probe]]) -> Iterator[tuple[str, str, Iterable[Probe]]]:
    by_language = {name: probes(code) for code, name in LANGUAGES.items()}
    yield kind, "all of these", [each for own in by_language.values() for each in own]
    for name, own in by_language.items():
        yield kind, name, own


def _said(request: Request, text: str) -> Probe:
    return Probe((request.table, request.text), (request.table, text), request.route)


def _in_table(request: Request, table: RouteTable) -> Probe:
    return Probe((request.table, request.text), (table, request.text), request.route)


def _renamed(request: Request, table: RouteTable, names: Mapping[str, str]) -> Probe:
    return Probe((table, request.text), (changes.renamed(table, names), request.text), request.route, names)


def ask(router: Router, asked: Iterable[Change], on_progress: Callable[[int, int], None]) -> dict[Question, str]:
    """The decided route of every question of the changes; each is decided once, those of a table after one another."""
    by_table: dict[RouteTable, dict[str, None]] = {}
    for change in asked:
        for probe in change.probes:
            for table, text in (probe.before, probe.after):
                by_table.setdefault(table, {})[text] = None
    total = sum(len(texts) for texts in by_table.values())
    answers: dict[Question, str] = {}
    for table, distinct in by_table.items():
        # One by one, as people ask: in a batch, rounding depends on the other messages.
        for text in distinct:
            answers[(table, text)] = router.route(text, routes=table).route
            on_progress(len(answers), total)
    return answers
