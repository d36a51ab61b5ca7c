"""``python -m tools.convert verify``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from archroute_edge.cli.process import shown
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.models import AUTO
from archroute_edge.prompts import PROMPT_FORMATS
from tools.convert.hub_checkpoint import find_checkpoint
from tools.convert.verification import MAX_MEAN_KL, Limits, Verification, reference_file, verify


@click.command(name="verify")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
@click.option("--against", required=True, metavar="CHECKPOINT|GGUF",
              help="What it was made from: a checkpoint's folder, OWNER/NAME on the hub, or another GGUF.")  # fmt: skip
@click.option("--prompt-format", type=click.Choice([AUTO, *PROMPT_FORMATS]), default=AUTO, show_default=True,
              help="How routing prompts are written; auto is what the model was trained on.")  # fmt: skip
@click.option("--max-kl", type=click.FloatRange(min=0), default=MAX_MEAN_KL, show_default=True,
              help="Largest mean KL divergence that is sound, in nats.")  # fmt: skip
@click.option("--min-equal", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Smallest share of equal decisions that is sound.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Threads for evaluation. Default: physical cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def verify_command(
    ctx: click.Context,
    model: Path,
    against: str,
    prompt_format: str,
    max_kl: float,
    min_equal: float,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare a model with its source.

    MODEL is a GGUF. Tensors, metadata and next-token distributions are compared; the last line is the verdict, and the
    exit status is 1 if the model is not sound.
    """
    source = find_checkpoint(against)
    reference, name = source.folder, source.name
    with ProgressLine() as line, reference_file(reference, model, line) as file:
        found = verify(
            model,
            file,
            name=name,
            limits=Limits(max_kl, min_equal),
            prompt_format=prompt_format,
            threads=threads,
            on_progress=line,
        )
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else _report(found))
    ctx.exit(0 if found.passed else 1)


def _report(found: Verification) -> str:
    lines = [f"tensors: {found.files.n_tensors}"]
    lines += [
        f"  {kind:<8}{errors.n_tensors:>5}  largest error {errors.largest:.3g}, "
        f"relative {errors.relative:.3g} of {errors.allowed:.3g} allowed ({errors.worst or 'all exact'})"
        for kind, errors in sorted(found.files.by_type.items())
    ]
    lines.append(
        f"metadata: {found.files.n_keys} keys compared; others that differ: {', '.join(found.files.other_keys) or 'none'}"
    )
    if found.distributions is not None:
        kl = found.distributions
        lines += [
            f"distributions: {kl.n_prompts} routing prompts, {kl.n_positions} positions",
            f"  KL divergence mean {kl.mean_kl:.4g}, 99th percentile {kl.kl_99:.4g}, largest {kl.largest_kl:.4g} nats",
            f"  equal decisions {kl.equal_decisions:.1%}; right: {kl.right_decisions:.1%}, "
            f"by the reference {kl.reference_right_decisions:.1%}",
        ]
    lines += [f"problem: {problem}" for problem in found.problems]
    # Names of tensors and keys are the file's.
    return "\n".join(map(shown, [*lines, found.verdict]))
