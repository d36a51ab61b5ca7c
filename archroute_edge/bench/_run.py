"""Running a benchmark: every part asked of a process of its level, its answer kept in the journal."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from archroute_edge.bench._levels import Contender
from archroute_edge.bench._measuring_process import MeasuringProcess
from archroute_edge.bench._plan import (
    LONGEST_SWEEP_S,
    SETTING_SWEEPS,
    BenchPlan,
    LabelledCases,
    Part,
    Sweep,
    main_parts,
    sweep_parts,
    sweep_seconds,
)
from archroute_edge.bench._timing import quantile
from archroute_edge.engine import _backend as backend
from archroute_edge.errors import BenchmarkError, MeasuringProcessError
from archroute_edge.evaluation import Journal, evaluation_order, largest_table

Progress = Callable[[str, int, int], None]
"""Called with the step, and with milliseconds passed and in all, as far as that can be foreseen."""

Table = Sequence[Sequence[str]] | int


def run_bench(plan: BenchPlan, journal: Journal, scratch: Path, on_progress: Progress = lambda *_: None) -> None:
    """Measure what ``journal`` does not hold yet. An interrupt goes through; what was finished is in the journal then.

    Args:
        scratch: a folder for saved prefixes.

    Raises:
        BenchmarkError: a part could not be measured, or its process ended.
    """
    with _Processes(plan.together) as processes:
        _Run(plan, journal, scratch, processes, on_progress).run()


def sweep_contenders(plan: BenchPlan, sweep: Sweep, parts: Mapping[str, Any]) -> tuple[Sequence[Contender], str | None]:
    """The levels that a sweep is made over, and a note where they are not all."""
    figures = {}
    for each in plan.contenders:
        cold = [value for key, value in parts.items() if key.startswith("cold/") and key.endswith(f"/{each.label}")]
        decided = [value for key, value in parts.items() if key.startswith("decide/") and key.endswith(f"/{each.label}")]
        if cold and decided:
            opened = cold[0]["without"]
            decision = quantile([ms for value in decided for ms in value["before_ms"]], 0.5)
            figures[each.label] = (opened["load_ms"], opened["prefix_ms"], decision)
    seconds = sweep_seconds(sweep, plan, figures)
    if len(plan.contenders) > 1 and seconds > LONGEST_SWEEP_S:
        first = plan.contenders[0]
        return [first], f"over {first.label} alone: all levels would take about {seconds / 60:.0f} minutes"
    return plan.contenders, None


class _Run:
    """One run: its parts in their order, and how long those that are left will take."""

    def __init__(self, plan: BenchPlan, journal: Journal, scratch: Path, processes: _Processes, on_progress: Progress) -> None:
        self._plan, self._journal, self._scratch = plan, journal, scratch
        self._processes, self._on_progress = processes, on_progress
        self._begun = time.monotonic()
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def run(self) -> None:
        parts = main_parts(self._plan)
        # For the time that is left, sweeps are foreseen over all levels.
        foreseen = [part for sweep in self._plan.sweeps for part in sweep_parts(sweep, self._plan.contenders)]
        self._do(parts, foreseen)
        for index, sweep in enumerate(self._plan.sweeps):
            contenders, _ = sweep_contenders(self._plan, sweep, self._journal.parts)
            later = [part for each in self._plan.sweeps[index + 1 :] for part in sweep_parts(each, self._plan.contenders)]
            self._do(sweep_parts(sweep, contenders), later)

    def _do(self, parts: Sequence[Part], later: Sequence[Part]) -> None:
        for index, part in enumerate(parts):
            if part.key in self._journal:
                continue
            self._show(part, [*parts[index:], *later])
            begun = time.monotonic()
            self._journal.finish(part.key, self._measure(part))
            for name in (part.kind, f"{part.kind} {part.contender.label}"):
                self._seconds[name].append(time.monotonic() - begun)

    def _show(self, part: Part, left: Sequence[Part]) -> None:
        seconds = sum(self._cost(each) for each in left if each.key not in self._journal)
        done = int(1000 * (time.monotonic() - self._begun))
        # A part is left, however little time it takes.
        self._on_progress(_step(part, self._plan), done, done + max(1, int(1000 * seconds)))

    def _cost(self, part: Part) -> float:
        known = self._seconds.get(f"{part.kind} {part.contender.label}") or self._seconds.get(part.kind)
        if known is None:
            known = [each for times in self._seconds.values() for each in times] or [1.0]
        return sum(known) / len(known)

    def _measure(self, part: Part) -> Any:
        plan = self._plan
        settings = {**plan.settings, "prefix_cache": False}
        if part.kind == "cold":
            return self._cold(part.contender, plan.settings, part.arguments["seed"], "without", "with")
        if part.kind == "sweep":
            return self._sweep(part)
        routes: Table = plan.routes
        arguments = dict(part.arguments)
        if part.kind == "cases":
            assert plan.cases is not None
            routes = [(each.name, each.description) for each in largest_table(plan.cases.cases)]
            arguments = _cases_part(plan.cases, **arguments)
        return self._processes.opened(part.contender, routes, settings).ask(part.kind, **arguments)

    def _cold(self, contender: Contender, settings: Mapping[str, Any], seed: int, *runs: str) -> dict[str, Any]:
        """Fresh processes up to their first decision: ``without`` a saved prefix, then ``with`` the one that left behind."""
        folder = self._scratch / "prefixes"
        found = {}
        try:
            for name in runs:
                with MeasuringProcess(contender.label) as process:
                    own = {**settings, "prefix_cache": str(folder)}
                    opened = process.ask("open", model=str(contender.path), routes=self._plan.routes, settings=own)
                    decided = process.ask("first", seed=seed)
                    found[name] = {"total_ms": 1000 * (time.perf_counter() - process.started), **opened, **decided}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return found

    def _sweep(self, part: Part) -> dict[str, Any]:
        kind, _, _ = part.what.partition("=")
        (sweep,) = (each for each in self._plan.sweeps if each.kind == kind)
        (value,) = (each for each in sweep.values if f"{kind}={each}" == part.what)
        settings = {**self._plan.settings, "prefix_cache": False}
        routes: Table = self._plan.routes
        if kind in SETTING_SWEEPS:
            settings[kind] = value
        elif kind == "routes":
            routes = value
            if part.contender.kind == "generative":
                # Messages are short here; the room for long ones goes to the routes.
                settings["budget"] = min(256, self._plan.all_settings["budget"])
        try:
            process = self._processes.opened(part.contender, routes, settings)
            found: dict[str, Any] = process.ask("decide", **part.arguments)
            if kind == "turns":
                unseen = {**part.arguments, "seed": part.arguments["seed"] + 5000, "primed": False}
                found["unseen_ms"] = process.ask("decide", **unseen)["ms"]
            if kind in SETTING_SWEEPS and part.round == 0:
                cold = self._cold(part.contender, settings, part.arguments["seed"] + 9000, "without")["without"]
                found |= {name: cold[name] for name in ("peak_memory", "device_memory")}
        except MeasuringProcessError:
            raise
        except BenchmarkError as exc:
            # A value that cannot be had, such as more routes than the model takes, is a finding.
            return {"failed": str(exc)}
        return found


def _cases_part(labelled: LabelledCases, start: int, stop: int) -> dict[str, Any]:
    """Cases as values, in the order that reuses most: their file may be a pipe, which is read but once."""
    cases = [labelled.cases[place] for place in evaluation_order(labelled.cases)[start:stop]]
    return {
        "source": labelled.source,
        "cases": [
            {
                "line": case.line,
                "messages": case.messages,
                "routes": [(route.name, route.description) for route in case.table],
                "route": case.route,
            }
            for case in cases
        ],
    }


class _Processes:
    """A process for each level, kept while it fits into memory, and what is open in it."""

    def __init__(self, together: bool) -> None:
        self._together = together
        self._processes: dict[str, MeasuringProcess] = {}
        self._open: dict[str, object] = {}

    def opened(self, contender: Contender, routes: Table, settings: Mapping[str, Any]) -> MeasuringProcess:
        """The level's process, with a warm router of these routes and settings."""
        if not self._together:
            self.close(but=contender.label)
        process = self._processes.get(contender.label)
        if process is None:
            process = self._processes[contender.label] = MeasuringProcess(contender.label)
        wanted = (routes if isinstance(routes, int) else tuple(map(tuple, routes)), dict(settings))
        if self._open.get(contender.label) != wanted:
            self._open.pop(contender.label, None)
            process.ask("open", model=str(contender.path), routes=routes, settings=dict(settings))
            self._open[contender.label] = wanted
        return process

    def close(self, but: str | None = None) -> None:
        """End the processes, all or all but one."""
        for label in [each for each in self._processes if each != but]:
            self._open.pop(label, None)
            self._processes.pop(label).close()

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _step(part: Part, plan: BenchPlan) -> str:
    if part.kind == "cases":
        return "cases"
    if part.kind == "sweep":
        return f"sweep over {part.what.partition('=')[0].replace('_', ' ')}"
    return f"round {part.round + 1} of {plan.rounds}"


def free_memory() -> int:
    """Bytes that models may take: of the machine, or of its GPU, where that is less."""
    free = [int(0.9 * psutil.virtual_memory().available)]
    if backend.build().gpu_offload:
        free += [device.memory_free for device in backend.devices() if device.name != "CPU" and device.memory_free]
    return min(free)
