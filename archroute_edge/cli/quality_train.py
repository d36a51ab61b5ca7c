"""``archroute quality train``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.labelled import check_can_write, file_option
from archroute_edge.cli.options import json_option
from archroute_edge.cli.process import shown
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.cli.quality_outcomes import grades_option, read_given, tiers_option
from archroute_edge.errors import SettingsError
from archroute_edge.models import BUNDLED_ENCODER

if TYPE_CHECKING:
    from archroute_edge.quality import PairCheck, Policy

NO_ENCODER = "none"
VECTORS = "vectors"


@click.command(
    cls=Command,
    epilog=examples(
        "archroute quality train outcomes/ -o my.safetensors",
        "archroute quality train outcomes/ --targets small,large -o two.safetensors",
        "archroute quality train --battles battles.jsonl --policy similarity -o b.st",
    ),
)
@click.argument("outcomes", nargs=-1)
@option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", required=True, help="File to write.")
@file_option("--battles", "Battles of two models: lines of model_a, model_b, winner and a prompt or its id.")
@option(
    "--policy",
    type=click.Choice(["heads", "factorization", "similarity", "classifier", "causal"]),
    default="heads",
    help="How scores are predicted; all but heads and causal learn from battles, drawn from OUTCOMES without --battles.",
)
@option("--targets", metavar="A,B,...", help="Learn these models alone.  [default: all that have outcomes]")
@tiers_option
@grades_option
@option(
    "--encoder",
    metavar="NAME|PATH",
    help=(
        "Encoder whose vectors are learned from; for causal the language model whose levels are; none reads texts alone.  "
        f"[default: {BUNDLED_ENCODER}]"
    ),
)
@file_option("--vectors", "Take the encoder's vectors from FILE, and put there those that it lacks.")
@option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, metavar="N", help="Seed of everything random.")
@option("--together", is_flag=True, help="Learn all sets together, even if each does better with heads of its own.")
@option("--licence", default="", metavar="TEXT", help="Licences of the outcomes, kept in the file.")
@json_option
def train(
    outcomes: tuple[str, ...],
    output: Path,
    battles: Path | None,
    policy: Policy,
    targets: str | None,
    tiers: Path | None,
    grades: tuple[str, ...],
    encoder: str | None,
    vectors: Path | None,
    seed: int,
    together: bool,
    licence: str,
    as_json: bool,
) -> None:
    """Train a predictor on outcomes or battles.

    OUTCOMES are pairs of files (prompts_X.jsonl, outcomes_X.csv, or .gz), folders of them, lines of graded prompts, or what
    archroute log export --outcomes wrote. The printed figure is for prompts that were held out, whole categories at a time if
    there are several: the weakest and the strongest model, beside a bag of words.
    """
    from archroute_edge import quality

    started = time.perf_counter()
    quality.require_scipy()
    check_can_write(output)
    check_can_write(vectors)
    _check_says_something(outcomes, battles, policy, targets, tiers, encoder)
    if vectors is not None and (policy == "causal" or encoder == NO_ENCODER):
        raise SettingsError("--vectors keeps an encoder's vectors, and none are read; leave it out")
    if together and policy != "heads":
        raise SettingsError(f"--together is for heads, and {policy} learns all sets together anyway; leave it out")
    if grades and not outcomes:
        raise SettingsError("--grades are of prompts in OUTCOMES; name those")
    found = read_given(outcomes, grades, tiers) if outcomes else None
    fought = quality.read_battles(battles, found.prompts if found is not None else ()) if battles is not None else None
    chosen = _split_names(targets) if targets is not None else None
    if found is not None and chosen is not None:
        found = quality.choose_targets(found, chosen)
    if fought is not None and chosen is not None:
        fought = quality.battles_among(fought, chosen)
    source = fought if fought is not None else found
    assert source is not None
    path, identity = open_encoder(encoder, policy)
    with ProgressLine() as line:
        features = quality.features_of(source.prompts, path, lambda done, total: line(VECTORS, done, total), vectors)
        trained = quality.PolicyTraining(policy, identity, seed, together).train(found, fought, features, line)
        check = None
        if found is not None and trained.held_out is not None:
            check = quality.check_pair(found, features.texts, trained.held_out, trained.parts, line)
        line.clear()
    trained_on = quality.sets_of(found) if found is not None else f"{len(source.prompts):,} prompts with battles"
    quality.save_predictor(trained.predictor, output, trained_on=trained_on, licence=licence)
    ridges: dict[str, dict[str, float | None]] | None = None
    if trained.ridges is not None:
        # JSON has no infinity.
        ridges = {
            kind: {name: ridge if isfinite(ridge) else None for name, ridge in asdict(each).items()}
            for kind, each in trained.ridges.items()
        }
    predictor = trained.predictor
    share = predictor.share if isinstance(predictor, quality.HeadsByKind) else None
    summary = _Summary(str(output), policy, predictor.models, len(source.prompts), ridges, share, check, output.stat().st_size)
    if as_json:
        click.echo(json.dumps(asdict(summary)))
    else:
        click.echo(summary.text(time.perf_counter() - started))


@dataclass(frozen=True)
class _Summary:
    """What was learned.

    ``ridges`` are by set of prompts, those of all sets under an empty name. ``share`` is the weight of the heads of all sets
    beside those of each; None if each has none.
    """

    file: str
    policy: str
    models: tuple[str, ...]
    prompts: int
    ridges: Mapping[str, Mapping[str, float | None]] | None
    share: float | None
    held_out: PairCheck | None
    bytes: int

    def text(self, seconds: float) -> str:
        """For people."""
        models = f"{len(self.models)} model{'' if len(self.models) == 1 else 's'}"
        prompts = f"{self.prompts:,} prompt{'' if self.prompts == 1 else 's'}"
        lines = [f"{self.policy}: {models} learned from {prompts} in {seconds:.0f} s"]
        if self.share is not None:
            lines.append("each set of prompts has heads of its own as well, which did better than those of all sets alone")
            lines.append(f"the heads of all sets have a share of {self.share:g} beside them")
        for kind, ridges in (self.ridges or {}).items():
            described = {name: "no weights" if value is None else f"{value:g}" for name, value in ridges.items()}
            of_kind = f" of {shown(kind)}" if kind else "" if self.share is None else " of all sets"
            lines.append(f"ridges{of_kind}: " + ", ".join(f"{name} {value}" for name, value in described.items()))
        file = f"{click.format_filename(self.file)}: {self.bytes / 1e6:.2f} MB"
        check = self.held_out
        if check is None:
            why = "too few different prompts have scores of two models that have scores elsewhere, too"
            lines.append(f"no figure: {why}; archroute quality eval measures it on other outcomes")
            return "\n".join([*lines, file])
        weak, strong = shown(check.weak), shown(check.strong)
        if check.apgr is None:
            lines.append(f"no figure: {strong} is no better than {weak} on the {check.prompts:,} held-out prompts")
        else:
            assert check.words_apgr is not None
            how = "whole categories at a time" if check.by == "category" else "a fifth of the prompts at a time"
            lines.append(f"held out, {how}: {check.prompts:,} prompts that {weak} and {strong} answered")
            lines.append(f"  APGR {check.apgr:.3f}; bag of words {check.words_apgr:.3f}; random 0.500")
            if check.alike:
                alike = "share twelve words in a row (short ones: all) with a prompt that was learned from"
                lines.append(f"  {check.alike:,} of them {alike}")
            if check.new_apgr is not None and check.new_words_apgr is not None:
                lines.append(f"  without these APGR {check.new_apgr:.3f}; bag of words {check.new_words_apgr:.3f}")
        return "\n".join([*lines, file])


def open_encoder(named: str | None, policy: Policy) -> tuple[Path | None, str | None]:
    """The file and the identity of the model that a policy reads; None for ``none``.

    Args:
        named: by the user; None is the bundled encoder, whatever has its name in the working folder.
        policy: what is to be trained.

    Raises:
        SettingsError: it is of the other kind.
        ModelError: there is none of that name, or it is no model.
    """
    from archroute_edge.models import find_bundled, find_model
    from archroute_edge.quality import kind_of_model, model_identity

    if named == NO_ENCODER:
        return None, None
    name = BUNDLED_ENCODER if named is None else named
    path = (find_bundled(name) if named is None else find_model(name)).path
    kind = kind_of_model(path)
    if policy == "causal" and kind == "encoder":
        raise SettingsError(f"causal reads what a language model says, and {name} is an encoder; name one with --encoder")
    if policy != "causal" and kind == "generative":
        raise SettingsError(f"{policy} reads an encoder's vectors, and {name} is a language model; name one with --encoder")
    return path, model_identity(path)


def _split_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise SettingsError(f"--targets {text!r}: expected names of models, separated by commas")
    return names


def _check_says_something(
    outcomes: tuple[str, ...], battles: Path | None, policy: str, targets: str | None, tiers: Path | None, encoder: str | None
) -> None:
    if not outcomes and battles is None:
        raise SettingsError("there is nothing to learn from; name OUTCOMES, or battles with --battles")
    if policy in ("heads", "causal") and battles is not None:
        raise SettingsError(f"{policy} learns from scores and not from battles; leave out --battles, or take another --policy")
    if tiers is not None and (targets is not None or battles is not None):
        raise SettingsError("--tiers says what is learned; leave out --targets and --battles")
    if policy != "heads" and encoder == NO_ENCODER:
        if policy == "causal":
            raise SettingsError("causal learns from the levels of a language model; name one with --encoder")
        raise SettingsError(f"{policy} learns from an encoder's vectors; leave out --encoder none")
