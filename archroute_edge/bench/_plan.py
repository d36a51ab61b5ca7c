"""What a benchmark measures, cut into parts that are done one by one and kept one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from archroute_edge.bench._levels import Contender
from archroute_edge.conversation import DEFAULT_BUDGET
from archroute_edge.engine import DEFAULT_KV_TYPE
from archroute_edge.evaluation import Case, cases_digest

CALLERS: Final = (1, 4, 16)
"""How many threads share one router when decisions a second are counted."""

SWEEP_ROUNDS: Final = 3

LONGEST_SWEEP_S: Final = 900.0
"""A sweep that would take longer over all levels is made over the first alone."""

_LEAST_DECISIONS: Final = 4
_CHUNK: Final = 20
_SWEEP_DECISIONS: Final = 3
_SEEDS_A_ROUND: Final = 10_000

Kind = Literal["decide", "rates", "cold", "callers", "cases", "sweep"]
SweepKind = Literal["threads", "gpu_layers", "n_ctx", "kv_type", "flash_attention", "engine", "routes", "turns"]
SETTING_SWEEPS: Final[tuple[SweepKind, ...]] = ("threads", "gpu_layers", "n_ctx", "kv_type", "flash_attention", "engine")
"""Sweeps over a setting of the router."""

LOAD_SWEEPS: Final[tuple[SweepKind, ...]] = ("routes", "turns")
"""Sweeps over what it is given."""

Routes = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sweep:
    """One thing that is varied, and its values."""

    kind: SweepKind
    values: tuple[Any, ...]


@dataclass(frozen=True)
class LabelledCases:
    """Cases that quality is measured on, and where they are from in words."""

    source: str
    cases: Sequence[Case] = field(repr=False)


@dataclass(frozen=True)
class BenchPlan:
    """All that decides what a benchmark measures.

    Attributes:
        settings: what :class:`archroute_edge.Router` is given, routes and model apart.
        routes: names and descriptions.
        rounds: how often everything is measured over, the levels taking turns.
        decisions: conversations of two turns in each round.
        reference: label of the level that the others are compared with, if there are cases.
        together: whether the levels stay loaded side by side; else they are loaded in turn, once a round.
        notes: for a reader of the report.
    """

    contenders: tuple[Contender, ...]
    settings: Mapping[str, Any]
    routes: Routes
    rounds: int
    decisions: int
    cases: LabelledCases | None = None
    reference: str | None = None
    sweeps: tuple[Sweep, ...] = ()
    together: bool = True
    notes: tuple[str, ...] = ()

    @property
    def all_settings(self) -> dict[str, Any]:
        """The settings, with the defaults of language models for those that were not stated."""
        usual = {"budget": DEFAULT_BUDGET, "kv_type": DEFAULT_KV_TYPE}
        stated = {name: value for name, value in self.settings.items() if value is not None}
        return {**self.settings, **{name: stated.get(name, value) for name, value in usual.items() if name in self.settings}}

    def identity(self) -> dict[str, Any]:
        """What tells this run from any other, as JSON values."""
        return {
            "command": "bench",
            "contenders": [[each.label, each.identity] for each in self.contenders],
            "settings": self.all_settings,
            "routes": [list(each) for each in self.routes],
            "rounds": self.rounds,
            "decisions": self.decisions,
            "cases": cases_digest(self.cases.cases) if self.cases else None,
            "reference": self.reference,
            "sweeps": [[each.kind, list(each.values)] for each in self.sweeps],
        }


@dataclass(frozen=True)
class Part:
    """One request to one level.

    Attributes:
        what: tells it from the level's other parts of that kind and round.
    """

    kind: Kind
    contender: Contender
    round: int
    what: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"{self.kind}/{self.what}/{self.round}/{self.contender.label}"


def fit_together(contenders: Sequence[Contender], free: int) -> bool:
    """Whether a process for each level can stay loaded at once in ``free`` bytes, beside a fresh one."""
    # Repacked weights, the KV cache and the buffers of a large vocabulary take up to about a third; then there is Python.
    needs = [1.33 * each.n_bytes + (200 << 20) for each in contenders]
    return sum(needs) + max(needs) <= free


def main_parts(plan: BenchPlan) -> list[Part]:
    """The parts of the rounds, levels interleaved; then the cases.

    Every other round goes through the levels backwards, so that none is always the one that follows a pause.
    """
    parts: list[Part] = []
    for number in range(plan.rounds):
        order = plan.contenders if number % 2 == 0 else plan.contenders[::-1]
        kinds: list[Kind] = ["decide", "rates", "cold"]
        # Many decisions each, so not in every round.
        if number in (0, plan.rounds - 1):
            kinds.append("callers")
        pairs = [(k, c) for k in kinds for c in order] if plan.together else [(k, c) for c in order for k in kinds]
        for kind, each in pairs:
            parts += _round_parts(plan, kind, each, number)
    if plan.cases is not None:
        n_cases = len(plan.cases.cases)
        for each in plan.contenders:
            for start in range(0, n_cases, _CHUNK):
                stop = min(start + _CHUNK, n_cases)
                parts.append(Part("cases", each, 0, f"{start}", {"start": start, "stop": stop}))
    return parts


def _round_parts(plan: BenchPlan, kind: Kind, contender: Contender, number: int) -> Iterator[Part]:
    seed = number * _SEEDS_A_ROUND
    if kind == "decide":
        yield Part(kind, contender, number, "", {"seed": seed, "count": plan.decisions, "n_turns": 2, "primed": True})
    elif kind == "callers":
        for callers in CALLERS:
            count = max(callers, _LEAST_DECISIONS)
            yield Part(kind, contender, number, f"{callers}", {"seed": seed + 5000, "callers": callers, "count": count})
    else:
        yield Part(kind, contender, number, "", {"seed": seed + 9000})


def sweep_parts(sweep: Sweep, contenders: Sequence[Contender]) -> list[Part]:
    """The parts of one sweep: in each round every level at every value."""
    parts = []
    for number in range(SWEEP_ROUNDS):
        for each in contenders:
            for value in sweep.values if number % 2 == 0 else sweep.values[::-1]:
                seed = (100 + number) * _SEEDS_A_ROUND
                turns = value if sweep.kind == "turns" else 1
                arguments = {"seed": seed, "count": _SWEEP_DECISIONS, "n_turns": turns, "primed": True}
                parts.append(Part("sweep", each, number, f"{sweep.kind}={value}", arguments))
    return parts


def sweep_seconds(sweep: Sweep, plan: BenchPlan, figures: Mapping[str, tuple[float, float, float]]) -> float:
    """About how long a sweep over all levels takes.

    Args:
        figures: for each level milliseconds of loading, of the static prefix, and of a decision.
    """
    total = 0.0
    for load, prefix, decision in figures.values():
        for value in sweep.values:
            n_decisions = _SWEEP_DECISIONS + 1
            if sweep.kind == "turns":
                # Each conversation's earlier turns are evaluated as well, and once more for one that is new.
                total += n_decisions * decision * (2 + value / 2)
            else:
                share = value / len(plan.routes) if sweep.kind == "routes" else 1
                total += load + prefix * share + n_decisions * decision
    return SWEEP_ROUNDS * total / 1000
