"""Running a router over labelled cases: a result a case, kept as soon as it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from archroute_edge.errors import ArchRouteError, CaseError
from archroute_edge.evaluation._cases import Case
from archroute_edge.evaluation._journal import Journal
from archroute_edge.routes import RouteTable
from archroute_edge.routing import Router


@dataclass(frozen=True)
class CaseResult:
    """What a router decided on one case; plain values, so that it can be kept as JSON.

    Attributes:
        line: the case's line in its file.
        scores: probability of every route and of ``other``; sums to 1.
        most_probable: the route of the highest probability; greedy decoding may decide for another.
        reason: the decision's: ``low_confidence`` if a calibration chose ``other``, else None.
        milliseconds: wall-clock time of the decision, the scores of all routes included.
        tokens: of the prompt; ``reused`` of them were in the cache, ``evaluated`` were put through the model.
        trimmed: whether the conversation was too long and parts were left out.
    """

    line: int
    expected: str
    decided: str
    confidence: float
    scores: Mapping[str, float]
    most_probable: str
    reason: str | None
    milliseconds: float
    tokens: int
    reused: int
    evaluated: int
    trimmed: bool

    @property
    def right(self) -> bool:
        """Whether the decision is the expected one."""
        return self.decided == self.expected

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values for ``json.dumps``."""
        return {**asdict(self), "scores": dict(self.scores)}


def evaluation_order(cases: Sequence[Case]) -> list[int]:
    """Places of the cases in the order that reuses most: by route table, in it by conversation, in it by turn.

    Tables and conversations come in the order of the file.
    """
    tables: dict[RouteTable, int] = {}
    conversations: dict[tuple[int, str], int] = {}
    keys = []
    for place, case in enumerate(cases):
        table = tables.setdefault(case.table, place)
        alone = case.conversation_id is None
        conversation = place if alone else conversations.setdefault((table, case.conversation_id or ""), place)
        keys.append((table, conversation, 0 if alone else case.turn, case.line, place))
    return [key[-1] for key in sorted(keys)]


def largest_table(cases: Sequence[Case]) -> RouteTable:
    """The table with the longest text: a router made with it does not have to grow its context for the others."""
    tables = (case.table for case in cases)
    return max(tables, key=lambda table: sum(len(route.name) + len(route.description) for route in table))


def cases_digest(cases: Sequence[Case]) -> str:
    """A SHA-256 (hex) over everything of ``cases`` that decides their results, and their lines."""
    digest = hashlib.sha256()
    for case in cases:
        table = [[route.name, route.description] for route in case.table]
        digest.update(json.dumps([case.line, case.messages, table, case.route], default=str).encode() + b"\n")
    return digest.hexdigest()


def evaluate(
    router: Router,
    cases: Sequence[Case],
    *,
    source: str = "cases",
    journal: Journal | None = None,
    run: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[CaseResult]:
    """Let ``router`` decide every case, with the probability of every route; a result a case, in the order of ``cases``.

    An interrupt goes through; what was finished is in the journal then (:func:`finished_results`).

    Args:
        router: its own routes are not looked at, only those of the cases.
        source: where they come from, for messages.
        journal: keeps every result; what it holds already is not run again.
        run: tells runs over the same cases apart within one journal.
        on_progress: called with the number of finished cases and of all, before the first and after each.

    Raises:
        CaseError: a case cannot be decided, for example because its routes do not fit; the message has its line.
    """
    results = finished_results(cases, journal, run) if journal is not None else {}
    if on_progress:
        on_progress(len(results), len(cases))
    for place in evaluation_order(cases):
        if place in results:
            continue
        case = cases[place]
        try:
            results[place] = _decide(router, case)
        except ArchRouteError as exc:
            raise CaseError(f"{source}:{case.line}: {exc}") from exc
        if journal is not None:
            journal.finish(_part(run, case), results[place].to_dict())
        if on_progress:
            on_progress(len(results), len(cases))
    return [results[place] for place in range(len(cases))]


def finished_results(cases: Sequence[Case], journal: Journal, run: str = "") -> dict[int, CaseResult]:
    """The results that ``journal`` holds, by place in ``cases``."""
    parts = ((place, _part(run, case)) for place, case in enumerate(cases))
    return {place: CaseResult(**journal[part]) for place, part in parts if part in journal}


def _part(run: str, case: Case) -> str:
    return f"{run}:{case.line}"


def _decide(router: Router, case: Case) -> CaseResult:
    decision = router.route(case.messages, routes=case.table, scores=True)
    scores = decision.scores or {}
    # Of several that are equally probable the decided one, if it is among them.
    most_probable = max(scores, key=lambda name: (scores[name], name == decision.route))
    return CaseResult(
        line=case.line,
        expected=case.route,
        decided=decision.route,
        confidence=decision.confidence,
        scores=dict(scores),
        most_probable=most_probable,
        reason=decision.reason,
        milliseconds=decision.timings.total_ms,
        tokens=decision.tokens.prompt,
        reused=decision.tokens.reused,
        evaluated=decision.tokens.evaluated,
        trimmed=decision.trimmed,
    )
