"""How often decisions are right: shares with their intervals, figures of each route, confusions, and scores of conversations.

Pure functions over what was expected and what was decided. Routes of different tables that have one name count as one
route: a name is all that a decision gives.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from archroute_edge.evaluation._cases import Case

_Z_95: Final = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Share:
    """So many of so many, with the 95 % interval of the share (Wilson's); of nothing, the share is None."""

    right: int
    total: int

    @property
    def share(self) -> float | None:
        """``right / total``."""
        return self.right / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """See :func:`wilson_interval`."""
        return wilson_interval(self.right, self.total)


@dataclass(frozen=True)
class RouteFigures:
    """How well one route is told apart. A figure is None where it is a division by zero.

    ``expected`` and ``decided`` count the cases of which that is the right and the decided route, ``right`` those of both.
    """

    route: str
    expected: int
    decided: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of what was sent to the route that belongs there."""
        return self.right / self.decided if self.decided else None

    @property
    def recall(self) -> float | None:
        """Share of what belongs to the route that was sent there."""
        return self.right / self.expected if self.expected else None

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, as 2 TP / (2 TP + FP + FN), which is 0 where one of them is undefined."""
        return 2 * self.right / (self.expected + self.decided)


@dataclass(frozen=True)
class Confusion:
    """``count`` cases of route ``expected`` were sent to ``decided``; ``cases`` are their places in the sequence given."""

    expected: str
    decided: str
    count: int
    cases: tuple[int, ...]


@dataclass(frozen=True)
class ConversationScores:
    """The three scores of the Arch-Router paper for conversations: turns, spans and whole conversations that are right."""

    turns: Share
    spans: Share
    conversations: Share


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share: Wilson's score interval, without correction for continuity.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927):
    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). Of no cases it is 0 to 1.
    """
    if total == 0:
        return 0.0, 1.0
    share, z2 = right / total, _Z_95**2
    middle = share + z2 / (2 * total)
    half = _Z_95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    scale = 1 + z2 / total
    # At none and at all the bound is 0 and 1 exactly, which rounding may miss.
    low = 0.0 if right == 0 else (middle - half) / scale
    high = 1.0 if right == total else (middle + half) / scale
    return low, high


def accuracy(expected: Sequence[str], decided: Sequence[str]) -> Share:
    """Share of decisions that are the expected one."""
    return Share(sum(one == two for one, two in zip(expected, decided, strict=True)), len(expected))


def accuracy_by_tag(tags: Iterable[Sequence[str]], expected: Sequence[str], decided: Sequence[str]) -> dict[str, Share]:
    """:func:`accuracy` over the cases of each tag, tags in alphabetical order; a case counts under each of its tags."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for names, one, two in zip(tags, expected, decided, strict=True):
        for name in dict.fromkeys(names):
            total[name] += 1
            right[name] += one == two
    return {name: Share(right[name], total[name]) for name in sorted(total)}


def figures_by_route(expected: Sequence[str], decided: Sequence[str]) -> list[RouteFigures]:
    """Precision, recall and F1 of every name that was expected or decided, the most often expected first.

    Routes of different tables are pooled by name.
    """
    wanted, given = Counter(expected), Counter(decided)
    right = Counter(one for one, two in zip(expected, decided, strict=True) if one == two)
    names = sorted(wanted.keys() | given.keys(), key=lambda name: (-wanted[name], -given[name], name))
    return [RouteFigures(name, wanted[name], given[name], right[name]) for name in names]


def macro_f1(figures: Sequence[RouteFigures]) -> float | None:
    """Mean F1 over the routes that were expected or decided, each counting as much as any other.

    Sokolova and Lapalme, "A systematic analysis of performance measures for classification tasks", 2009; averaged as F1 of
    each class, not as F1 of averaged precision and recall.
    """
    return float(np.mean([each.f1 for each in figures])) if figures else None


def confusion_counts(expected: Sequence[str], decided: Sequence[str]) -> dict[str, dict[str, int]]:
    """``counts[expected][decided]``, without zeros."""
    counts: dict[str, dict[str, int]] = {}
    for (one, two), count in Counter(zip(expected, decided, strict=True)).items():
        counts.setdefault(one, {})[two] = count
    return counts


def worst_confusions(expected: Sequence[str], decided: Sequence[str], most: int = 10) -> list[Confusion]:
    """The ``most`` frequent pairs of an expected and another decided route, with the places of their cases."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(zip(expected, decided, strict=True)):
        if pair[0] != pair[1]:
            places.setdefault(pair, []).append(place)
    found = [Confusion(*pair, len(cases), tuple(cases)) for pair, cases in places.items()]
    return sorted(found, key=lambda each: (-each.count, each.expected, each.decided))[:most]


def folded_confusions(counts: Mapping[str, Mapping[str, int]], most: int, rest: str) -> tuple[list[str], list[list[int]]]:
    """Names, most frequent first, and the square of counts [expected][decided]; the names beyond ``most`` become ``rest``."""
    frequency: Counter[str] = Counter()
    for one, row in counts.items():
        for two, count in row.items():
            frequency[one] += count
            frequency[two] += count
    names = sorted(frequency, key=lambda name: (-frequency[name], name))
    if len(names) > most:
        names = [*names[: most - 1], rest]
    index = {name: place for place, name in enumerate(names)}
    square = [[0] * len(names) for _ in names]
    for one, row in counts.items():
        for two, count in row.items():
            square[index.get(one, len(names) - 1)][index.get(two, len(names) - 1)] += count
    return names, square


def conversation_scores(cases: Sequence[Case], right: Sequence[bool]) -> ConversationScores | None:
    """Shares of turns, of spans and of whole conversations that are right; None where no case has a conversation.

    Arch-Router (Tran et al., "Arch-Router: Aligning LLM Routing with Human Preferences", 2025): a span is a maximal run of
    turns of one conversation on one route, and is right when all its turns are; so is a conversation. Where a turn has
    ``span``, that says which run it belongs to, else its expected route does. Turns are ordered by ``turn``, then by line.
    """
    conversations: dict[str, list[tuple[Case, bool]]] = {}
    for case, is_right in zip(cases, right, strict=True):
        if case.conversation_id is not None:
            conversations.setdefault(case.conversation_id, []).append((case, is_right))
    if not conversations:
        return None
    turns: list[bool] = []
    spans: list[bool] = []
    whole: list[bool] = []
    for members in conversations.values():
        members.sort(key=lambda member: (member[0].turn, member[0].line))
        before: tuple[str, str] | None = None
        for case, is_right in members:
            run = ("route", case.route) if case.span is None else ("span", case.span)
            if run == before:
                spans[-1] = spans[-1] and is_right
            else:
                spans.append(is_right)
            before = run
        turns += [is_right for _, is_right in members]
        whole.append(all(is_right for _, is_right in members))
    return ConversationScores(*(Share(sum(each), len(each)) for each in (turns, spans, whole)))
