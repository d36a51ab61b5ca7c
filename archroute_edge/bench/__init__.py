"""How fast, how large and how good each quantization level is, and which one to choose.

Levels are measured in child processes, interleaved, after a warm-up.

Used by: ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.bench._figures import conclusion, level_tables, machine_table, sweep_table, to_json, write_levels
    from archroute_edge.bench._levels import (
        Contender,
        all_different,
        levels_of_model,
        make_levels,
        named_contenders,
        plan_levels,
        scratch_folder,
    )
    from archroute_edge.bench._machine import describe_machine, machine_identity
    from archroute_edge.bench._page import bench_page
    from archroute_edge.bench._plan import LOAD_SWEEPS, SETTING_SWEEPS, BenchPlan, LabelledCases, Sweep, fit_together
    from archroute_edge.bench._report import BenchReport, report_on
    from archroute_edge.bench._run import free_memory, run_bench
    from archroute_edge.bench._workload import MOST_ROUTES, conversation
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_figures": "conclusion level_tables machine_table sweep_table to_json write_levels",
            "_levels": "Contender all_different levels_of_model make_levels named_contenders plan_levels scratch_folder",
            "_machine": "describe_machine machine_identity",
            "_page": "bench_page",
            "_plan": "BenchPlan LOAD_SWEEPS LabelledCases SETTING_SWEEPS Sweep fit_together",
            "_report": "BenchReport report_on",
            "_run": "free_memory run_bench",
            "_workload": "MOST_ROUTES conversation",
        },
    )
