"""A benchmark's figures as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from archroute_edge.bench._plan import CALLERS
from archroute_edge.bench._report import BenchReport, SweepPoint, SweepReport
from archroute_edge.bench._timing import Interval, Times
from archroute_edge.evaluation import NONE, Table, number, percent

SWEEP_TITLES: Final = {
    "threads": ("Threads", "threads"),
    "gpu_layers": ("Layers on the GPU", "layers on the GPU"),
    "n_ctx": ("Size of the KV cache", "cells of the KV cache"),
    "kv_type": ("Number type of the KV cache", "number type of the KV cache"),
    "flash_attention": ("Flash attention", "flash attention"),
    "routes": ("Number of routes", "routes"),
    "turns": ("Length of the conversation", "user messages in the conversation"),
}
"""For each sweep its heading and what its axis counts."""


def value_text(kind: str, value: Any) -> str:
    """A value of a sweep as people write it."""
    if kind == "gpu_layers" and value == -1:
        return "all"
    if kind == "flash_attention":
        return {True: "on", False: "off"}.get(value, "auto")
    return f"{value:,}" if isinstance(value, int) else str(value)


def decision_table(report: BenchReport) -> Table:
    """Times of warm decisions, the first turn and a later one, with their 95 % intervals."""
    rows = []
    for each in report.levels:
        first, later = each.first_turn, each.later_turn
        rows.append(
            [
                each.contender.label,
                size(each.contender.n_bytes),
                number(each.contender.bits_per_weight, 2),
                *_with_interval(first),
                number(each.ratio, 2),
                *_with_interval(later),
            ]
        )
    headers = [
        "level",
        "size",
        "bits/weight",
        "first p50, ms",
        "first, 95 % interval",
        "first p95, ms",
        "ratio",
        "later p50, ms",
        "later, 95 % interval",
        "later p95, ms",
    ]
    n_samples = len(report.levels[0].first_turn.samples) if report.levels[0].first_turn else 0
    note = (
        f"A warm decision on a fresh conversation's first and later (second) message, {n_samples} of each: median (p50) "
        "with its 95 % interval, 95th percentile (p95); ratio: to the fastest level. An interval without an end is one that so "
        "few decisions do not bound."
    )
    return Table("Decisions", headers, rows, note=note)


def process_table(report: BenchReport) -> Table:
    """What a process takes to start, how fast the model computes, and how many callers it serves."""
    headers = ["level", "load, ms", "prefix, ms", "cold start, ms", "saved prefix, ms", "prefill, tokens/s", "decode, tokens/s"]
    headers += [f"{n} caller{'s' * (n > 1)}, /s" for n in CALLERS]
    rows = []
    for each in report.levels:
        cells = [each.load, each.prefix, each.cold, each.cold_saved, each.prefill, each.decode]
        rows.append([each.contender.label, *map(_middle, cells), *(_middle(each.callers.get(n), 2) for n in CALLERS)])
    n_prefix = next((each.prefix_tokens for each in report.levels if each.prefix_tokens), 0)
    encoders = any(each.contender.kind == "encoder" for each in report.levels)
    note = (
        f"Medians. Load, prefix (evaluating its {n_prefix} tokens) and cold start (of a fresh process, from its start to its "
        "first decision, without and with the prefix saved on disk); "
        "callers: decisions a second when so many threads ask at once."
    )
    if encoders:
        note += " An encoder has no prefix and decodes nothing; its load has the vectors of the routes in it."
    return Table("Processes and rates", headers, rows, note=note)


def memory_table(report: BenchReport) -> Table:
    """Peak memory of a fresh process."""
    rows = [
        [
            each.contender.label,
            size(each.contender.n_bytes),
            size(each.peak_memory),
            size(each.memory_beyond_files),
            size(each.device_memory) if each.device_memory else NONE,
        ]
        for each in report.levels
    ]
    note = (
        "Resident memory of a fresh process up to its first decision, the mapped model file included; beyond files: what of "
        "it is mapped from no file and so cannot be given back."
    )
    return Table("Memory", ["level", "file", "peak", "beyond files", "GPU"], rows, note=note)


def quality_table(report: BenchReport) -> Table | None:
    """Accuracy, and how far each level is from the reference."""
    cases = report.plan.cases
    if cases is None:
        return None
    rows = []
    for each in report.levels:
        quality = each.quality
        if quality is None:
            rows.append([each.contender.label, *[NONE] * 5])
            continue
        low, high = quality.accuracy.interval
        rows.append(
            [
                each.contender.label,
                percent(quality.accuracy.share),
                f"{100 * low:.1f} to {100 * high:.1f}",
                f"{quality.accuracy.right} of {quality.accuracy.total}",
                percent(quality.agreement.share if quality.agreement else None),
                number(quality.mean_kl, 4),
            ]
        )
    headers = ["level", "accuracy", "95 % interval", "right", "as the reference", "KL from it, nats"]
    note = (
        f"Over {len(cases.cases)} cases ({cases.source}); the reference is {report.plan.reference}. "
        "KL: mean divergence of the route probabilities, in nats."
    )
    return Table("Quality", headers, rows, note=note)


def sweep_table(report: BenchReport, sweep: SweepReport) -> Table:
    """The points of a sweep, a row a level and value."""
    title, axis = SWEEP_TITLES[sweep.kind]
    has_memory = any(point.peak_memory is not None for point in sweep.points)
    has_unseen = any(point.unseen is not None for point in sweep.points)
    headers = ["level", axis, "p50, ms", "95 % interval, ms", "p95, ms", "evaluated, tokens"]
    headers += ["unseen p50, ms"] * has_unseen + ["peak memory"] * has_memory
    rows = [_sweep_row(sweep, point, has_unseen, has_memory) for point in sweep.points]
    note = "A warm decision; evaluated: tokens put through the model."
    if has_unseen:
        note += " Unseen: a conversation of that length of which nothing had been evaluated."
    if sweep.note:
        note += f" Made {sweep.note}."
    return Table(title, headers, rows, text_columns=2, note=note)


def _sweep_row(sweep: SweepReport, point: SweepPoint, has_unseen: bool, has_memory: bool) -> list[str]:
    row = [point.label, value_text(sweep.kind, point.value), *_with_interval(point.times), number(point.evaluated, 0)]
    return row + [_middle(point.unseen)] * has_unseen + [size(point.peak_memory)] * has_memory


def machine_table(report: BenchReport) -> Table:
    """The machine and how the router ran on it."""
    machine = report.machine
    cores = machine["cores"]
    rows = [
        ["CPU", f"{machine['cpu']}, {cores['physical']} cores ({cores['usable']} usable)"],
        ["CPU features", " ".join(machine["features"])],
        ["memory", size(machine["memory"])],
        ["devices", "; ".join(f"{each['name']}: {each['description']}" for each in machine["devices"])],
        ["llama.cpp", f"{machine['llama_cpp']} (llama-cpp-python {machine['llama_cpp_python']})"],
        ["system", f"{machine['platform']}, Python {machine['python']}, archroute-edge {machine['archroute_edge']}"],
    ]
    running = [each.running for each in report.levels if each.running]
    # What an encoder has none of is said of a language model beside it.
    shown = next((each for each in running if each["n_ctx"] is not None), running[0] if running else None)
    if shown is not None:
        rows.append(["router", f"{_running_text(shown)}, routes: {len(report.plan.routes)}"])
    rows.append(["rounds", f"{report.plan.rounds}, the levels taking turns, {report.plan.decisions} conversations in each"])
    return Table("The machine", ["what", "value"], rows, text_columns=2)


def _running_text(running: Mapping[str, Any]) -> str:
    parts = [f"threads: {running['threads']}"]
    if running["n_ctx"] is not None:
        parts.append(f"KV cache: {running['n_ctx']:,} cells in {running['kv_type']}")
        parts.append(f"flash attention: {value_text('flash_attention', running['flash_attention'])}")
    if running["gpu_layers"] != 0:
        parts.append(f"layers on the GPU: {value_text('gpu_layers', running['gpu_layers'])}")
    return ", ".join(parts)


def level_tables(report: BenchReport) -> Iterator[Table]:
    """The tables about levels and sweeps, in the order to show them."""
    yield decision_table(report)
    yield process_table(report)
    yield memory_table(report)
    quality = quality_table(report)
    if quality is not None:
        yield quality
    for sweep in report.sweeps:
        if sweep.points:
            yield sweep_table(report, sweep)


def conclusion(report: BenchReport) -> list[str]:
    """The recommendation, the verdict on noise, and notes; a sentence or two each."""
    lines = []
    chosen = report.recommendation
    if report.partial:
        lines.append("PARTIAL: the run was interrupted; the figures are over what it came to.")
    if chosen is not None:
        lines.append(f"Recommended here: {chosen.level}. {_sentences(chosen.reasons)}")
        # A level that was measured alone would be recommended by any run.
        if report.noise is not None and report.noise.is_noisy and len(report.noise.spreads) > 1:
            lines[-1] += " The run was noisy, so another may choose another level."
        axes = "accuracy" if chosen.quality_measured else "bits a weight"
        if len(report.levels) > 1:
            lines.append(f"Pareto front of time, memory and {axes}: {', '.join(chosen.front)}.")
    if report.noise is not None:
        lines.append(f"Noise: {report.noise.text}.")
    return [*lines, *(f"Note: {note}" for note in report.notes)]


def _sentences(reasons: Sequence[str]) -> str:
    return " ".join(f"{reason[0].upper()}{reason[1:]}." for reason in reasons)


def size(n_bytes: int | None) -> str:
    """Bytes as people read them, in powers of ten as files are sold."""
    if n_bytes is None:
        return NONE
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def milliseconds(value: float | None) -> str:
    """Three digits that count: 1.23, 12.3, 123, 1,234."""
    if value is None:
        return NONE
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _middle(times: Times | None, digits: int | None = None) -> str:
    if times is None:
        return NONE
    return milliseconds(times.p50) if digits is None else number(times.p50, digits)


def _with_interval(times: Times | None) -> list[str]:
    return [NONE] * 3 if times is None else [milliseconds(times.p50), _interval(times.p50_interval), milliseconds(times.p95)]


def _interval(interval: Interval) -> str:
    if interval.low is None and interval.high is None:
        return NONE
    if interval.high is None:
        return f"from {milliseconds(interval.low)}"
    return f"{milliseconds(interval.low)} to {milliseconds(interval.high)}"
