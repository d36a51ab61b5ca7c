"""``archroute quality eval``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archroute_edge.cli import labelled
from archroute_edge.cli.help import examples, option
from archroute_edge.cli.options import json_option
from archroute_edge.cli.process import one_line, shown
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.cli.quality_outcomes import grades_option, read_given, tiers_option
from archroute_edge.cli.quality_predictor import predictor_file
from archroute_edge.cli.quality_prices import parse_prices
from archroute_edge.cli.quality_score import encoder_option
from archroute_edge.cli.tables import print_answer, print_tables, require_rich
from archroute_edge.errors import SettingsError
from archroute_edge.report import require_matplotlib

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from archroute_edge.config import Price
    from archroute_edge.quality import EvaluationSettings, Outcomes, Predictor, PromptFeatures, QualityReport, Split


@click.command(
    name="eval",
    cls=labelled.RecordedCommand,
    epilog=examples(
        "archroute quality eval my.safetensors outcomes/ --weak small --strong large",
        "archroute quality eval my.safetensors outcomes/ --html report.html",
        "archroute quality eval my.st outcomes/ --price a=0.1,0.4 --price b=2,8",
    ),
)
@click.argument("predictor")
@click.argument("outcomes", nargs=-1, required=True)
@option("--weak", multiple=True, metavar="MODEL", help="Weak model of a pair; repeat it and --strong for more pairs.")
@option("--strong", multiple=True, metavar="MODEL", help="Strong model of a pair.  [default: the two farthest apart]")
@option(
    "--price",
    "prices",
    multiple=True,
    metavar="MODEL=IN,OUT",
    help="US dollars for a million tokens of prompt and of answer; with two models or more, cost is set against quality.",
)
@option(
    "--train",
    multiple=True,
    metavar="OUTCOMES",
    help="Outcomes that the bag of words learns from, and whose categories count as seen.  [default: cross-validation]",
)
@option(
    "--retrain",
    is_flag=True,
    help="Judge by categories that were left out: PREDICTOR's policy is trained anew, each time without a part of them.",
)
@grades_option
@tiers_option
@encoder_option
@option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=1000,
    metavar="N",
    help="Resamples of the prompts that intervals are of; 0 gives none.",
)
@json_option
@labelled.file_option("--html", "Also write an HTML page with plots.")
@click.pass_context
def evaluate_quality(
    ctx: click.Context,
    /,
    predictor: str,
    outcomes: tuple[str, ...],
    weak: tuple[str, ...],
    strong: tuple[str, ...],
    prices: tuple[str, ...],
    train: tuple[str, ...],
    retrain: bool,
    grades: tuple[str, ...],
    tiers: Path | None,
    encoder: str | None,
    resamples: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Measure how well a predictor tells which model is worth its price.

    OUTCOMES are files as archroute quality train reads them, that the predictor was not trained on; with --retrain they may be
    the same. Every figure stands beside random choice and beside a bag of words. An answer is taken to have 500 tokens. The
    report goes to stdout.
    """
    from archroute_edge import quality
    from archroute_edge.cli.quality_encoder import encoder_of

    if not as_json:
        require_rich()
    if html is not None:
        require_matplotlib()
    labelled.check_can_write(html)
    quality.require_scipy()
    if len(weak) != len(strong):
        raise SettingsError(f"{len(weak)} x --weak and {len(strong)} x --strong; each pair needs one of both")
    priced = parse_prices(prices)
    opened = quality.load_predictor(predictor_file(predictor))
    if retrain and train:
        raise SettingsError("--retrain trains on OUTCOMES themselves; leave out --train")
    found = read_given(outcomes, grades, tiers, may_lack=True)
    if retrain:
        found = quality.choose_targets(found, [model for model in opened.models if model in found.models])
    parts = quality.new_category_parts(found) if retrain else ()
    training = None
    if train:
        learned = read_given(train, (), tiers, may_lack=True)
        training = quality.YardstickTraining(learned, quality.features_of(learned.prompts, None).texts)
    pairs = list(zip(weak, strong, strict=True))
    if not pairs and not priced:
        pairs = [_widest_pair(opened, found)]
    path = encoder_of(opened, encoder)
    settings = quality.EvaluationSettings(
        pairs=pairs, prices=_costs(priced, found) if priced else None, training=training, n_draws=resamples
    )
    source = ", ".join(outcomes)
    with ProgressLine() as line:
        features = quality.features_of(found.prompts, path, lambda done, total: line("reading the prompts", done, total))
        if retrain:
            report = _of_new_categories(opened, found, features, parts, settings, source, line)
        else:
            report = quality.evaluate_predictor(opened, found, features, settings, source=source, on_progress=line)
    if html is not None:
        quality.quality_page(report, labelled.made(ctx)).write(html)
    if as_json:
        click.echo(json.dumps(quality.report_to_dict(report)))
        return
    print_answer(report.answer())
    click.echo(f"{report.described()}\n")
    for warning in report.warnings:
        click.echo(f"archroute: {one_line(warning)}", err=True)
    print_tables(quality.quality_tables(report))


def _of_new_categories(
    predictor: Predictor,
    outcomes: Outcomes,
    features: PromptFeatures,
    parts: Sequence[Split],
    settings: EvaluationSettings,
    source: str,
    on_progress: ProgressLine,
) -> QualityReport:
    """The report on predictors of the same policy, each trained without the categories that it is judged by."""
    import numpy as np

    from archroute_edge import quality

    # As the file was made: with heads of each set, or with those of all sets alone.
    together = not isinstance(predictor, quality.HeadsByKind)
    training = quality.PolicyTraining(predictor.policy, predictor.encoder, together=together)
    found = training.expected_of_new_categories(outcomes, features, parts, on_progress)
    # What no other category tells anything about is no outcome to judge by.
    judged = quality.Outcomes(outcomes.prompts, outcomes.models, np.where(np.isnan(found), np.nan, outcomes.scores))
    return quality.evaluate_scores(
        predictor.policy,
        outcomes.models,
        np.nan_to_num(found, nan=0.5),
        judged,
        features.texts,
        settings,
        source=f"{source}; the policy trained anew without the categories of each of {len(parts)} parts",
        on_progress=on_progress,
    )


def _costs(prices: Mapping[str, Price], outcomes: Outcomes) -> dict[str, npt.NDArray[np.float64]]:
    """US dollars of each request, by model."""
    import numpy as np

    from archroute_edge.quality import prompt_tokens
    from archroute_edge.targets import RequestFacts, price_of_request

    facts = [RequestFacts(prompt_tokens(prompt)) for prompt in outcomes.prompts]
    return {model: np.array([price_of_request(price, each) for each in facts]) for model, price in prices.items()}


def _widest_pair(predictor: Predictor, outcomes: Outcomes) -> tuple[str, str]:
    """Of the predictor's models, the two that lie farthest apart."""
    from archroute_edge.quality import widest_pair

    known = [model for model in outcomes.models if model in predictor.models]
    pair = widest_pair(outcomes.columns(known).scores)
    if pair is None:
        raise SettingsError(
            "no two of the predictor's models have outcomes of 20 prompts or more in common; name --weak and --strong, of "
            f"{', '.join(predictor.models)}"
        )
    weak, strong = (known[place] for place in pair)
    click.echo(f"no --weak and --strong given: using {shown(weak)} and {shown(strong)}", err=True)
    return weak, strong
