"""An evaluation for programs: JSON of all of it, CSV of its cases."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archroute_edge.errors import SettingsError
from archroute_edge.evaluation._cases import Case
from archroute_edge.evaluation._confidence_metrics import N_BINS, at_coverage
from archroute_edge.evaluation._evaluation import CaseResult
from archroute_edge.evaluation._metrics import Share
from archroute_edge.evaluation._report import COVERAGES, Comparison, EvaluationReport, ModelReport, last_message
from archroute_edge.system import replaced_when_whole


def to_json(report: EvaluationReport) -> dict[str, Any]:
    """The report as plain values for ``json.dumps``; shares are from 0 to 1, times in milliseconds."""
    comparison = report.comparison
    return {
        "source": report.source,
        "cases": report.n_cases,
        "partial": report.partial,
        "models": [_model_values(model) for model in report.models],
        "comparison": None if comparison is None else _comparison_values(comparison),
    }


def _model_values(model: ModelReport) -> dict[str, Any]:
    conversations = model.conversations
    return {
        "model": model.name,
        "prompt_format": model.prompt_format,
        "decided": len(model.results),
        "accuracy": _share(model.accuracy),
        "macro_f1": model.macro_f1,
        "by_tag": {tag: _share(value) for tag, value in model.by_tag.items()},
        "by_route": [
            {**asdict(each), "precision": each.precision, "recall": each.recall, "f1": each.f1} for each in model.by_route
        ],
        "confusions": model.confusions,
        "worst_confusions": [
            {**asdict(each), "cases": [model.cases[place].line for place in each.cases]} for each in model.worst
        ],
        "conversations": None
        if conversations is None
        else {
            "turns": _share(conversations.turns),
            "spans": _share(conversations.spans),
            "conversations": _share(conversations.conversations),
        },
        "coverage": [
            {"wanted": wanted, **asdict(point)} for wanted in COVERAGES if (point := at_coverage(model.coverage, wanted))
        ],
        "calibration": {
            "ece": model.ece,
            "bins": N_BINS,
            "nll": model.nll,
            "brier": model.brier,
            "reliability": [asdict(each) for each in model.reliability],
        },
        "greedy_is_not_most_probable": _share(model.greedy_is_not_most_probable),
        "low_confidence": model.low_confidence,
        "trimmed": model.trimmed,
        "milliseconds": None if model.milliseconds is None else dict(zip(("p50", "p95"), model.milliseconds, strict=True)),
        "results": [each.to_dict() for each in model.results],
    }


def _comparison_values(comparison: Comparison) -> dict[str, Any]:
    return {
        "models": list(comparison.names),
        "cases": len(comparison.cases),
        "agreement": _share(comparison.agreement),
        "mean_kl": comparison.mean_kl,
        "mcnemar": asdict(comparison.test),
        "differing": [comparison.cases[place].line for place in comparison.differing],
    }


def _share(value: Share) -> dict[str, Any]:
    return {"right": value.right, "total": value.total, "share": value.share, "interval": list(value.interval)}


def write_csv(report: EvaluationReport, path: Path) -> None:
    """Write a row a case to ``path``, whole or not at all; with two models the second's columns begin with ``compare_``.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        with replaced_when_whole(path) as partial, partial.open("w", encoding="utf-8", errors="replace", newline="") as file:
            rows = list(_rows(report))
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["line"], restval="")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be written ({exc.strerror or exc})") from exc


def _rows(report: EvaluationReport) -> Iterator[dict[str, Any]]:
    first = report.models[0]
    second = {each.line: each for each in report.models[1].results} if len(report.models) > 1 else None
    divergences: dict[int, float] = {}
    if report.comparison is not None:
        lines = (case.line for case in report.comparison.cases)
        divergences = dict(zip(lines, report.comparison.divergences, strict=True))
    for case, result in zip(first.cases, first.results, strict=True):
        row = {**_case_columns(case), **_decision_columns(result, "")}
        if second is not None:
            other = second.get(case.line)
            # A case that the second model has not come to has empty columns.
            row |= _decision_columns(other or result, "compare_")
            if other is None:
                row |= dict.fromkeys((name for name in row if name.startswith("compare_")), "")
            row["kl"] = divergences.get(case.line, "")
        yield row


def _case_columns(case: Case) -> dict[str, Any]:
    return {
        "line": case.line,
        "conversation_id": case.conversation_id,
        "turn": case.turn,
        "span": case.span,
        "tags": " ".join(case.tags),
        "message": last_message(case, 200),
        "expected": case.route,
    }


def _decision_columns(result: CaseResult, prefix: str) -> dict[str, Any]:
    columns = {
        "decided": result.decided,
        "right": int(result.right),
        "confidence": result.confidence,
        "p_expected": result.scores[result.expected],
        "most_probable": result.most_probable,
        "reason": result.reason,
        "milliseconds": round(result.milliseconds, 3),
        "tokens": result.tokens,
        "reused": result.reused,
        "evaluated": result.evaluated,
        "trimmed": int(result.trimmed),
    }
    return {prefix + name: value for name, value in columns.items()}
