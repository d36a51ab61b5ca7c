"""The figures of a benchmark, from the parts that were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archroute_edge.bench._levels import Contender
from archroute_edge.bench._plan import CALLERS, BenchPlan, Sweep, SweepKind, main_parts, sweep_parts
from archroute_edge.bench._recommendation import Figures, Recommendation, recommend
from archroute_edge.bench._run import sweep_contenders
from archroute_edge.bench._timing import NoiseVerdict, Times, judge_noise
from archroute_edge.evaluation import CaseResult, Share, accuracy, agreement, mean_kl_divergence


@dataclass(frozen=True)
class Quality:
    """How well a level decides labelled cases.

    Attributes:
        accuracy: share of right decisions.
        agreement: share of decisions that are the reference level's, None where that has decided none of them.
        mean_kl: mean KL divergence of the route distribution from the reference's, in nats.
        right: a case each, in the order of the run.
    """

    accuracy: Share
    agreement: Share | None
    mean_kl: float | None
    right: tuple[bool, ...]


@dataclass(frozen=True)
class LevelReport:
    """What was measured of one level; None is what an interrupted run did not come to. Times in milliseconds.

    Attributes:
        first_turn: warm decisions on a new conversation of one message.
        later_turn: warm decisions on its next turn.
        first_evaluated: tokens that a first turn puts through the model; ``later_evaluated`` those of a later one.
        load: until the router is ready, in a fresh process.
        prefix: evaluating the static prefix of ``prefix_tokens`` tokens; None for an encoder, whose ``load`` has it.
        cold: from the start of a process to its first decision; ``cold_saved`` with the prefix on disk.
        prefill: tokens a second; ``decode`` likewise, None for an encoder, which decodes nothing.
        callers: decisions a second by the number of threads that ask.
        peak_memory: the most resident memory of a fresh process up to its first decision, in bytes, the mapped model included.
        memory_beyond_files: what of it is mapped from no file, at the end; None where the system does not say.
        device_memory: bytes taken on GPUs.
        ratio: median of ``first_turn`` over the fastest level's.
        running: how the router ran: threads, context, flash attention, type of the KV cache, layers on the GPU.
    """

    contender: Contender
    first_turn: Times | None
    later_turn: Times | None
    first_evaluated: float | None
    later_evaluated: float | None
    load: Times | None
    prefix: Times | None
    prefix_tokens: int | None
    cold: Times | None
    cold_saved: Times | None
    prefill: Times | None
    decode: Times | None
    callers: Mapping[int, Times]
    peak_memory: int | None
    memory_beyond_files: int | None
    device_memory: int | None
    quality: Quality | None
    ratio: float | None
    running: Mapping[str, Any]


@dataclass(frozen=True)
class SweepPoint:
    """One value of a sweep at one level: the times of decisions there, or why there are none.

    ``unseen`` is for conversations: a conversation of that length of which nothing was evaluated before.
    """

    label: str
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


def report_on(plan: BenchPlan, parts: Mapping[str, Any], machine: Mapping[str, Any]) -> BenchReport:
    """Make the report of what is there; it is partial where a part is missing."""
    levels = [_level(plan, parts, each) for each in plan.contenders]
    timed = {each.contender.label: each.first_turn for each in levels if each.first_turn is not None}
    fastest = min((times.p50 for times in timed.values()), default=None)
    levels = [_with_ratio(each, fastest) for each in levels]
    sweeps, notes, missing = [], list(plan.notes), any(part.key not in parts for part in main_parts(plan))
    for sweep in plan.sweeps:
        contenders, note = sweep_contenders(plan, sweep, parts)
        missing = missing or any(part.key not in parts for part in sweep_parts(sweep, contenders))
        found = _sweep(sweep, contenders, parts, note)
        sweeps.append(found)
        name = sweep.kind.replace("_", " ")
        notes += [f"{name} {each.value}: {each.failed}" for each in found.points if each.failed is not None]
    return BenchReport(
        machine,
        plan,
        tuple(levels),
        judge_noise(timed) if timed else None,
        _recommendation(levels),
        tuple(sweeps),
        missing,
        tuple(dict.fromkeys(notes)),
    )


def _level(plan: BenchPlan, parts: Mapping[str, Any], contender: Contender) -> LevelReport:
    def times(kind: str, value: Callable[[Any], float | Sequence[float]], what: str = "") -> Times | None:
        rounds = []
        for number in range(plan.rounds):
            part = parts.get(f"{kind}/{what}/{number}/{contender.label}")
            if part is not None:
                found = value(part)
                rounds.append((found,) if isinstance(found, (int, float)) else tuple(found))
        return Times(tuple(rounds)) if rounds else None

    def middle(found: Times | None) -> float | None:
        return None if found is None else found.p50

    cold = [parts[key] for n in range(plan.rounds) if (key := f"cold//{n}/{contender.label}") in parts]
    first = cold[0]["without"] if cold else {}
    callers = {each: times("callers", lambda part: part["decisions_per_s"], str(each)) for each in CALLERS}
    beyond = [each["without"]["memory_beyond_files"] for each in cold]
    return LevelReport(
        contender=contender,
        first_turn=times("decide", lambda part: part["before_ms"]),
        later_turn=times("decide", lambda part: part["ms"]),
        first_evaluated=middle(times("decide", lambda part: part["before_evaluated"])),
        later_evaluated=middle(times("decide", lambda part: part["evaluated"])),
        load=times("cold", lambda part: [part[each]["load_ms"] for each in ("without", "with")]),
        # An encoder has its route vectors once it is loaded.
        prefix=None if contender.kind == "encoder" else times("cold", lambda part: part["without"]["prefix_ms"]),
        prefix_tokens=first.get("prefix_tokens"),
        cold=times("cold", lambda part: part["without"]["total_ms"]),
        cold_saved=times("cold", lambda part: part["with"]["total_ms"]),
        prefill=times("rates", lambda part: part["prefill_tokens_per_s"]),
        decode=None if contender.kind == "encoder" else times("rates", lambda part: part["decode_tokens_per_s"]),
        callers={each: found for each, found in callers.items() if found is not None},
        peak_memory=max((each["without"]["peak_memory"] for each in cold), default=None),
        memory_beyond_files=max((each for each in beyond if each is not None), default=None),
        device_memory=max((each["without"]["device_memory"] for each in cold), default=None),
        quality=_quality(plan, parts, contender),
        ratio=None,
        running={name: first[name] for name in ("threads", "n_ctx", "flash_attention", "kv_type", "gpu_layers") if first},
    )


def _with_ratio(level: LevelReport, fastest: float | None) -> LevelReport:
    return level if level.first_turn is None or not fastest else replace(level, ratio=level.first_turn.p50 / fastest)


def _results(plan: BenchPlan, parts: Mapping[str, Any], label: str | None) -> dict[int, CaseResult]:
    """What a level decided, by the line of the case."""
    found = {}
    for part in main_parts(plan):
        if part.kind == "cases" and part.contender.label == label and part.key in parts:
            found.update({each["line"]: CaseResult(**each) for each in parts[part.key]["results"]})
    return found


def _quality(plan: BenchPlan, parts: Mapping[str, Any], contender: Contender) -> Quality | None:
    if plan.cases is None:
        return None
    own, reference = _results(plan, parts, contender.label), _results(plan, parts, plan.reference)
    if not own:
        return None
    both = [(reference[line], result) for line, result in own.items() if line in reference]
    return Quality(
        accuracy([each.expected for each in own.values()], [each.decided for each in own.values()]),
        agreement([one.decided for one, _ in both], [other.decided for _, other in both]) if both else None,
        mean_kl_divergence([one.scores for one, _ in both], [other.scores for _, other in both]),
        tuple(each.right for each in own.values()),
    )


def _recommendation(levels: Sequence[LevelReport]) -> Recommendation | None:
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
            each.peak_memory + (each.device_memory or 0),
            each.contender.bits_per_weight,
            each.quality.right if measured and each.quality else None,
            each.contender.n_bytes,
        )
        for each in levels
        if each.first_turn is not None and each.peak_memory is not None
    ]
    return recommend(figures) if figures else None


def _sweep(sweep: Sweep, contenders: Sequence[Contender], parts: Mapping[str, Any], note: str | None) -> SweepReport:
    points = []
    all_parts = sweep_parts(sweep, contenders)
    for each in contenders:
        for value in sweep.values:
            what = f"{sweep.kind}={value}"
            found = [
                parts[part.key] for part in all_parts if part.contender is each and part.what == what and part.key in parts
            ]
            good = [part for part in found if "failed" not in part]
            if found:
                points.append(_point(each.label, value, good, next((p["failed"] for p in found if "failed" in p), None)))
    return SweepReport(sweep.kind, tuple(points), note)


def _point(label: str, value: Any, parts: Sequence[Mapping[str, Any]], failed: str | None) -> SweepPoint:
    def times(name: str) -> Times | None:
        rounds = tuple(tuple(part[name]) for part in parts if part.get(name))
        return Times(rounds) if rounds else None

    evaluated = times("evaluated")
    return SweepPoint(
        label=label,
        value=value,
        times=times("ms"),
        unseen=times("unseen_ms"),
        evaluated=None if evaluated is None else evaluated.p50,
        peak_memory=next((part["peak_memory"] + part["device_memory"] for part in parts if "peak_memory" in part), None),
        failed=failed,
    )
