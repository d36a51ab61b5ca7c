"""RouteLLM's four policies, beside what it published, on the outcomes that it published.

    python -m tools.measure.routellm_policies OUTCOMES [--judge GGUF] [--vectors FILE]

OUTCOMES is a folder of sets of outcomes, ``routellm_mmlu`` and ``routellm_gsm8k`` among them. Each policy orders their prompts
by how much better GPT-4 is expected to answer than Mixtral, having learned from

- ``prompts``: four fifths of the set's prompts, in turn;
- ``subjects``: the prompts of four fifths of its subjects, in turn;
- ``others``: the other sets, but those that have questions of this one.

RouteLLM's figures are the best of its policies on MMLU (arXiv 2406.18665), each by itself; its training data and its vectors,
which OpenAI computes, are other ones. A bag of words is cross-validated on the same prompts. ``causal`` is there with a
language model that says marks; what that was trained on is not held out here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import numpy as np
import numpy.typing as npt

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.errors import QualityError
from archroute_edge.models import BUNDLED_ENCODER, find_model
from archroute_edge.quality import (
    EvaluationSettings,
    Outcomes,
    Predictor,
    PromptFeatures,
    Scores,
    battles_of,
    encoder_identity,
    evaluate_scores,
    features_of,
    folds,
    read_outcomes,
    train_causal,
    train_classifier,
    train_factorization,
    train_similarity,
)

WEAK, STRONG = "Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
PUBLISHED: Final[dict[str, dict[str, float]]] = {"routellm_mmlu": {"apgr": 0.603, "cpt50": 0.354, "cpt80": 0.703}}
OVERLAPS: Final = {"routellm_mmlu": ("mmlupro", "ulab"), "routellm_gsm8k": ("zeroeval", "ulab")}
"""Sets that have questions of these, in other words maybe."""
FROM_BATTLES: Final = {"similarity": train_similarity, "factorization": train_factorization, "classifier": train_classifier}
CAUSAL: Final = "causal"
_PARTS: Final = 5
Part = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
FIGURES: Final = ("apgr", "cpt50", "cpt80")


def trainings(outcomes: Outcomes, name: str, seed: int) -> Iterator[tuple[str, list[Part]]]:
    """Ways to train for a set: a name, and numbers of the prompts to learn from and to judge by, in turn."""
    groups = np.array([prompt.group for prompt in outcomes.prompts])
    own = np.flatnonzero(groups == name)
    yield "prompts", [(own[part.train], own[part.test]) for part in folds(outcomes.rows(own), _PARTS, "prompt", seed)]
    if len({prompt.category for prompt in outcomes.rows(own).prompts}) >= _PARTS:
        yield "subjects", [(own[part.train], own[part.test]) for part in folds(outcomes.rows(own), _PARTS, "category", seed)]
    others = np.flatnonzero(~np.isin(groups, (name, *OVERLAPS[name])))
    if not np.isnan(outcomes.rows(others).columns((WEAK, STRONG)).scores).all(axis=0).any():
        yield "others", [(others, own)]


def expected(policy: str, outcomes: Outcomes, features: PromptFeatures, asked: PromptFeatures, seed: int) -> Scores:
    """(n, 2) expected scores of the weak and the strong model, by a predictor trained on the outcomes."""
    answered = np.flatnonzero(~np.isnan(outcomes.scores).all(axis=0))
    known = outcomes.columns([outcomes.models[column] for column in answered])
    predictor: Predictor
    if policy == CAUSAL:
        predictor = train_causal(known, features, model=None, seed=seed)
    else:
        predictor = FROM_BATTLES[policy](battles_of(known, seed), features, known, seed=seed)
    return predictor.expected(asked)[:, [predictor.models.index(model) for model in (WEAK, STRONG)]]


@click.command()
@click.argument("folder", metavar="OUTCOMES", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--encoder", type=click.Path(exists=True, path_type=Path), help="Its vectors are read.  [default: the bundled]")
@click.option("--vectors", type=click.Path(dir_okay=False, path_type=Path), help="Keep the encoder's vectors in this file.")
@click.option("--judge", type=click.Path(exists=True, path_type=Path), help="Language model whose marks causal reads.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of parts, battles, training and intervals.")
@click.option("--resamples", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the intervals.")
def main(folder: Path, encoder: Path | None, vectors: Path | None, judge: Path | None, seed: int, resamples: int) -> None:
    """Print a line of JSON for each set, way of training and policy."""
    outcomes = read_outcomes([folder])
    file = encoder or find_model(BUNDLED_ENCODER).path
    if missing := {WEAK, STRONG} - set(outcomes.models):
        raise QualityError(f"{folder}: no outcomes of {', '.join(sorted(missing))}")
    settings = EvaluationSettings([(WEAK, STRONG)], n_draws=resamples, seed=seed)
    with ProgressLine() as line:
        features = features_of(outcomes.prompts, file, lambda done, total: line("vectors", done, total), vectors)
        if judge is not None:
            levels = features_of(outcomes.prompts, judge, lambda done, total: line("marks", done, total)).levels
            features = PromptFeatures(features.texts, features.vectors, levels)
        for name in OVERLAPS:
            for way, parts in trainings(outcomes, name, seed):
                for policy in (*FROM_BATTLES, *([] if judge is None else [CAUSAL])):
                    scores = np.full((len(outcomes.prompts), 2), np.nan)
                    for number, (train, test) in enumerate(parts):
                        line(f"{name}, {way}, {policy}", number, len(parts))
                        known = outcomes.rows(train), features.rows(train)
                        scores[test] = expected(policy, *known, features.rows(test), seed)
                    judged = np.flatnonzero(~np.isnan(scores).any(axis=1))
                    texts = features.rows(judged).texts
                    report = evaluate_scores(policy, (WEAK, STRONG), scores[judged], outcomes.rows(judged), texts, settings)
                    line.clear()
                    rows = {row.name: row.figures for row in report.pairs[0].whole.rows}
                    figures = {who: {each: found[each].to_dict() for each in FIGURES} for who, found in rows.items()}
                    about = {"set": name, "trained_on": way, "policy": policy, "prompts": len(judged)}
                    print(json.dumps({**about, **figures, "routellm": PUBLISHED.get(name)}), flush=True)
    print(json.dumps({"encoder": encoder_identity(file), "seed": seed}))


if __name__ == "__main__":
    main()
