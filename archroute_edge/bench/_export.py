"""A benchmark for programs: JSON of all of it, CSV of its figures."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archroute_edge.bench._plan import CALLERS
from archroute_edge.bench._report import BenchReport, LevelReport, SweepPoint
from archroute_edge.bench._timing import Times
from archroute_edge.errors import SettingsError
from archroute_edge.evaluation import Share
from archroute_edge.system import replaced_when_whole


def to_json(report: BenchReport) -> dict[str, Any]:
    """The report as plain values for ``json.dumps``; times in milliseconds, memory in bytes, shares from 0 to 1."""
    plan, noise, chosen = report.plan, report.noise, report.recommendation
    return {
        "partial": report.partial,
        "machine": dict(report.machine),
        "settings": {**plan.settings, "routes": len(plan.routes), "rounds": plan.rounds, "decisions": plan.decisions},
        "reference": plan.reference,
        "cases": None if plan.cases is None else {"source": plan.cases.source, "count": len(plan.cases.cases)},
        "levels": [_level(each) for each in report.levels],
        "noise": None if noise is None else asdict(noise),
        "recommendation": None if chosen is None else asdict(chosen),
        "sweeps": [
            {"kind": each.kind, "note": each.note, "points": [_point(point) for point in each.points]} for each in report.sweeps
        ],
        "notes": list(report.notes),
    }


def _level(level: LevelReport) -> dict[str, Any]:
    file, quality = level.contender, level.quality
    return {
        "level": file.label,
        "quantization": file.level,
        "path": None if file.made else str(file.path),
        "file_bytes": file.n_bytes,
        "bits_per_weight": file.bits_per_weight,
        "first_turn_ms": _times(level.first_turn),
        "first_turn_ratio": level.ratio,
        "first_turn_evaluated_tokens": level.first_evaluated,
        "later_turn_ms": _times(level.later_turn),
        "later_turn_evaluated_tokens": level.later_evaluated,
        "load_ms": _times(level.load),
        "prefix_ms": _times(level.prefix),
        "prefix_tokens": level.prefix_tokens,
        "cold_start_ms": _times(level.cold),
        "cold_start_saved_prefix_ms": _times(level.cold_saved),
        "prefill_tokens_per_s": _times(level.prefill),
        "decode_tokens_per_s": _times(level.decode),
        "decisions_per_s": {str(callers): _times(times) for callers, times in level.callers.items()},
        "peak_memory_bytes": level.peak_memory,
        "memory_beyond_files_bytes": level.memory_beyond_files,
        "device_memory_bytes": level.device_memory,
        "quality": None
        if quality is None
        else {
            "accuracy": _share(quality.accuracy),
            "agreement": None if quality.agreement is None else _share(quality.agreement),
            "mean_kl": quality.mean_kl,
        },
        "running": dict(level.running),
    }


def _point(point: SweepPoint) -> dict[str, Any]:
    return {
        "level": point.label,
        "value": point.value,
        "ms": _times(point.times),
        "unseen_ms": _times(point.unseen),
        "evaluated_tokens": point.evaluated,
        "peak_memory_bytes": point.peak_memory,
        "failed": point.failed,
    }


def _times(times: Times | None) -> dict[str, Any] | None:
    if times is None:
        return None
    return {
        "p50": times.p50,
        "p50_interval": list(asdict(times.p50_interval).values()),
        "p95": times.p95,
        "p95_interval": list(asdict(times.p95_interval).values()),
        "samples": len(times.samples),
        "round_medians": list(times.round_medians),
    }


def _share(value: Share) -> dict[str, Any]:
    return {"right": value.right, "total": value.total, "share": value.share, "interval": list(value.interval)}


def write_csv(report: BenchReport, path: Path) -> None:
    """Write a row a level, then a row a point of each sweep, to ``path``, whole or not at all.

    Raises:
        SettingsError: it cannot be written.
    """
    rows = list(_rows(report))
    # Sweeps have columns of their own.
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with replaced_when_whole(path) as partial, partial.open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be written ({exc.strerror or exc})") from exc


def _rows(report: BenchReport) -> Iterator[dict[str, Any]]:
    for each in report.levels:
        quality = each.quality
        yield {
            "level": each.contender.label,
            "sweep": "",
            "value": "",
            "file_bytes": each.contender.n_bytes,
            "bits_per_weight": each.contender.bits_per_weight,
            **_columns("first_turn_ms", each.first_turn),
            "first_turn_ratio": each.ratio,
            **_columns("later_turn_ms", each.later_turn),
            "load_ms": _middle(each.load),
            "prefix_ms": _middle(each.prefix),
            "prefix_tokens": each.prefix_tokens,
            "cold_start_ms": _middle(each.cold),
            "cold_start_saved_prefix_ms": _middle(each.cold_saved),
            "prefill_tokens_per_s": _middle(each.prefill),
            "decode_tokens_per_s": _middle(each.decode),
            **{f"decisions_per_s_{callers}_callers": _middle(each.callers.get(callers)) for callers in CALLERS},
            "peak_memory_bytes": each.peak_memory,
            "memory_beyond_files_bytes": each.memory_beyond_files,
            "device_memory_bytes": each.device_memory,
            "accuracy": quality.accuracy.share if quality else None,
            "agreement": quality.agreement.share if quality and quality.agreement else None,
            "mean_kl": quality.mean_kl if quality else None,
        }
    for sweep in report.sweeps:
        for point in sweep.points:
            yield {
                "level": point.label,
                "sweep": sweep.kind,
                "value": point.value,
                **_columns("decision_ms", point.times),
                "unseen_conversation_ms": _middle(point.unseen),
                "evaluated_tokens": point.evaluated,
                "peak_memory_bytes": point.peak_memory,
                "failed": point.failed,
            }


def _columns(name: str, times: Times | None) -> dict[str, Any]:
    if times is None:
        return dict.fromkeys((f"{name}_p50", f"{name}_p50_low", f"{name}_p50_high", f"{name}_p95"))
    interval = times.p50_interval
    return {
        f"{name}_p50": times.p50,
        f"{name}_p50_low": interval.low,
        f"{name}_p50_high": interval.high,
        f"{name}_p95": times.p95,
    }


def _middle(times: Times | None) -> float | None:
    return None if times is None else times.p50
