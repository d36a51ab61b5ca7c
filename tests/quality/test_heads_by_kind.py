"""Heads of each kind of prompt: when they are learned, what they expect, and what a file of them may hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality import (
    Heads,
    HeadsByKind,
    Outcomes,
    Prompt,
    PromptFeatures,
    Ridges,
    TrainedByKind,
    expected_of_sample,
    held_out_parts,
    kinds_of,
    load_predictor,
    save_predictor,
    train_heads_by_kind,
    with_sample,
)
from archroute_edge.quality._ridges import USUAL_RIDGES
from archroute_edge.quality._splits import Split
from archroute_edge.quality._train import read_texts
from archroute_edge.quality._train_by_kind import FEWEST_OF_A_KIND, _Fitting, _Prompts, chosen_share
from tests.quality.few_ridges import search_few_ridges

pytestmark = pytest.mark.quick

BITS = 8
KINDS = ("letters", "numbers")


def outcomes_of(contrary: bool, n: int = 600, categories: int = 3) -> Outcomes:
    """Two sets, each with a word of its own. "easy" says which of two models is right; ``contrary``: in each set another."""
    draw = np.random.default_rng(8)
    prompts, scores = [], []
    for number in range(n):
        kind, is_easy = number % 2, bool(draw.random() < 0.5)
        words = [KINDS[kind], "easy" if is_easy else "hard", *draw.choice(list("abcdefghijklmnopqrst"), 4).tolist()]
        text = " ".join([*draw.permutation(words).tolist(), str(number)])
        category = f"{KINDS[kind]} {number % (2 * categories)}"
        prompts.append(Prompt(f"{KINDS[kind]}/{number}", text, category, KINDS[kind]))
        first = is_easy != (contrary and kind == 1)
        right = [first, not first] if draw.random() < 0.9 else [not first, first]
        # A third model answers numbers alone.
        scores.append([*map(float, right), float(draw.random() < 0.7) if kind else np.nan])
    return Outcomes(tuple(prompts), ("first", "second", "third"), np.array(scores))


def features_of(outcomes: Outcomes) -> PromptFeatures:
    return PromptFeatures(tuple(str(prompt.messages) for prompt in outcomes.prompts), None)


def no_progress(step: str, done: int, total: int) -> None:
    """Nothing is shown."""


def trained_on(outcomes: Outcomes) -> TrainedByKind:
    return train_heads_by_kind(outcomes, features_of(outcomes), parts=held_out_parts(outcomes, 0), word_bits=BITS)


@pytest.fixture(scope="module", autouse=True)
def few_ridges() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        search_few_ridges(patch, 2)
        yield


@pytest.fixture(scope="module")
def contrary() -> Outcomes:
    return outcomes_of(contrary=True)


@pytest.fixture(scope="module")
def trained(contrary: Outcomes) -> TrainedByKind:
    return trained_on(contrary)


@pytest.fixture(scope="module")
def mixture(trained: TrainedByKind) -> HeadsByKind:
    assert isinstance(trained.predictor, HeadsByKind)
    return trained.predictor


PROMPTS = PromptFeatures(
    ("numbers easy a b", "numbers hard c", "letters easy a", "letters hard q r", "", "what is this", "numbers letters easy"),
    None,
)


def test_what_is_contrary_in_another_set_is_learned_apart(trained: TrainedByKind, mixture: HeadsByKind) -> None:
    """Heads of both sets together cannot say that "easy" is good for one model here and for the other one there."""
    assert mixture.kinds == KINDS and {*trained.ridges} == {"", *KINDS}
    assert [each.models for each in mixture.experts] == [("first", "second"), ("first", "second", "third")]
    first, second, _ = mixture.expected(PROMPTS)[:4].T
    assert (first - second > 0.2).tolist() == [False, True, True, False]
    assert (second - first > 0.2).tolist() == [True, False, False, True]


def test_ridges_may_be_given(contrary: Outcomes) -> None:
    ridges = Ridges(shared=1.0, own=4.0, text=0.5, words=4.0)
    parts = held_out_parts(contrary, 0)
    found = train_heads_by_kind(contrary, features_of(contrary), parts=parts, ridges=ridges, word_bits=BITS)
    assert found.ridges == dict.fromkeys(["", *KINDS], ridges) and found.together.ridges == ridges


def test_what_is_held_out_was_not_seen(trained: TrainedByKind, contrary: Outcomes) -> None:
    assert trained.held_out is not None and trained.held_out.shape == contrary.scores.shape
    difference, gain = (scores[:, 0] - scores[:, 1] for scores in (trained.held_out, contrary.scores))
    assert ((difference > 0) == (gain > 0)).mean() == pytest.approx(0.9, abs=0.05)  # A tenth is chance.
    assert np.abs(difference).max() < 1.0


def test_no_score_says_anything_of_its_own_part(contrary: Outcomes) -> None:
    """Not even if all that a set has of a model, or a whole set, is in the part."""
    scores = contrary.scores.copy()
    of_third = np.array([prompt.category == "letters 0" for prompt in contrary.prompts])
    scores[of_third, 2] = 1.0
    outcomes, features = replace(contrary, scores=scores), features_of(contrary)
    read, kinds = read_texts(features, BITS, no_progress), kinds_of(outcomes)
    fitting, ridges = _Fitting(None, 0, BITS, no_progress), dict.fromkeys(kinds, USUAL_RIDGES)
    of_letters = np.array([prompt.group == "letters" for prompt in contrary.prompts])
    for is_held in (of_third, of_letters):
        part = Split(np.flatnonzero(~is_held), np.flatnonzero(is_held))
        expected = []
        for changed in (scores, np.where(is_held[:, None], 1.0 - scores, scores)):
            prompts = _Prompts(replace(outcomes, scores=changed), features, read)
            together = fitting.fit(prompts, USUAL_RIDGES, [part])
            predictor, views = fitting.by_kind(prompts, kinds, ridges, [part], together)
            held_out = predictor.mean(views)
            assert predictor.with_samples(views).sample == pytest.approx(held_out, abs=1e-6)
            expected.append(held_out[part.test])
        assert expected[0] == pytest.approx(expected[1], abs=1e-6)


NOISE = np.random.default_rng(0).normal(size=200)


def gains(mean: float, noise: float = 0.0) -> dict[str, npt.NDArray[np.float64]]:
    """Of one kind; ``noise`` is the standard error."""
    return {"kind": mean + noise * (NOISE - NOISE.mean()) / NOISE.std() * np.sqrt(len(NOISE)), "nothing": np.zeros(0)}


@pytest.mark.parametrize(
    ("compared", "share"),
    [
        ({1.0: [gains(0.02)], 2.0: [gains(0.01)]}, 1.0),
        ({1.0: [gains(-0.02)], 2.0: [gains(-0.01)]}, None),
        ({1.0: [gains(0.02, noise=0.05)], 2.0: [gains(0.01, noise=0.025)]}, None),
        ({1.0: [gains(0.016, noise=0.03)], 2.0: [gains(0.02, noise=0.02)]}, 2.0),
        # Categories that are known, and new ones: both count the same, and neither may do worse.
        ({1.0: [gains(0.03), gains(0.01)], 2.0: [gains(0.01), gains(0.02)]}, 1.0),
        ({1.0: [gains(0.05), gains(-0.01)], 2.0: [gains(0.01), gains(0.0)]}, 2.0),
        ({1.0: [gains(0.05), gains(-0.01)], 2.0: [gains(0.01), gains(-0.01)]}, None),
        ({1.0: [{"nothing": np.zeros(0)}]}, None),
    ],
)
def test_a_share_is_chosen_by_gains(
    compared: dict[float, list[dict[str, npt.NDArray[np.float64]]]], share: float | None
) -> None:
    assert chosen_share(compared) == share


def test_one_law_is_learned_together() -> None:
    """Half of the prompts each would learn it worse, and a gate could only add mistakes."""
    found = trained_on(outcomes_of(contrary=False, n=2 * FEWEST_OF_A_KIND))
    assert isinstance(found.predictor, Heads) and {*found.ridges} == {""}


def in_sets(outcomes: Outcomes, sizes: dict[str, int]) -> Outcomes:
    """The prompts in sets of these sizes, and the last set's prompts without scores."""
    groups = [name for name, size in sizes.items() for _ in range(size)]
    prompts = tuple(replace(prompt, group=group) for prompt, group in zip(outcomes.prompts, groups, strict=True))
    scores = outcomes.scores.copy()
    scores[[group == groups[-1] for group in groups]] = np.nan
    return Outcomes(prompts, outcomes.models, scores)


@pytest.mark.parametrize(
    ("sizes", "kinds"),
    [
        ({"a": 200, "b": 150, "c": 100, "none": 150}, {"a": 200, "the rest": 250}),
        # Too few of the small ones: the smallest of the others is with them.
        ({"a": 220, "b": 210, "c": 3, "none": 167}, {"a": 220, "the rest": 213}),
        ({"a": 400, "b": 3, "none": 197}, {"the rest": 403}),
        ({"a": 199, "none": 401}, {"the rest": 199}),
        # Its name is taken.
        ({"a": 200, "the rest": 300, "none": 100}, {"a": 200, "the rest": 300}),
        ({"a": 200, "": 300, "none": 100}, {"a": 200, "unnamed": 300}),
    ],
)
def test_small_sets_are_one_kind(sizes: dict[str, int], kinds: dict[str, int]) -> None:
    found = kinds_of(in_sets(outcomes_of(contrary=True), sizes))
    assert {name: len(rows) for name, rows in found.items()} == kinds


def test_repeated_prompts_make_no_kind(contrary: Outcomes) -> None:
    """They could not be held out."""
    prompts = tuple(replace(prompt, messages="again") if prompt.group == "letters" else prompt for prompt in contrary.prompts)
    assert {*kinds_of(replace(contrary, prompts=prompts))} == {"the rest"}


def test_a_set_of_one_prompt_joins_another(contrary: Outcomes) -> None:
    prompts = (replace(contrary.prompts[0], group="alone"), *contrary.prompts[1:])
    found = trained_on(replace(contrary, prompts=prompts)).predictor
    assert isinstance(found, HeadsByKind) and found.kinds == ("numbers", "the rest")


def test_without_parts_to_hold_out_nothing_is_compared(contrary: Outcomes) -> None:
    found = train_heads_by_kind(contrary, features_of(contrary), word_bits=BITS)
    assert isinstance(found.predictor, Heads) and found.held_out is None


def test_a_model_that_experts_do_not_know_moves_with_the_others(mixture: HeadsByKind) -> None:
    """Its lead over them is what the heads of all kinds say, or it would win where others find prompts harder."""
    views = mixture.views(read_texts(PROMPTS, BITS, no_progress), None)
    moved = mixture.mean(views._replace(chances=np.array([[1e9, 0.0]] * len(PROMPTS))))
    by_all, letters = views.by_all, views.by_experts[0]
    assert moved[:, :2] == pytest.approx(letters, abs=1e-6)
    lead = by_all[:, 2] - by_all[:, :2].mean(axis=1)
    assert moved[:, 2] == pytest.approx(np.clip(letters.mean(axis=1) + lead, 0, 1), abs=1e-6)


def test_a_prompt_is_scored_alone(mixture: HeadsByKind) -> None:
    together = mixture.expected(PROMPTS)
    assert np.isfinite(together).all() and ((together >= 0) & (together <= 1)).all()
    for row in range(len(PROMPTS)):
        assert (mixture.expected(PROMPTS.rows(np.array([row]))) == together[row]).all()


def test_it_comes_back_to_the_last_bit(mixture: HeadsByKind, tmp_path: Path) -> None:
    path = tmp_path / "by_kind.safetensors"
    save_predictor(mixture, path)
    found = load_predictor(path)
    assert isinstance(found, HeadsByKind) and found.kinds == KINDS
    assert (found.expected(PROMPTS) == mixture.expected(PROMPTS)).all()
    assert (found.sample == mixture.sample).all()
    again = tmp_path / "again.safetensors"
    save_predictor(found, again)
    assert again.read_bytes() == path.read_bytes()


def test_other_prompts_become_its_sample(mixture: HeadsByKind, tmp_path: Path) -> None:
    """As ``archroute quality calibrate -o`` does; the file is read again, and a model can be added."""
    path = tmp_path / "by_kind.safetensors"
    save_predictor(mixture, path)
    opened = load_predictor(path)
    scores = expected_of_sample(opened, PROMPTS)
    save_predictor(with_sample(opened, scores, [1.0] * len(PROMPTS), PROMPTS), path)
    found = load_predictor(path)
    assert (found.sample == scores).all()
    grown = found.with_model("new", *graded(mixture, ["numbers easy 1", "letters hard 2"]))
    assert (grown.sample[:, :-1] == scores).all() and np.isfinite(grown.sample).all()


def graded(mixture: HeadsByKind, texts: list[str]) -> tuple[Outcomes, PromptFeatures]:
    """A new model that is as good as the first one."""
    features = PromptFeatures(tuple(texts), None)
    scores = (mixture.expected(features)[:, :1] > 0.5).astype(float)
    prompts = tuple(Prompt(str(number), text, None, "") for number, text in enumerate(texts))
    return Outcomes(prompts, ("new",), scores), features


def test_a_new_model_is_placed_by_its_grades(mixture: HeadsByKind) -> None:
    texts = [f"{kind} {level} {number}" for kind in KINDS for level in ("easy", "hard") for number in range(15)]
    found = mixture.with_model("new", *graded(mixture, texts))
    assert found.models == (*mixture.models, "new")
    expected = found.expected(PROMPTS)
    assert (expected[:, :3] == mixture.expected(PROMPTS)).all()
    assert np.abs(expected[:, 3] - expected[:, 0]).mean() < 0.3
    assert found.sample.shape == (len(mixture.sample), 4) and (found.sample[:, :3] == mixture.sample).all()
    with pytest.raises(QualityError, match="has the model 'first' already"):
        mixture.with_model("first", *graded(mixture, ["numbers"]))
    nothing, features = graded(mixture, ["numbers easy 1"])
    with pytest.raises(QualityError, match="no prompt is graded for 'new'"):
        mixture.with_model("new", replace(nothing, scores=np.full((1, 1), np.nan)), features)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kinds", ["letters"], "must name 2 to 32 kinds of prompt"),
        ("kinds", ["letters", "letters"], "must name 2 to 32 kinds of prompt"),
        ("kinds", "letters", "must name 2 to 32 kinds of prompt"),
        ("kinds", [1, 2], "must name 2 to 32 kinds of prompt"),
        ("models_by_kind", [[0, 1]], "must name 2 to 32 kinds of prompt"),
        ("models_by_kind", [[0, 1], [0, 3]], "are not those of its kinds"),
        ("models_by_kind", [[0, 1], [0, True]], "are not those of its kinds"),
        ("models_by_kind", [[0, 1], []], "are not those of its kinds"),
        ("models_by_kind", [[0, 1], [2]], "its expert1 lacks settings or a sample"),
        ("share", 0, "its share must be above 0"),
        ("share", True, "its share must be above 0"),
        ("share", float("nan"), "its share must be above 0"),
        ("parts", {}, "its gate lacks settings or a sample"),
        ("parts", [], "its gate lacks settings or a sample"),
    ],
)
def test_damaged_settings_are_refused(mixture: HeadsByKind, key: str, value: object, message: str) -> None:
    with pytest.raises(QualityError, match=message):
        restored(mixture, settings={**mixture.settings(), key: value})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gate.sample", lambda tensor: tensor[:, :1], "its gate lacks settings or a sample"),
        ("all.sample", lambda tensor: tensor[1:], "its all lacks settings or a sample"),
        ("expert0.sample", lambda tensor: tensor + 2, "a score outside 0 to 1"),
        ("expert1.word_weights", lambda tensor: tensor[:, :-1], "lacks a tensor word_weights"),
    ],
)
def test_damaged_tensors_are_refused(mixture: HeadsByKind, name: str, change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(QualityError, match=message):
        restored(mixture, tensors={**mixture.tensors(), name: change(mixture.tensors()[name])})


def test_kinds_that_read_words_unlike_each_other_are_refused(mixture: HeadsByKind) -> None:
    settings, tensors = mixture.settings(), mixture.tensors()
    settings["parts"]["expert1"]["word_bits"] = BITS - 1
    tensors["expert1.word_weights"] = tensors["expert1.word_weights"][:, ::2]
    with pytest.raises(QualityError, match="tables of words of other sizes"):
        restored(mixture, settings=settings, tensors=tensors)


def restored(mixture: HeadsByKind, **changed: object) -> HeadsByKind:
    parts = {"tensors": mixture.tensors(), "settings": mixture.settings(), **changed}
    return HeadsByKind.restore(mixture.models, None, mixture.sample, parts["tensors"], parts["settings"])  # type: ignore[arg-type]


def test_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch, contrary: Outcomes) -> None:
    """A decision takes longer with each."""
    monkeypatch.setattr("archroute_edge.quality._train_by_kind.MOST_KINDS", 2)
    groups = [f"set {number % 3}" for number in range(600)]
    prompts = tuple(replace(prompt, group=group) for prompt, group in zip(contrary.prompts, groups, strict=True))
    assert {*kinds_of(replace(contrary, prompts=prompts))} == {"set 0", "the rest"}
