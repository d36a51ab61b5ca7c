"""Parts of outcomes to train on and to test by, and battles drawn from outcomes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality._outcomes import Battles, Outcomes, Prompt
from archroute_edge.quality._splits import By, Split, battles_of, category_of, folds, split_by_category

pytestmark = pytest.mark.quick

KINDS: tuple[By, ...] = ("prompt", "category")


def outcomes_of(*prompts: tuple[str, str | None], models: int = 2) -> Outcomes:
    """Outcomes of prompts of a text and a category each."""
    made = tuple(Prompt(f"p{number}", text, category, "set") for number, (text, category) in enumerate(prompts))
    return Outcomes(made, tuple(f"m{number}" for number in range(models)), np.zeros((len(made), models)))


def many() -> Outcomes:
    """Six categories of 10 to 60 prompts, a tenth of whose texts other categories have, too."""
    return outcomes_of(
        *(
            (f"shared {number}" if number % 10 == 0 else f"{name} {number}", name)
            for place, name in enumerate("abcdef", start=1)
            for number in range(10 * place)
        )
    )


def check(outcomes: Outcomes, splits: tuple[Split, ...]) -> None:
    """Every prompt is tested by once, none is on both sides, and no text is."""
    assert sorted(itertools.chain.from_iterable(split.test.tolist() for split in splits)) == list(range(len(outcomes.prompts)))
    for split in splits:
        texts = [{outcomes.prompts[row].messages for row in rows} for rows in split]
        assert not texts[0] & texts[1]


def test_folds_of_prompts_spread_categories_and_keep_texts_together() -> None:
    outcomes = many()
    splits = folds(outcomes, 5)
    check(outcomes, splits)
    for split in splits:
        assert len(split.train) + len(split.test) == len(outcomes.prompts)
        counts = [sum(outcomes.prompts[row].category == name for row in split.test) for name in "abcdef"]
        assert all(abs(count - size / 5) <= size / 10 + 2 for count, size in zip(counts, range(10, 61, 10), strict=True))


def test_folds_of_whole_categories() -> None:
    outcomes = many()
    splits = folds(outcomes, 3, by="category")
    check(outcomes, splits)
    tested = [{category_of(outcomes.prompts[row]) for row in split.test} for split in splits]
    assert sum(map(len, tested)) == 6
    assert [len(split.test) for split in splits] == [70, 70, 70]
    # Of the others' 140, those with a text that is tested are left out.
    assert all(len(split.train) < 140 for split in splits)


def test_texts_are_the_same_whatever_their_case_and_blanks() -> None:
    outcomes = outcomes_of(("What is  it?", "a"), ("what is it?\n", "b"), ("else", "b"), ("more", "c"))
    split = split_by_category(outcomes, ["a"])
    assert (split.train.tolist(), split.test.tolist()) == ([2, 3], [0])


def test_conversations_that_end_alike_stay_together() -> None:
    """Heads' words and the bag of words are of the last user message alone."""
    texts = [f"question {number % 10}" for number in range(40)]
    conversations = [
        (
            {"role": "user", "content": f"hello {number}"},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": text},
        )
        for number, text in enumerate(texts)
    ]
    plain = outcomes_of(*((text, None) for text in texts))
    made = tuple(replace(prompt, messages=each) for prompt, each in zip(plain.prompts, conversations, strict=True))
    splits = folds(replace(plain, prompts=made), 5)
    for split in splits:
        assert not {texts[row] for row in split.train} & {texts[row] for row in split.test}
    assert [each.test.tolist() for each in splits] == [each.test.tolist() for each in folds(plain, 5)]


def test_folds_do_not_depend_on_the_order_of_prompts() -> None:
    outcomes = many()
    order = np.random.default_rng(0).permutation(len(outcomes.prompts))
    mixed = outcomes.rows(order)
    for by in KINDS:
        plain = [{outcomes.prompts[row].id for row in split.test} for split in folds(outcomes, 4, by=by)]
        assert [{mixed.prompts[row].id for row in split.test} for split in folds(mixed, 4, by=by)] == plain


def test_a_seed_gives_other_folds() -> None:
    outcomes = many()
    assert [split.test.tolist() for split in folds(outcomes, 4, seed=1)] != [
        split.test.tolist() for split in folds(outcomes, 4)
    ]


def test_a_prompt_without_category_has_its_set() -> None:
    outcomes = outcomes_of(("one", None), ("two", "a"))
    assert split_by_category(outcomes, {"set"}).test.tolist() == [0]


def test_half_characters_are_no_trouble() -> None:
    outcomes = outcomes_of(("one \ud83d", "\ud83d"), ("two", "a"))
    assert len(folds(outcomes, 2, by="category")) == len(folds(outcomes, 2)) == 2


@pytest.mark.parametrize(("n", "by"), [(1, "prompt"), (0, "category"), (4, "prompt"), (3, "category"), (-1, "prompt")])
def test_parts_that_cannot_be_made(n: int, by: By) -> None:
    outcomes = outcomes_of(("one", "a"), ("two", "a"), ("three", "b"), ("One", "b"))
    with pytest.raises(QualityError, match=f"cannot make {n} parts; expected at least 2"):
        folds(outcomes, n, by=by)


def test_categories_that_cannot_be_left_out() -> None:
    outcomes = outcomes_of(("one", "a"), ("two", "b"))
    with pytest.raises(QualityError, match="no prompt has the category 'c'; there are a, b"):
        split_by_category(outcomes, ["a", "c"])
    for held_out in ([], ["a", "b"]):
        with pytest.raises(QualityError, match="leave out at least one category, and keep at least one"):
            split_by_category(outcomes, held_out)


def scored(*rows: list[float]) -> Outcomes:
    made = outcomes_of(*((f"text {number}", None) for number in range(len(rows))), models=len(rows[0]))
    return Outcomes(made.prompts, made.models, np.array(rows))


def pairs_of(battles: Battles) -> list[tuple[int, int]]:
    return list(zip(battles.first.tolist(), battles.second.tolist(), strict=True))


def test_all_pairs_of_models_that_were_asked() -> None:
    outcomes = scored([0.5, 0.5 + 1e-12, np.nan, 0.2], [np.nan, 1, np.nan, np.nan], [1, 0, 0.5, 0.5])
    battles = battles_of(outcomes, per_prompt=100)
    assert (battles.prompts, battles.models) == (outcomes.prompts, outcomes.models)
    pairs = {
        (row, *sorted(two)): won if two[0] < two[1] else 1 - won
        for row, two, won in zip(battles.prompt.tolist(), pairs_of(battles), battles.won.tolist(), strict=True)
    }
    assert pairs == {
        (0, 0, 1): 0.5, (0, 0, 3): 1, (0, 1, 3): 1,
        (2, 0, 1): 1, (2, 0, 2): 1, (2, 0, 3): 1, (2, 1, 2): 0, (2, 1, 3): 0, (2, 2, 3): 0.5,
    }  # fmt: skip
    assert len(battles.won) == len(pairs)


def test_a_draw_is_of_different_pairs_in_either_order_and_the_same_for_a_seed() -> None:
    outcomes = scored(*np.random.default_rng(3).random((200, 6)).tolist())
    battles = battles_of(outcomes, seed=1, per_prompt=4)
    drawn = {(row, *sorted(two)) for row, two in zip(battles.prompt.tolist(), pairs_of(battles), strict=True)}
    assert len(drawn) == len(battles.won) == 800
    assert 0.4 < np.mean(battles.first < battles.second) < 0.6
    # Each of the 15 pairs is drawn for about 4 prompts of 15.
    assert all(30 < sum(each[1:] == pair for each in drawn) < 80 for pair in itertools.combinations(range(6), 2))

    def arrays(battles: Battles) -> list[list[float]]:
        return [each.tolist() for each in (battles.prompt, battles.first, battles.second, battles.won)]

    assert arrays(battles_of(outcomes, seed=1, per_prompt=4)) == arrays(battles)
    assert arrays(battles_of(outcomes, seed=2, per_prompt=4)) != arrays(battles)


def test_no_battles_if_no_two_models_were_asked() -> None:
    battles = battles_of(scored([1, np.nan], [np.nan, 0]))
    assert battles.won.shape == battles.prompt.shape == (0,)
