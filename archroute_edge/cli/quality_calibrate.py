"""``archroute quality calibrate``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.labelled import check_can_write
from archroute_edge.cli.options import json_option
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.cli.quality_predictor import predictor_file
from archroute_edge.cli.quality_prices import Share, parse_prices
from archroute_edge.cli.quality_score import encoder_option
from archroute_edge.cli.tables import print_tables, require_rich
from archroute_edge.config import Price, shorten
from archroute_edge.errors import QualityError, SettingsError
from archroute_edge.report import Column, Table, number, percent, printable, table
from archroute_edge.targets import RequestFacts, price_of_request

if TYPE_CHECKING:
    from archroute_edge.quality import OperatingPoint, Predictor, PromptFeatures, RateReport, Scores


@dataclass(frozen=True)
class _Prompts:
    """Expected scores of prompts by all models of a predictor, and what is known of the prompts; no features of a sample."""

    scores: Scores
    tokens: list[float | None]
    unlike: float | None
    features: PromptFeatures | None


@click.command(
    "calibrate",
    cls=Command,
    epilog=examples(
        "archroute quality calibrate my.st --share 30% --price a=0,0 --price b=2,8",
        "archroute quality calibrate my.st - --share 0.3 --price a=0,0 --price b=2,8",
    ),
)
@click.argument("predictor")
@click.argument("prompts", required=False)
@option("--share", metavar="S", type=Share(), help="Share of the prompts that may go to the dearest model.")
@option("--cost-per-1k", metavar="USD", type=click.FloatRange(0), help="US dollars that 1,000 requests may cost.")
@option(
    "--price",
    "stated",
    metavar="MODEL=IN,OUT",
    multiple=True,
    help="US dollars for a million tokens of prompt and of answer; once for each model that a request may go to.",
)
@encoder_option
@option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write PREDICTOR with PROMPTS as its sample.")
@json_option
def calibrate_quality(
    predictor: str,
    prompts: str | None,
    share: float | None,
    cost_per_1k: float | None,
    stated: tuple[str, ...],
    encoder: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Turn a share of calls of the dearest model, or a budget, into a rate.

    A request goes to the model with the best expected score less its price times the rate. PROMPTS has a prompt a line,
    {"id", "text"} or {"id", "messages"}; - is stdin. Without it the rate is found on the predictor's own sample. An answer is
    taken to have 500 tokens. A selection_policy takes the rate as it is; or give it the share or the cost, and as its predictor
    the file that -o writes.
    """
    from archroute_edge.quality import load_predictor, rate_report, read_about, save_predictor, with_sample

    if (share is None) == (cost_per_1k is None):
        raise SettingsError("give either --share or --cost-per-1k")
    if output is not None and prompts is None:
        raise SettingsError("-o writes PROMPTS as the predictor's sample; name them")
    if encoder is not None and prompts is None:
        raise SettingsError("--encoder reads PROMPTS; name them")
    if cost_per_1k is not None and not math.isfinite(cost_per_1k):
        raise SettingsError(f"--cost-per-1k is {cost_per_1k}; expected an amount of US dollars")
    if not as_json:
        require_rich()
    check_can_write(output)
    path = predictor_file(predictor)
    opened = load_predictor(path)
    prices = _prices(stated, opened)
    found = _of_sample(opened, path) if prompts is None else _of_prompts(opened, prompts, encoder)
    columns = [opened.models.index(name) for name in prices]
    costs = [[price_of_request(price, _facts(tokens)) for price in prices.values()] for tokens in found.tokens]
    report = rate_report(
        tuple(prices), found.scores[:, columns], costs, share=share, cost_per_1k=cost_per_1k, unlike=found.unlike
    )
    _warn(report)
    if output is not None:
        about = read_about(path)
        assert found.features is not None
        kept = with_sample(opened, found.scores, [each or 0.0 for each in found.tokens], found.features)
        save_predictor(kept, output, trained_on=about["trained_on"], licence=about["licence"])
    if as_json:
        click.echo(json.dumps({**report.to_dict(), "file": None if output is None else str(output)}))
        return
    print_tables([_table(report)])
    click.echo(f"rate {report.chosen.rate:g}")
    if output is not None:
        click.echo(click.format_filename(output))


def _prices(stated: Sequence[str], predictor: Predictor) -> dict[str, Price]:
    """Model to its price, as ``--price`` says.

    Raises:
        SettingsError: none, not of that form, or of a model that the predictor does not know.
    """
    found = parse_prices(stated)
    known = ", ".join(map(shorten, predictor.models[:8]))
    if not found:
        raise SettingsError(f"give --price MODEL=IN,OUT for each model that a request may go to; the predictor knows {known}")
    for name in found:
        if name not in predictor.models:
            raise SettingsError(f"--price: the predictor knows no model {shorten(name)}; it knows {known}")
    return found


def _of_sample(predictor: Predictor, path: Path) -> _Prompts:
    if not len(predictor.sample):
        raise QualityError(f"{path}: has no sample of prompts; name a file of yours")
    known = predictor.sample_tokens
    tokens: list[float | None] = [None] * len(predictor.sample) if known is None else known.tolist()
    return _Prompts(predictor.sample, tokens, None, None)


def _of_prompts(predictor: Predictor, file: str, encoder: str | None) -> _Prompts:
    from archroute_edge.cli.quality_encoder import encoder_of
    from archroute_edge.quality import expected_of_sample, features_of, prompt_tokens, read_prompts

    path = encoder_of(predictor, encoder)
    prompts = list(read_prompts(file))
    if not prompts:
        raise QualityError(f"{'standard input' if file == '-' else file}: there are no prompts")
    with ProgressLine() as line:
        features = features_of(prompts, path, lambda done, total: line("reading the prompts", done, total))
    unlike = None if predictor.novelty is None else float(predictor.novelty.unlike(features).mean())
    tokens: list[float | None] = [prompt_tokens(prompt) for prompt in prompts]
    return _Prompts(expected_of_sample(predictor, features), tokens, unlike, features)


def _facts(tokens: float | None) -> RequestFacts:
    return RequestFacts(None if tokens is None else int(tokens))


def _warn(report: RateReport) -> None:
    from archroute_edge.quality import MANY

    if report.unlike is not None and report.unlike >= MANY:
        click.echo(
            f"{report.unlike:.0%} of the prompts are unlike those that the predictor was trained on (of those, about 2% are): "
            "what it expects of them may be far off; archroute quality eval on graded prompts of yours tells",
            err=True,
        )


def _table(report: RateReport) -> Table:
    rows: list[tuple[str, OperatingPoint]] = [("at the rate found", report.chosen)]
    rows += [(f"always {printable(name)}", point) for name, point in zip(report.models, report.alone, strict=True)]
    rows += [(f"the dearest for {point.dear_share:.0%}", point) for point in report.curve]
    columns = [
        Column("", "", lambda row: row[0]),
        Column("", "rate", lambda row: None if row[0].startswith("always ") else row[1].rate, number),
        Column("", "$ per 1,000", lambda row: row[1].cost_per_1k, number),
        Column("", "expected score", lambda row: row[1].expected_score, number),
    ]
    columns += [Column("", printable(name), _share_of(place), percent) for place, name in enumerate(report.models)]
    return table("Expected scores and costs", columns, rows, note=f"{report.n_prompts} prompts.")


def _share_of(place: int) -> Callable[[tuple[str, OperatingPoint]], float]:
    return lambda row: row[1].shares[place]
