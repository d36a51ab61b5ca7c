"""What a benchmark found out, from the parts that were measured; a part that is missing leaves its figures None."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from archroute_edge.bench._levels import Contender
from archroute_edge.bench._plan import CALLERS, SETTING_SWEEPS, BenchPlan, Sweep, SweepKind, main_parts, sweep_parts
from archroute_edge.bench._recommendation import Figures, Recommendation, recommend
from archroute_edge.bench._run import sweep_contenders
from archroute_edge.bench._timing import NoiseVerdict, Times, are_told_apart, judge_noise
from archroute_edge.evaluation import CaseResult, equal, mean_kl_divergence
from archroute_edge.report import Share

_SETTINGS: Final = ("threads", "n_ctx", "flash_attention", "kv_type", "gpu_layers", "engine")


@dataclass(frozen=True)
class Quality:
    """How well a level decides labelled cases.

    Attributes:
        accuracy: share of right decisions.
        agreement: share of decisions that are the reference level's, None if that has decided none of them.
        mean_kl: mean KL divergence of the route distribution from the reference's, in nats.
        right: a case each, in the order of the run.
    """

    accuracy: Share
    agreement: Share | None
    mean_kl: float | None
    right: tuple[bool, ...]


@dataclass(frozen=True)
class LevelReport:
    """The answers of a level's process, by kind of part (and what tells parts of a kind apart), in the order of rounds.

    ``ratio`` is the median of the first turn over the fastest level's.
    """

    contender: Contender
    answers: Mapping[str, Sequence[Mapping[str, Any]]]
    quality: Quality | None = None
    ratio: float | None = None

    def times(self, kind: str, get: Callable[[Mapping[str, Any]], Any], what: str = "") -> Times | None:
        """What ``get`` finds in each answer, a number or several."""
        found = [get(answer) for answer in self.answers.get(f"{kind}/{what}", ())]
        rounds = tuple((each,) if isinstance(each, (int, float)) else tuple(each) for each in found if each is not None)
        return Times(rounds) if rounds else None

    @property
    def first_turn(self) -> Times | None:
        """Warm decisions on a new conversation of one message, in milliseconds."""
        return self.times("decide", lambda part: part["before_ms"])

    @property
    def callers(self) -> Mapping[int, Times]:
        """Decisions a second by the number of threads that ask."""
        found = {each: self.times("callers", lambda part: part["decisions_per_s"], str(each)) for each in CALLERS}
        return {each: times for each, times in found.items() if times is not None}

    @property
    def running(self) -> Mapping[str, Any]:
        """How the router ran: threads, context, flash attention, type of the KV cache, layers on the GPU."""
        first = next(iter(self.answers.get("cold/", ())), None)
        return {} if first is None else {name: first["without"][name] for name in _SETTINGS}

    def most(self, name: str) -> int | None:
        """The largest figure of that name of fresh processes up to their first decision without a saved prefix."""
        found = [answer["without"].get(name) for answer in self.answers.get("cold/", ())]
        return max((each for each in found if each is not None), default=None)


@dataclass(frozen=True)
class SweepPoint:
    """One value of a sweep at one level: the times of decisions there in milliseconds, or why there are none.

    ``unseen`` is for conversations: a conversation of that length of which nothing was evaluated before.
    """

    label: str
    kind: SweepKind
    value: Any
    times: Times | None
    unseen: Times | None
    evaluated: float | None
    peak_memory: int | None
    failed: str | None


@dataclass(frozen=True)
class SweepReport:
    """A curve for each level; ``note`` says where levels were left out."""

    kind: SweepKind
    points: tuple[SweepPoint, ...]
    note: str | None


@dataclass(frozen=True)
class BenchReport:
    """All that a benchmark found out."""

    machine: Mapping[str, Any]
    plan: BenchPlan
    levels: tuple[LevelReport, ...]
    noise: NoiseVerdict | None
    recommendation: Recommendation | None
    sweeps: tuple[SweepReport, ...]
    partial: bool
    notes: tuple[str, ...]

    @property
    def uses_ik(self) -> bool:
        """Whether ik_llama.cpp evaluated something: it was asked for, or was measured to be faster."""
        swept = (value for sweep in self.plan.sweeps if sweep.kind == "engine" for value in sweep.values)
        ran = (level.running.get("engine") for level in self.levels)
        return "ik" in (self.plan.settings.get("engine"), *swept, *ran)


def report_on(plan: BenchPlan, parts: Mapping[str, Any], machine: Mapping[str, Any]) -> BenchReport:
    """Make the report of what is there; it is partial where a part is missing."""
    main = main_parts(plan)
    levels = [_level(plan, parts, each) for each in plan.contenders]
    timed = {each.contender.label: each.first_turn for each in levels if each.first_turn is not None}
    fastest = min((times.p50 for times in timed.values()), default=None)
    if fastest:
        levels = [replace(each, ratio=each.first_turn.p50 / fastest) if each.first_turn else each for each in levels]
    sweeps, missing = [], any(part.key not in parts for part in main)
    for sweep in plan.sweeps:
        contenders, note = sweep_contenders(plan, sweep, parts)
        missing = missing or any(part.key not in parts for part in sweep_parts(sweep, contenders))
        sweeps.append(SweepReport(sweep.kind, tuple(_points(sweep, contenders, parts)), note))
    failed = [
        f"{sweep.kind.replace('_', ' ')} {each.value}: {each.failed}"
        for sweep in sweeps
        for each in sweep.points
        if each.failed is not None
    ]
    return BenchReport(
        machine,
        plan,
        tuple(levels),
        judge_noise(timed) if timed else None,
        _recommendation(levels, sweeps),
        tuple(sweeps),
        missing,
        tuple(dict.fromkeys([*plan.notes, *failed])),
    )


def _level(plan: BenchPlan, parts: Mapping[str, Any], contender: Contender) -> LevelReport:
    answers: dict[str, list[Any]] = {}
    for part in main_parts(plan):
        if part.contender is contender and part.kind != "cases" and part.key in parts:
            answers.setdefault(f"{part.kind}/{part.what}", []).append(parts[part.key])
    return LevelReport(contender, answers, _quality(plan, parts, contender))


def _results(plan: BenchPlan, parts: Mapping[str, Any], label: str | None) -> dict[int, CaseResult]:
    """What a level decided, by the line of the case."""
    found = {}
    for part in main_parts(plan):
        if part.kind == "cases" and part.contender.label == label and part.key in parts:
            found.update({each["line"]: CaseResult(**each) for each in parts[part.key]["results"]})
    return found


def _quality(plan: BenchPlan, parts: Mapping[str, Any], contender: Contender) -> Quality | None:
    own, reference = _results(plan, parts, contender.label), _results(plan, parts, plan.reference)
    if not own:
        return None
    both = [(reference[line], result) for line, result in own.items() if line in reference]
    return Quality(
        equal([each.expected for each in own.values()], [each.decided for each in own.values()]),
        equal([one.decided for one, _ in both], [other.decided for _, other in both]) if both else None,
        mean_kl_divergence([one.scores for one, _ in both], [other.scores for _, other in both]),
        tuple(each.right for each in own.values()),
    )


def _recommendation(levels: Sequence[LevelReport], sweeps: Sequence[SweepReport]) -> Recommendation | None:
    """A recommendation among the levels that are measured far enough, on cases only where all have decided the same ones.

    None where bits a weight would be the measure of an encoder beside a language model, of which they say nothing.
    """
    counts = {len(each.quality.right) if each.quality else 0 for each in levels}
    measured = len(counts) == 1 and counts != {0}
    if not measured and len({each.contender.kind for each in levels}) > 1:
        return None
    figures = [
        Figures(
            each.contender.label,
            each.first_turn,
            memory + (each.most("device_memory") or 0),
            each.contender.bits_per_weight,
            each.quality.right if measured and each.quality else None,
            each.contender.n_bytes,
        )
        for each in levels
        if each.first_turn is not None and (memory := each.most("peak_memory")) is not None
    ]
    if not figures:
        return None
    chosen = recommend(figures)
    (level,) = (each for each in levels if each.contender.label == chosen.level)
    found = [finding for sweep in sweeps if (finding := _finding(level, sweep))]
    return replace(chosen, reasons=(*chosen.reasons, *found))


def _finding(level: LevelReport, sweep: SweepReport) -> str | None:
    """What a sweep over a setting says for the recommended level: the value that is faster than the one it ran with, if any."""
    timed = {point.value: point.times for point in sweep.points if point.label == level.contender.label and point.times}
    if sweep.kind not in SETTING_SWEEPS or not timed:
        return None
    option = f"--{sweep.kind.replace('_', '-')}"
    used = level.running.get(sweep.kind)
    before = timed.get(used, level.first_turn)
    best = min(timed, key=lambda value: timed[value].p50)
    if before is None or best == used or timed[best].p50 >= before.p50 or not are_told_apart(timed[best], before):
        return f"no value of {option} is faster than {value_text(sweep.kind, used)}, which it ran with, beyond chance"
    ratio, value = timed[best].p50 / before.p50, value_text(sweep.kind, best)
    return f"{option} {value} makes it faster: {ratio:.2f} of the time with {value_text(sweep.kind, used)}"


def value_text(kind: str, value: Any) -> str:
    """A value of a sweep as people write it."""
    if kind == "gpu_layers" and value == -1:
        return "all"
    if kind == "flash_attention":
        return {True: "on", False: "off"}.get(value, "auto")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _points(sweep: Sweep, contenders: Sequence[Contender], parts: Mapping[str, Any]) -> list[SweepPoint]:
    points = []
    for each in contenders:
        for value in sweep.values:
            own = (part for part in sweep_parts(sweep, [each]) if part.what == f"{sweep.kind}={value}")
            found = [parts[part.key] for part in own if part.key in parts]
            if found:
                points.append(_point(each.label, sweep.kind, value, found))
    return points


def _point(label: str, kind: SweepKind, value: Any, found: Sequence[Mapping[str, Any]]) -> SweepPoint:
    def times(name: str) -> Times | None:
        rounds = tuple(tuple(part[name]) for part in found if part.get(name))
        return Times(rounds) if rounds else None

    evaluated = times("evaluated")
    return SweepPoint(
        label=label,
        kind=kind,
        value=value,
        times=times("ms"),
        unseen=times("unseen_ms"),
        evaluated=None if evaluated is None else evaluated.p50,
        peak_memory=next((part["peak_memory"] + part["device_memory"] for part in found if "peak_memory" in part), None),
        failed=next((part["failed"] for part in found if "failed" in part), None),
    )
