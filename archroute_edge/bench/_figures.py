"""The figures of a benchmark, each listed once: for tables, JSON and CSV; and its conclusion in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from archroute_edge.bench._plan import CALLERS
from archroute_edge.bench._report import BenchReport, SweepReport, value_text
from archroute_edge.bench._timing import Interval
from archroute_edge.report import (
    FEWEST_FOR_P95,
    NONE,
    Column,
    Table,
    counted,
    named,
    number,
    p95,
    percent,
    size,
    table,
    three_digits,
    values,
    write_csv,
)

SWEEP_TITLES: Final = {
    "threads": ("Threads", "threads"),
    "gpu_layers": ("Layers on the GPU", "layers on the GPU"),
    "n_ctx": ("Size of the KV cache", "cells of the KV cache"),
    "kv_type": ("Number type of the KV cache", "number type of the KV cache"),
    "flash_attention": ("Flash attention", "flash attention"),
    "engine": ("Engine", "engine"),
    "routes": ("Number of routes", "routes"),
    "turns": ("Length of the conversation", "user messages in the conversation"),
}
"""For each sweep its heading and what its axis counts."""


class Spread(Column):
    """Times of which the median, its 95 % interval and, of enough samples, the 95th percentile are shown."""

    def heads(self) -> list[str]:
        """Heads of its columns in a table."""
        return [f"{self.title} p50, ms", f"{self.title} p50, 95 % interval, ms", f"{self.title} p95, ms"]

    def cells(self, row: Any) -> list[str]:
        """A text for each of :meth:`heads`."""
        times = self.get(row)
        if times is None:
            return [NONE] * 3
        return [three_digits(times.p50), _interval(times.p50_interval), three_digits(p95(times.samples))]

    def csv_cells(self, row: Any) -> dict[str, Any]:
        """Four columns in CSV."""
        times, name = self.get(row), self.csv or self.key
        found = (times.p50, times.p50_interval.low, times.p50_interval.high, times.p95) if times else (None,) * 4
        return dict(zip((f"{name}_p50", f"{name}_p50_low", f"{name}_p50_high", f"{name}_p95"), found, strict=True))


class Callers(Column):
    """Rates by the number of callers."""

    def heads(self) -> list[str]:
        """Heads of its columns in a table."""
        return [f"{counted(n, 'caller')}, /s" for n in CALLERS]

    def cells(self, row: Any) -> list[str]:
        """A text for each of :meth:`heads`."""
        rates = self.get(row)
        return [number(rates[n].p50, 2) if n in rates else NONE for n in CALLERS]

    def csv_cells(self, row: Any) -> dict[str, Any]:
        """A column in CSV for each number."""
        rates = self.get(row)
        return {f"{self.key}_{n}_callers": rates[n].p50 if n in rates else None for n in CALLERS}


def _interval(interval: Interval) -> str:
    if interval.low is None and interval.high is None:
        return NONE
    if interval.high is None:
        return f"from {three_digits(interval.low)}"
    return f"{three_digits(interval.low)} to {three_digits(interval.high)}"


def _median(times: Any) -> str:
    return three_digits(times.p50)


def _evaluated(name: str) -> Any:
    return lambda level: (times := level.times("decide", lambda part: part[name])) and times.p50


def _of_model(kind: str, name: str) -> Any:
    """A figure of language models; an encoder has its route vectors once it is loaded, and decodes nothing."""

    def get(part: Mapping[str, Any]) -> Any:
        return part["without"][name] if kind == "cold" else part[name]

    return lambda level: None if level.contender.kind == "encoder" else level.times(kind, get)


def _quality(name: str) -> Any:
    return lambda level: level.quality and getattr(level.quality, name)


LEVEL: Final = (
    Column("level", "level", lambda level: level.contender.label),
    Column("quantization", "", lambda level: level.contender.level, csv=""),
    Column("path", "", lambda level: None if level.contender.made else level.contender.path, csv=""),
    Column("file_bytes", "file", lambda level: level.contender.n_bytes, size),
    Column("bits_per_weight", "bits/weight", lambda level: level.contender.bits_per_weight, lambda bits: number(bits, 2)),
    Spread("first_turn_ms", "first turn", lambda level: level.first_turn),
    Column("first_turn_ratio", "first turn, ratio", lambda level: level.ratio, lambda ratio: number(ratio, 2)),
    Column("first_turn_evaluated_tokens", "", _evaluated("before_evaluated"), csv=""),
    Spread("later_turn_ms", "later turn", lambda level: level.times("decide", lambda part: part["ms"])),
    Column("later_turn_evaluated_tokens", "", _evaluated("evaluated"), csv=""),
    Column("load_ms", "load, ms",
           lambda level: level.times("cold", lambda part: [part[each]["load_ms"] for each in ("without", "with")]), _median),
    Column("prefix_ms", "prefix, ms", _of_model("cold", "prefix_ms"), _median),
    Column("prefix_tokens", "", lambda level: level.most("prefix_tokens")),
    Column("cold_start_ms", "cold start, ms",
           lambda level: level.times("cold", lambda part: part["without"]["total_ms"]), _median),
    Column("cold_start_saved_prefix_ms", "cold start, saved prefix, ms",
           lambda level: level.times("cold", lambda part: part["with"]["total_ms"]), _median),
    Column("prefill_tokens_per_s", "prefill, tokens/s",
           lambda level: level.times("rates", lambda part: part["prefill_tokens_per_s"]), _median),
    Column("decode_tokens_per_s", "decode, tokens/s", _of_model("rates", "decode_tokens_per_s"), _median),
    Callers("decisions_per_s", "", lambda level: level.callers),
    Column("peak_memory_bytes", "peak memory", lambda level: level.most("peak_memory"), size),
    Column("memory_beyond_files_bytes", "beyond files", lambda level: level.most("memory_beyond_files"), size),
    Column("device_memory_bytes", "GPU memory", lambda level: level.most("device_memory"),
           lambda n_bytes: size(n_bytes) if n_bytes else NONE),
    Column("quality.accuracy", "accuracy (95 % interval)", _quality("accuracy"), csv="accuracy"),
    Column("quality.agreement", "as the reference", _quality("agreement"), lambda share: percent(share.share), csv="agreement"),
    Column("quality.mean_kl", "KL from it, nats", _quality("mean_kl"), lambda kl: number(kl, 4), csv="mean_kl"),
    Column("running", "", lambda level: level.running, csv=""),
)  # fmt: skip
POINT: Final = (
    Column("level", "level", lambda point: point.label),
    Column("", "", lambda point: point.kind, csv="sweep"),
    Column("value", "", lambda point: point.value),
    Spread("ms", "decision", lambda point: point.times, csv="decision_ms"),
    Column("unseen_ms", "unseen p50, ms", lambda point: point.unseen, _median, csv="unseen_conversation_ms"),
    Column("evaluated_tokens", "evaluated, tokens", lambda point: point.evaluated, lambda count: number(count, 0)),
    Column("peak_memory_bytes", "peak memory", lambda point: point.peak_memory, size),
    Column("failed", "", lambda point: point.failed),
)


def to_json(report: BenchReport) -> dict[str, Any]:
    """The report as plain values for ``json.dumps``; times in milliseconds, memory in bytes, shares from 0 to 1."""
    plan, noise, chosen = report.plan, report.noise, report.recommendation
    return {
        "partial": report.partial,
        "machine": dict(report.machine),
        "settings": {**plan.all_settings, "routes": len(plan.routes), "rounds": plan.rounds, "decisions": plan.decisions},
        "reference": plan.reference,
        "cases": None if plan.cases is None else {"source": plan.cases.source, "count": len(plan.cases.cases)},
        "levels": [values(LEVEL, each) for each in report.levels],
        "noise": None if noise is None else asdict(noise),
        "recommendation": None if chosen is None else asdict(chosen),
        "sweeps": [
            {"kind": each.kind, "note": each.note, "points": [values(POINT, point) for point in each.points]}
            for each in report.sweeps
        ],
        "notes": list(report.notes),
    }


def write_levels(report: BenchReport, path: Path) -> None:
    """Write CSV to ``path``: a row a level, then a row a point of each sweep.

    Raises:
        SettingsError: it cannot be written.
    """
    first = {"level": "", "sweep": "", "value": ""}
    rows = [(LEVEL, each) for each in report.levels] + [(POINT, point) for sweep in report.sweeps for point in sweep.points]
    write_csv([first | {k: v for column in columns for k, v in column.csv_cells(row).items()} for columns, row in rows], path)


def level_tables(report: BenchReport) -> Iterator[Table]:
    """The tables about levels, in the order to show them."""
    levels, plan = report.levels, report.plan

    def of(title: str, keys: str, note: str) -> Table:
        return table(title, named(LEVEL, f"level {keys}"), levels, note=note)

    n_samples = len(levels[0].first_turn.samples) if levels[0].first_turn else 0
    yield of(
        "Decisions",
        "file_bytes bits_per_weight first_turn_ms first_turn_ratio later_turn_ms",
        f"A warm decision on a fresh conversation's first and later (second) message, {n_samples} of each: median (p50) "
        f"with its 95 % interval, from {FEWEST_FOR_P95} on the 95th percentile (p95); ratio: to the fastest level. An interval "
        "without an end is one that so few decisions do not bound.",
    )
    n_prefix = max(level.most("prefix_tokens") or 0 for level in levels)
    encoders = any(each.contender.kind == "encoder" for each in levels)
    yield of(
        "Processes and rates",
        "load_ms prefix_ms cold_start_ms cold_start_saved_prefix_ms prefill_tokens_per_s decode_tokens_per_s decisions_per_s",
        f"Medians. Load, prefix (evaluating its {n_prefix} tokens) and cold start (of a fresh process, from its start to its "
        "first decision, without and with the prefix saved on disk); callers: decisions a second when so many threads ask at "
        "once." + " An encoder has no prefix and decodes nothing; its load has the vectors of the routes in it." * encoders,
    )
    yield of(
        "Memory",
        "file_bytes peak_memory_bytes memory_beyond_files_bytes device_memory_bytes",
        "Resident memory of a fresh process up to its first decision, the mapped model file included; beyond files: what of "
        "it is mapped from no file and so cannot be given back.",
    )
    if plan.cases is not None:
        yield of(
            "Quality",
            "quality.accuracy quality.agreement quality.mean_kl",
            f"Over {len(plan.cases.cases)} cases ({plan.cases.source}); the reference is {plan.reference}. "
            "KL: mean divergence of the route probabilities, in nats.",
        )


def sweep_table(sweep: SweepReport) -> Table:
    """The points of a sweep, a row a level and value; figures that no point has are left out."""
    title, axis = SWEEP_TITLES[sweep.kind]
    level, value, *others = named(POINT, "level value ms evaluated_tokens unseen_ms peak_memory_bytes")
    there = [
        column
        for column in others
        if column.key in ("ms", "evaluated_tokens") or any(column.get(point) is not None for point in sweep.points)
    ]
    columns = [level, replace(value, title=axis, show=lambda found: value_text(sweep.kind, found)), *there]
    note = "A warm decision; evaluated: tokens put through the model."
    if any(column.key == "unseen_ms" for column in there):
        note += " Unseen: a conversation of that length of which nothing had been evaluated."
    return table(title, columns, sweep.points, text_columns=2, note=f"{note} Made {sweep.note}." if sweep.note else note)


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
        *([["ik_llama.cpp", f"ik-llama-cpp-python {machine['ik_llama_cpp_python']}"]] if report.uses_ik else []),
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
        parts.append(f"engine: {running['engine']}")
    if running["gpu_layers"] != 0:
        parts.append(f"layers on the GPU: {value_text('gpu_layers', running['gpu_layers'])}")
    return ", ".join(parts)


def conclusion(report: BenchReport) -> list[str]:
    """The recommendation, the verdict on noise, and notes; a sentence or two each."""
    lines = []
    chosen = report.recommendation
    if report.partial:
        lines.append("PARTIAL: the run was interrupted; the figures are over what it came to.")
    if chosen is not None:
        lines += [f"Recommended here: {chosen.level}.", _sentences(chosen.reasons)]
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
