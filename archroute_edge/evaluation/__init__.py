"""How well a router decides: labelled cases, metrics with intervals, comparison of two models, fitting a calibration.

A run is kept in a journal and resumes after an interruption.

Used by: ``bench`` and ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.evaluation._calibration_fit import CrossValidation, Figures, SureDecisions, cross_validate, fit
    from archroute_edge.evaluation._cases import Case, read_cases, shipped_cases
    from archroute_edge.evaluation._evaluation import (
        CaseResult,
        cases_digest,
        evaluate,
        evaluation_order,
        finished_results,
        largest_table,
    )
    from archroute_edge.evaluation._figures import terminal_tables, to_json, write_cases
    from archroute_edge.evaluation._journal import Journal, runs_folder
    from archroute_edge.evaluation._metrics import equal, mcnemar, mean_kl_divergence
    from archroute_edge.evaluation._page import evaluation_page
    from archroute_edge.evaluation._report import EvaluationReport, ModelReport, compare, report_on
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_calibration_fit": "CrossValidation Figures SureDecisions cross_validate fit",
            "_cases": "Case read_cases shipped_cases",
            "_evaluation": "CaseResult cases_digest evaluate evaluation_order finished_results largest_table",
            "_figures": "terminal_tables to_json write_cases",
            "_journal": "Journal runs_folder",
            "_metrics": "equal mcnemar mean_kl_divergence",
            "_page": "evaluation_page",
            "_report": "EvaluationReport ModelReport compare report_on",
        },
    )
