"""``archroute bench``."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from archroute_edge import bench as benchmark
from archroute_edge.bench import BenchPlan, Contender, LabelledCases, Sweep
from archroute_edge.cli.help import examples, option
from archroute_edge.cli.labelled import SHIPPED as SHIPPED_CASES
from archroute_edge.cli.labelled import RecordedCommand, check_can_write, file_option, made, resume_option
from archroute_edge.cli.options import json_option, model_budget_option, prompt_format_option, read_config
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.cli.tables import print_answer, print_tables, shows_tables
from archroute_edge.engine import DEFAULT_KV_TYPE, ENGINES, KV_TYPES
from archroute_edge.errors import SettingsError
from archroute_edge.evaluation import Journal, read_cases, shipped_cases
from archroute_edge.models import AUTO
from archroute_edge.report import require_matplotlib
from archroute_edge.routes import RouteTable
from archroute_edge.routing import GPU_LAYERS_LIMITS, N_CTX_LIMITS, THREADS_LIMITS

SHIPPED: Final = "shipped"
_MOST_TURNS: Final = 64
_MANY: Final = click.IntRange(1, 1000)

_USUAL: Final = {"engine": AUTO}

Parse = Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...] | None]


def _list_of(convert: Callable[[str], Any], wanted: str) -> Parse:
    """Reads values with commas between them, each once."""

    def parse(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[Any, ...] | None:
        if text is None:
            return None
        try:
            return tuple(dict.fromkeys(convert(part.strip()) for part in text.split(",")))
        except (KeyError, ValueError):
            raise click.BadParameter(f"{text!r} is not {wanted}, with commas between several") from None

    return parse


def _numbers(least: int, most: int, **words: int) -> Parse:
    def convert(text: str) -> int:
        number = words[text] if text in words else int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    also = "".join(f", or {word}" for word in words)
    return _list_of(convert, f"a whole number from {max(least, 0)} to {most}{also}")


def _choice(**meanings: Any) -> Parse:
    return _list_of(lambda text: meanings[text], f"one of {', '.join(meanings)}")


def _swept(names: str, parse: Parse, what: str, metavar: str = "N,...") -> Callable[[Any], Any]:
    return option(*names.split(), callback=parse, metavar=metavar, heading="Settings; several values make a sweep", help=what)


@click.command(
    cls=RecordedCommand,
    epilog=examples(
        "archroute bench --model arch-router --quant Q4_0,Q4_K_M,Q8_0",
        "archroute bench --from model-F16.gguf --quant all --cases shipped",
        "archroute bench one.gguf two.gguf --threads 1,2,4 --n-routes 5,50,200",
    ),
)
@click.argument("gguf", nargs=-1)
@option("--model", metavar="NAME|PATH", default=AUTO, help="Model to measure.")
@option("--quant", "quants", callback=_list_of(str, "a level"), metavar="LEVELS|all",
        help="Levels of the model on this machine, or levels to make with --from.")  # fmt: skip
@file_option("--from source", "F16, BF16 or F32 GGUF; levels missing beside it are made for this run.")
@file_option("--imatrix", "Importance matrix for making levels.")
@option("--config", metavar="FILE", help="Routes to decide on.  [default: five example routes]")
@prompt_format_option
@_swept("--threads", _numbers(*THREADS_LIMITS), "CPU threads.  [default: physical cores]")
@_swept("--gpu-layers", _numbers(*GPU_LAYERS_LIMITS, all=-1), "Layers on the GPU, or all.  [default: all, if there is a GPU]")
@_swept("--n-ctx", _numbers(*N_CTX_LIMITS), "Size of the KV cache in tokens.  [default: fitted to the routes]")
@_swept("--kv-type", _choice(**{name: name for name in KV_TYPES}),
        f"Data type of the KV cache.  [default: {DEFAULT_KV_TYPE}]", "TYPE,...")  # fmt: skip
@_swept("--flash-attention", _choice(on=True, off=False),
        "Flash attention.  [default: as measured for the prompt's length]", "on,off")  # fmt: skip
@_swept("--engine", _choice(**{name: name for name in ENGINES}),
        "Engine; auto takes ik_llama.cpp if it is installed and faster here.  [default: auto]", "ENGINE,...")  # fmt: skip
@_swept("--n-routes routes", _numbers(1, benchmark.MOST_ROUTES), "Numbers of made-up routes.")
@_swept("--turns", _numbers(1, _MOST_TURNS), "Lengths of a conversation, in turns.")
@model_budget_option
@option("--rounds", type=_MANY, default=6, metavar="N", help="Number of rounds; levels take turns in each.")
@option("--decisions", type=_MANY, default=4, metavar="N",
        help="Conversations in a round; from 72 in all, p95 gets an upper bound.")  # fmt: skip
@option("--cases", metavar=f"FILE|{SHIPPED}", help="Labelled cases to measure quality with; see archroute eval.")
@option("--reference", metavar="LEVEL",
        help="Level that the others are compared with on the cases.  [default: the most bits]")  # fmt: skip
@resume_option
@json_option
@file_option("--csv", "Also write CSV, one row for each level and point of a sweep.")
@file_option("--html", "Also write an HTML page with plots.")
@click.pass_context
def bench(ctx: click.Context, /, resume: bool, as_json: bool, csv: Path | None, html: Path | None, **options: Any) -> None:
    """Measure models or levels on this machine and recommend one.

    GGUF are model files to measure beside those of --model and --quant; nothing is downloaded. The report goes to stdout.
    Ctrl-C reports the finished part; --resume continues from there.
    """
    with_tables = shows_tables(as_json, csv)
    if html is not None:
        require_matplotlib()
    check_can_write(csv, html)
    interrupted = False
    with benchmark.scratch_folder() as scratch, ProgressLine() as line:
        plan = _plan(options, scratch, line)
        for note in plan.notes:
            click.echo(f"note: {note}", err=True)
        machine = benchmark.describe_machine()
        run = {**plan.identity(), "machine": benchmark.machine_identity(machine)}
        with Journal(run, resume=resume) as journal:
            if resume:
                click.echo(f"{len(journal.parts)} parts are there from an interrupted run", err=True)
            try:
                benchmark.run_bench(plan, journal, scratch, line)
            except KeyboardInterrupt:
                interrupted = True
            line.clear()
            if interrupted:
                click.echo("interrupted; the same command with --resume goes on", err=True)
            report = benchmark.report_on(plan, journal.parts, machine)
            if not any(each.first_turn for each in report.levels):
                ctx.exit(130)
            if csv is not None:
                benchmark.write_levels(report, csv)
            if html is not None:
                benchmark.bench_page(report, made(ctx)).write(html)
            if as_json:
                click.echo(json.dumps(benchmark.to_json(report)))
            elif with_tables:
                print_answer(benchmark.conclusion(report))
                sweeps = (benchmark.sweep_table(each) for each in report.sweeps if each.points)
                print_tables(itertools.chain(benchmark.level_tables(report), sweeps, [benchmark.machine_table(report)]))
            if not interrupted:
                journal.remove()
    if interrupted:
        ctx.exit(130)


def _plan(options: dict[str, Any], scratch: Path, line: ProgressLine) -> BenchPlan:
    sweeps: list[Sweep] = []
    settings: dict[str, Any] = {"prompt_format": options["prompt_format"], "budget": options["budget"]}
    for kind in benchmark.SETTING_SWEEPS:
        values: tuple[Any, ...] = options[kind] or ()
        settings[kind] = values[0] if len(values) == 1 else _USUAL.get(kind)
        if len(values) > 1:
            sweeps.append(Sweep(kind, values))
    sweeps += [Sweep(kind, options[kind]) for kind in benchmark.LOAD_SWEEPS if options[kind]]
    # Cases and routes first: what is wrong with them should not be found out after levels have been made.
    chosen = read_config(options["config"])
    table = chosen.config.table
    cases = _cases(options["cases"], None if chosen.is_example else table)
    contenders, notes = _contenders(options, scratch, line)
    together = benchmark.fit_together(contenders, benchmark.free_memory())
    if not together:
        notes.append("the levels do not fit into memory side by side, so each is loaded once a round")
    if cases is None and len({each.kind for each in contenders}) > 1:
        notes.append("bits a weight do not compare an encoder with a language model; --cases does, and gives a recommendation")
    return BenchPlan(
        contenders=tuple(contenders),
        settings=settings,
        routes=tuple((route.name, route.description) for route in table),
        rounds=options["rounds"],
        decisions=options["decisions"],
        cases=cases,
        reference=_reference(options["reference"], contenders, cases),
        sweeps=tuple(sweeps),
        together=together,
        notes=tuple(notes),
    )


def _cases(name: str | None, table: RouteTable | None) -> LabelledCases | None:
    """The labelled cases; ``table`` stands in where a case has no routes of its own."""
    if name is None:
        return None
    if name == SHIPPED:
        return LabelledCases(SHIPPED_CASES, shipped_cases())
    return LabelledCases(name, read_cases(Path(name), table))


def _contenders(options: dict[str, Any], scratch: Path, line: ProgressLine) -> tuple[list[Contender], list[str]]:
    model, quants, source, imatrix = (options[name] for name in ("model", "quants", "source", "imatrix"))
    found = benchmark.named_contenders(options["gguf"])
    notes: list[str] = []
    if source is None and imatrix is not None:
        raise SettingsError("--imatrix is for making levels; name the file to make them of with --from")
    if source is not None:
        if quants is None:
            raise SettingsError("--from needs --quant: the levels to make of it, or all")
        if model != AUTO:
            raise SettingsError("--from says already which model is measured; leave --model out")
        plan = benchmark.plan_levels(source, quants, imatrix)
        notes += plan.notes
        found += benchmark.make_levels(plan, scratch, lambda level, done, total: line(f"making {level}", done, total))
    elif quants is not None:
        found += benchmark.levels_of_model(model, quants)
    elif model != AUTO or not found:
        found += benchmark.named_contenders([model])
    return benchmark.all_different(found), notes


def _reference(label: str | None, contenders: list[Contender], cases: LabelledCases | None) -> str | None:
    if label is not None and cases is None:
        raise SettingsError("--reference is what decisions on cases are compared with; give --cases as well")
    if label is not None:
        named = [each.label for each in contenders if label in (each.label, each.level, str(each.path))]
        if not named:
            raise SettingsError(f"no level {label!r} is measured; there are {', '.join(each.label for each in contenders)}")
        return named[0]
    return max(contenders, key=lambda each: each.bits_per_weight).label if cases else None
