"""``python -m tools.measure.peers``: decisions beside those of llama-server, llama-cpp-python and transformers."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click
from rich.console import Console

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.engine import EngineName, build, physical_cores
from archroute_edge.errors import ArchRouteError
from tools.measure.peers import report
from tools.measure.peers.scenarios import SCENARIOS, Setting

_TABLE_WIDTH = 132
_file = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=_file)
@click.option("--llama-server", type=_file, help="llama-server of llama-cpp-python's llama.cpp; left out, it is not compared.")
@click.option("--llama-bench", type=_file, help="llama-bench of the same; left out, the scenario prefill is not run.")
@click.option("--transformers", is_flag=True, help="Run the scenario quickstart as well (extra: peers).")
@click.option("--only", type=click.Choice(list(SCENARIOS)), multiple=True, help="Run this scenario; may be repeated.")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True, help="Measured rounds a scenario.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads for every side.  [default: physical cores]")
@click.option("--engine", type=click.Choice(["llama.cpp", "ik"]), default="llama.cpp", show_default=True, help="Ours.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every single time in it.")
def command(
    model: Path,
    llama_server: Path | None,
    llama_bench: Path | None,
    transformers: bool,
    only: tuple[str, ...],
    rounds: int,
    threads: int | None,
    engine: EngineName,
    as_json: bool,
) -> None:
    """Measure decisions of MODEL, a Qwen2 GGUF, beside those of other programs that run it."""
    wanted = {"quickstart": transformers, "prefill": llama_bench is not None}
    chosen = only or tuple(name for name in SCENARIOS if wanted.get(name, True))
    console = Console(width=_TABLE_WIDTH, markup=False)
    outcomes = []
    with ProgressLine() as progress:
        setting = Setting(model, threads or physical_cores(), rounds, llama_server, llama_bench, progress, engine)
        for name in chosen:
            progress.clear()
            click.echo(f"{name}: starting what is compared", err=True)
            outcome = SCENARIOS[name](setting)
            progress.clear()
            outcomes.append(report.to_dict(outcome))
            if not as_json:
                report.show(outcome, console)
    if as_json:
        about = {"llama_cpp": build().llama_cpp_version, "binding": build().binding_version, "system": build().system_info}
        run = {"model": model.name, "threads": setting.threads, "rounds": rounds, "engine": engine, **about}
        click.echo(json.dumps({**run, "scenarios": outcomes}, indent=2))


def main() -> None:
    """Run the command; a failure is one line on stderr and exit status 2, an interrupt is status 130."""
    # SIGTERM also ends the programs that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command(prog_name="python -m tools.measure.peers", standalone_mode=False)
    except click.ClickException as exc:
        click.echo(f"error: {exc.format_message()}", err=True)
        sys.exit(2)
    except ArchRouteError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; every program that was started has been ended", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
