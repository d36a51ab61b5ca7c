"""How well the policy ``heads`` orders prompts that it has not seen, beside a bag of words: the figures of docs/quality.md.

    python -m tools.measure.heads_figures OUTCOMES pairs --split prompts|categories [--parts N]
    python -m tools.measure.heads_figures OUTCOMES together --split prompts|categories [--parts N] [--usual-ridges]
    python -m tools.measure.heads_figures OUTCOMES tiers TIERS SET... [--apart] [--without-like]
    python -m tools.measure.heads_figures OUTCOMES added
    python -m tools.measure.heads_figures OUTCOMES time PREDICTOR

OUTCOMES is a folder of sets of outcomes. Heads read texts alone, and with ``--encoder mini``, before OUTCOMES, its vectors as
well; ``--vectors FILE`` keeps those for the next command.

``pairs``: heads learn from each set alone: the models of the pairs below and, of a set with many models, the means of four
groups from the weakest to the strongest. A fifth of the prompts, or of the categories, is left out in turn. Prompts that share
twelve words in a row with one of them are left out as well, unless more than six prompts have these. Ridges are chosen as
``archroute quality train`` chooses them, once for a set and a split, without the first fifth. The bag of words learns from the
same prompts.

``together``: one predictor learns all these sets, as ``archroute quality train`` does: with heads of each set as well if that
is better. Beside it stand heads of all sets together, its heads of the set alone, if it has any, and the bag of words of the
set alone. The parts are the same. Prompts like a judged one are left out in all sets; a set whose categories are not judged is
learned as a whole. Everything is chosen for each part, without its prompts.

``tiers``: heads as ``archroute quality train --tiers --together`` trains them, on the categories that it leaves out. A question
may stand in two sets, in other words and under categories of other names; with ``--without-like``, prompts like a judged one
are left out, as above.

Both also print how far the quality of the best expected score less rate times cost lies above the best mixture of two models, a
mean over budgets, with an interval of 95 %. Prices are of about 2024, US dollars for a million tokens of prompt and of answer.

``added``: APGR of a model of MMLU-Pro that was trained with the others, and that was added to them from graded prompts, drawn
three times, on a fifth of the prompts.

``time``: milliseconds that a predictor takes for a question of MMLU-Pro, one at a time, after its vector is known.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import click
import numpy as np
import numpy.typing as npt

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.models import find_model
from archroute_edge.quality import (
    BagOfWords,
    HeadsByKind,
    Outcomes,
    Predictor,
    Prompt,
    PromptFeatures,
    Ridges,
    Scores,
    category_of,
    encoder_identity,
    features_of,
    folds,
    held_out_parts,
    load_predictor,
    merge_tiers,
    read_outcomes,
    train_heads,
    train_heads_by_kind,
)
from archroute_edge.quality._alike import rare_rows_of_words
from archroute_edge.quality._frontier import PricedChoices, against_singles
from archroute_edge.quality._metrics import PairOrder
from archroute_edge.quality._ridges import USUAL_RIDGES
from archroute_edge.quality._splits import Split as Part
from archroute_edge.report import p95

Split = Literal["prompts", "categories"]
MIXTRAL, GPT_4 = "Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
LLAMA = "Meta-Llama-3.1-8B-Instruct"
PAIRS: Final[dict[str, list[tuple[str, str]]]] = {
    "routellm_mmlu": [(MIXTRAL, GPT_4)],
    "routellm_gsm8k": [(MIXTRAL, GPT_4)],
    "zeroeval": [(LLAMA, "claude-3-5-sonnet-20241022"), ("gpt-4o-mini-2024-07-18", "o1-mini-2024-09-12")],
    "ulab": [(LLAMA, "llama-3.1-nemotron-51b-instruct")],
    "mmlupro": [
        ("Meta-Llama-3-8B-Instruct", "gpt-4o-2024-05-13"),
        (LLAMA, "Meta-Llama-3.1-70B-Instruct"),
        (MIXTRAL, "gemini-3.1-pro-preview"),
    ],
}
BY_CATEGORY: Final = ("routellm_mmlu", "mmlupro", "ulab")
PRICES: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "mmlupro": {LLAMA: (0.2, 0.2), "Meta-Llama-3.1-70B-Instruct": (0.9, 0.9), "gpt-4o-2024-05-13": (5.0, 15.0)},
    "zeroeval": {
        LLAMA: (0.2, 0.2),
        "gpt-4o-mini-2024-07-18": (0.15, 0.6),
        "claude-3-5-sonnet-20241022": (3.0, 15.0),
        "o1-mini-2024-09-12": (3.0, 12.0),
    },
}
TIER_PRICES: Final = {"small": (0.2, 0.2), "mid": (0.9, 0.9), "frontier": (5.0, 15.0)}
KNOWN: Final = (
    "Mistral-7B-Instruct-v0.2",
    "Meta-Llama-3-8B-Instruct",
    MIXTRAL,
    LLAMA,
    "Qwen1.5-72B-Chat",
    "Meta-Llama-3.1-70B-Instruct",
    "gemini-1.5-pro-002",
    "gpt-4o-2024-05-13",
)
ADDED: Final[dict[str, tuple[str, str]]] = {
    "Meta-Llama-3.1-70B-Instruct": (LLAMA, "Meta-Llama-3.1-70B-Instruct"),
    "gpt-4o-2024-05-13": ("Meta-Llama-3-8B-Instruct", "gpt-4o-2024-05-13"),
    MIXTRAL: (MIXTRAL, "gpt-4o-2024-05-13"),
    "gemini-1.5-pro-002": (LLAMA, "gemini-1.5-pro-002"),
}
ADDED_RIDGES: Final = Ridges(shared=4.0, own=16.0, text=2.0, words=4.0)
_ANSWER_TOKENS: Final = 500
_BYTES_A_TOKEN: Final = 3
_DRAWS: Final = 200
_PARTS: Final = 5
_GROUPS: Final = 4
_FEWEST_MODELS: Final = 4
Rows = npt.NDArray[np.intp]


def apgr(expected: Scores, scores: Scores) -> float | None:
    """APGR of (n, 2) expected scores of a weak and a strong model; None without a gap."""
    known = ~np.isnan(expected.sum(axis=1) + scores.sum(axis=1))
    if not known.any():
        return None
    weak, strong = expected[known].T
    gains = scores[known] @ np.array([-1.0, 1.0])
    value = float(PairOrder(strong - weak, gains).figures(np.ones((1, len(gains)))).apgr[0])
    return None if np.isnan(value) else round(value, 4)


def above_mixtures(
    expected: Scores, scores: Scores, texts: tuple[str, ...], prices: list[tuple[float, float]]
) -> dict[str, float] | None:
    """Quality above the best mixture of two models at equal cost, of (n, k) expected scores; None if no prompt has all."""
    known = np.flatnonzero(~np.isnan(expected.sum(axis=1) + scores.sum(axis=1)))
    if not len(known):
        return None
    tokens = np.array([len(texts[row].encode()) // _BYTES_A_TOKEN for row in known])
    costs = np.stack([(tokens * asked + _ANSWER_TOKENS * answered) / 1e6 for asked, answered in prices], axis=1)
    policy = PricedChoices(expected[known], scores[known], costs)
    n = len(known)
    weights = np.vstack([np.ones(n), np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _DRAWS)]).astype(float)
    found = against_singles({"heads": policy}, scores[known], costs, weights)
    gain, at_best = found["heads/gain"], found["heads/gain_at_best"]
    low, high = np.percentile(gain[1:], [2.5, 97.5])
    figures = {"gain": gain[0], "low": low, "high": high, "gain_at_best": at_best[0]}
    return {"prompts": n, **{name: round(float(value), 4) for name, value in figures.items()}}


def columns_of(outcomes: Outcomes, name: str) -> Outcomes:
    """The models of a set's pairs, and the means of groups of its models."""
    models = sorted({model for pair in PAIRS[name] for model in pair})
    scores = [outcomes.columns(models).scores]
    if len(outcomes.models) >= _FEWEST_MODELS:
        order = np.argsort([np.nanmean(column) for column in outcomes.scores.T])
        for number, group in enumerate(np.array_split(order, _GROUPS)):
            models.append(f"{name} {number}")
            scores.append(np.nanmean(outcomes.scores[:, group], axis=1, keepdims=True))
    return Outcomes(outcomes.prompts, tuple(models), np.hstack(scores))


def plain(text: str) -> str:
    """A text but for case and blanks."""
    return " ".join(text.lower().split())


def part_numbers(outcomes: Outcomes, texts: Sequence[str], split: Split) -> Rows:
    """Which part each prompt is judged in."""
    if split == "prompts":
        return np.array([int(hashlib.md5(plain(text).encode()).hexdigest(), 16) % _PARTS for text in texts], np.intp)
    number = np.zeros(len(texts), np.intp)
    for each, part in enumerate(folds(outcomes, _PARTS, "category")):
        number[part.test] = each
    return number


def parts_of(numbers: Rows, texts: tuple[str, ...]) -> list[tuple[Rows, Rows]]:
    """Of each part, the prompts to learn from, and those to judge by. A prompt with the number -1 is in no part."""
    rare, found = rare_rows_of_words(texts), []
    for each in range(_PARTS):
        test = np.flatnonzero(numbers == each)
        shared, same = set().union(*(rare[row] for row in test)), {plain(texts[row]) for row in test}
        others = np.flatnonzero(numbers != each)
        rest = [row for row in others if not rare[row] & shared and plain(texts[row]) not in same]
        found.append((np.array(rest, np.intp), test))
    return found


def joined(sets: Iterable[Outcomes]) -> Outcomes:
    """The prompts of all sets, one set after another, and all models."""
    each = list(sets)
    models = tuple(dict.fromkeys(model for outcomes in each for model in outcomes.models))
    prompts = tuple(prompt for outcomes in each for prompt in outcomes.prompts)
    return Outcomes(prompts, models, np.vstack([outcomes.columns(models).scores for outcomes in each]))


def of_words(outcomes: Outcomes, texts: tuple[str, ...], name: str, rest: Rows, test: Rows) -> Scores:
    """(m, k) what a bag of words, learned from some prompts of a set, expects of others; NaN but for models of its pairs."""
    columns = np.array([outcomes.models.index(model) for model in sorted({model for pair in PAIRS[name] for model in pair})])
    bag = BagOfWords.fit([texts[row] for row in rest], outcomes.scores[np.ix_(rest, columns)])
    found = np.full((len(test), len(outcomes.models)), np.nan)
    found[:, columns] = bag.predict([texts[row] for row in test])
    return found


class Leads:
    """Prints how ways to expect scores order the pairs of a set, and in the end how far the first one leads in the mean."""

    def __init__(self) -> None:
        self._figures: list[dict[str, float | None]] = []

    def show(self, outcomes: Outcomes, name: str, expected: Mapping[str, Scores], about: Mapping[str, object]) -> None:
        """A line for each pair. ``expected`` are (n, k) scores, NaN where none are expected."""
        for pair in PAIRS[name]:
            columns = [outcomes.models.index(model) for model in pair]
            figures = {way: apgr(scores[:, columns], outcomes.scores[:, columns]) for way, scores in expected.items()}
            self._figures.append(figures)
            judged = int((~np.isnan(next(iter(expected.values()))[:, columns]).all(axis=1)).sum())
            print(json.dumps({"set": name, "pair": pair, "prompts": judged, **figures, **about}), flush=True)

    def close(self) -> None:
        """A line for each way but the first."""
        if not self._figures:
            return
        first, *others = self._figures[0]
        for other in others:
            leads = [
                mine - theirs
                for mine, theirs in ((figures[first], figures[other]) for figures in self._figures)
                if mine is not None and theirs is not None
            ]
            if leads:
                figures = {"mean lead": round(float(np.mean(leads)), 4), "least": round(min(leads), 4)}
                print(json.dumps({"pairs": len(leads), "over": other, **figures}))


@dataclass(frozen=True)
class Source:
    """Where outcomes are from, and the encoder whose vectors heads read beside the texts, if any."""

    folder: Path
    encoder: Path | None
    vectors: Path | None

    @property
    def identity(self) -> str | None:
        """The encoder's."""
        return None if self.encoder is None else encoder_identity(self.encoder)

    def features(self, prompts: Sequence[Prompt]) -> PromptFeatures:
        """What heads read of prompts."""
        with ProgressLine() as line:
            found = features_of(prompts, self.encoder, lambda done, total: line("vectors", done, total), self.vectors)
            line.clear()
        return found


@click.group()
@click.option("--encoder", metavar="NAME|PATH", help="Heads read its vectors as well.")
@click.option("--vectors", type=click.Path(dir_okay=False, path_type=Path), help="Keep the encoder's vectors in this file.")
@click.argument("folder", metavar="OUTCOMES", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_context
def main(ctx: click.Context, folder: Path, encoder: str | None, vectors: Path | None) -> None:
    """Print lines of JSON."""
    ctx.obj = Source(folder, None if encoder is None else find_model(encoder).path, vectors)


def read_set(folder: Path, name: str) -> Outcomes:
    """One set of a folder, packed."""
    return read_outcomes([str(folder / f"prompts_{name}.jsonl.gz"), str(folder / f"outcomes_{name}.csv.gz")])


split_option: Final = click.option(
    "--split", type=click.Choice(["prompts", "categories"]), required=True, help="What is left out."
)
parts_option: Final = click.option(
    "--parts", type=click.IntRange(1, _PARTS), default=_PARTS, show_default=True, help="Parts to judge by."
)


@main.command()
@split_option
@parts_option
@click.option("--only", type=click.Choice(list(PAIRS)), multiple=True, help="This set; may be repeated.  [default: all]")
@click.pass_obj
def pairs(source: Source, split: Split, parts: int, only: tuple[str, ...]) -> None:
    """APGR of pairs of models."""
    leads = Leads()
    for name in only or PAIRS:
        if split == "categories" and name not in BY_CATEGORY:
            continue
        outcomes = columns_of(read_set(source.folder, name), name)
        features = source.features(outcomes.prompts)
        texts, ridges = features.texts, None
        expected, bag = np.full(outcomes.scores.shape, np.nan), np.full(outcomes.scores.shape, np.nan)
        with ProgressLine() as line:
            for number, (rest, test) in enumerate(parts_of(part_numbers(outcomes, texts, split), texts)[:parts]):
                line(name, number, parts)
                learned, read = outcomes.rows(rest), features.rows(rest)
                held_out = held_out_parts(learned, 0) if ridges is None else ()
                trained = train_heads(learned, read, encoder=source.identity, parts=held_out, ridges=ridges)
                ridges = trained.ridges
                expected[test] = trained.predictor.expected(features.rows(test))
                bag[test] = of_words(outcomes, texts, name, rest, test)
            line.clear()
        assert ridges is not None
        leads.show(outcomes, name, {"heads": expected, "bag of words": bag}, {"ridges": asdict(ridges)})
        if prices := PRICES.get(name):
            priced = expected[:, [outcomes.models.index(model) for model in prices]]
            above = above_mixtures(priced, outcomes.columns(list(prices)).scores, texts, list(prices.values()))
            print(json.dumps({"set": name, "models": list(prices), "above mixtures": above}), flush=True)
    leads.close()


@main.command()
@split_option
@parts_option
@click.option("--usual-ridges", is_flag=True, help="Take the usual ridges instead of choosing: a few minutes, not an hour.")
@click.pass_obj
def together(source: Source, split: Split, parts: int, usual_ridges: bool) -> None:
    """APGR of pairs of models by one predictor of all sets."""
    sets = {name: columns_of(read_set(source.folder, name), name) for name in PAIRS}
    judged = [name for name in sets if split == "prompts" or name in BY_CATEGORY]
    outcomes = joined(sets.values())
    features = source.features(outcomes.prompts)
    texts, groups = features.texts, np.array([prompt.group for prompt in outcomes.prompts])
    numbers = np.full(len(texts), -1, np.intp)
    for name in judged:
        rows = np.flatnonzero(groups == name)
        numbers[rows] = part_numbers(sets[name], features.rows(rows).texts, split)
    ways = ("train", "together", "set alone", "bag of words")
    expected = {way: np.full(outcomes.scores.shape, np.nan) for way in ways}
    shares: list[float | None] = []
    with ProgressLine() as line:
        for rest, test in parts_of(numbers, texts)[:parts]:
            learned, read = outcomes.rows(rest), features.rows(rest)
            held_out = held_out_parts(learned, 0)
            trained = train_heads_by_kind(
                learned,
                read,
                encoder=source.identity,
                parts=held_out,
                ridges=USUAL_RIDGES if usual_ridges else None,
                on_progress=line,
            )
            shares.append(trained.predictor.share if isinstance(trained.predictor, HeadsByKind) else None)
            asked = features.rows(test)
            expected["train"][test] = trained.predictor.expected(asked)
            expected["together"][test] = trained.together.predictor.expected(asked)
            for name in judged:
                of_set = [rows[groups[rows] == name] for rows in (rest, test)]
                expected["bag of words"][of_set[1]] = of_words(outcomes, texts, name, *of_set)
                if isinstance(trained.predictor, HeadsByKind) and name in trained.predictor.kinds:
                    expert = trained.predictor.experts[trained.predictor.kinds.index(name)]
                    place = np.array([outcomes.models.index(model) for model in expert.models], np.intp)
                    expected["set alone"][np.ix_(of_set[1], place)] = expert.expected(features.rows(of_set[1]))
        line.clear()
    leads = Leads()
    for name in judged:
        rows = np.flatnonzero(groups == name)
        leads.show(outcomes.rows(rows), name, {way: scores[rows] for way, scores in expected.items()}, {"shares": shares})
    leads.close()


@main.command()
@click.argument("tiers_file", metavar="TIERS", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("names", metavar="SET...", nargs=-1, required=True)
@click.option("--apart", is_flag=True, help="Let each set have heads of its own if that is better.")
@click.option("--without-like", is_flag=True, help="Leave out prompts that share twelve words in a row with a judged one.")
@click.pass_obj
def tiers(source: Source, tiers_file: Path, names: tuple[str, ...], apart: bool, without_like: bool) -> None:
    """APGR of tiers on categories that were left out, by set."""
    files = [str(source.folder / each) for name in names for each in (f"prompts_{name}.jsonl.gz", f"outcomes_{name}.csv.gz")]
    outcomes = merge_tiers(read_outcomes(files), json.loads(tiers_file.read_text("utf-8")))
    features = source.features(outcomes.prompts)
    held_out = held_out_parts(outcomes, 0)
    if without_like:
        numbers = np.full(len(features), -1, np.intp)
        for number, part in enumerate(held_out):
            numbers[part.test] = number
        held_out = tuple(Part(*each) for each in parts_of(numbers, features.texts))
    with ProgressLine() as line:
        trained = train_heads_by_kind(
            outcomes, features, encoder=source.identity, parts=held_out, are_together=not apart, on_progress=line
        )
        line.clear()
    assert trained.held_out is not None
    groups = np.array([prompt.group for prompt in outcomes.prompts])
    for name in names:
        rows: Rows = np.flatnonzero(groups == name)
        categories = len({category_of(outcomes.prompts[row]) for row in rows})
        for weak, strong in ((0, 1), (0, 2), (1, 2)):
            pair = [weak, strong]
            figure = apgr(trained.held_out[rows][:, pair], outcomes.scores[rows][:, pair])
            about = {"set": name, "pair": [outcomes.models[each] for each in pair], "categories": categories}
            print(json.dumps({**about, "heads": figure}), flush=True)
        prices = [TIER_PRICES[tier] for tier in outcomes.models]
        found = above_mixtures(trained.held_out[rows], outcomes.scores[rows], features.rows(rows).texts, prices)
        print(json.dumps({"set": name, "models": outcomes.models, "above mixtures": found}), flush=True)


@main.command()
@click.option("--graded", type=click.IntRange(2, 1000), default=100, show_default=True, help="Graded prompts.")
@click.pass_obj
def added(source: Source, graded: int) -> None:
    """APGR of models that were added from few graded prompts."""
    outcomes = read_set(source.folder, "mmlupro").columns(KNOWN)
    features, identity = source.features(outcomes.prompts), source.identity
    part = folds(outcomes, _PARTS, "prompt")[0]
    asked, judged = features.rows(part.test), outcomes.rows(part.test)

    def figure(predictor: Predictor, pair: tuple[str, str]) -> float | None:
        return apgr(
            predictor.expected(asked)[:, [predictor.models.index(model) for model in pair]], judged.columns(pair).scores
        )

    learned = outcomes.rows(part.train)
    of_all = train_heads(learned, features.rows(part.train), encoder=identity, ridges=ADDED_RIDGES).predictor
    for model, pair in ADDED.items():
        others = learned.columns([each for each in KNOWN if each != model])
        known = train_heads(others, features.rows(part.train), encoder=identity, ridges=ADDED_RIDGES).predictor
        for seed in range(3):
            rows = np.random.default_rng(seed).choice(part.train, graded, replace=False)
            grown = known.with_model(model, outcomes.rows(rows).columns([model]), features.rows(rows))
            figures = {"trained": figure(of_all, pair), "added": figure(grown, pair)}
            print(json.dumps({"model": model, "pair": pair, "graded": graded, "seed": seed, **figures}), flush=True)


@main.command(name="time")
@click.argument("file", metavar="PREDICTOR", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(10), default=400, show_default=True, help="Questions.")
@click.pass_obj
def times(source: Source, file: Path, rounds: int) -> None:
    """How long a predictor takes for a prompt."""
    predictor, prompts = load_predictor(file), read_set(source.folder, "mmlupro").prompts
    features = features_of(prompts[:: max(1, len(prompts) // rounds)], predictor.encoder, kept=source.vectors)
    taken = []
    for row in range(len(features)):
        one = features.rows(np.array([row], np.intp))
        begun = time.perf_counter()
        predictor.expected(one)
        taken.append(1000 * (time.perf_counter() - begun))
    # The first ones load code.
    times = {"p50_ms": round(float(np.median(taken[5:])), 2), "p95_ms": p95(taken[5:], 2)}
    print(json.dumps({"models": len(predictor.models), **times}))


if __name__ == "__main__":
    main()
