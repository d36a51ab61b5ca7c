"""What is left out of a conversation that is too long: the budget holds, and most new turns move nothing."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.conversation import TrimmedConversation, Turn, trim
from archroute_edge.engine import LoadedModel
from archroute_edge.prompts import CARD, PromptBuilder

ENGLISH = ["please", "look", "at", "the failing test", "in", "my", "repository", "and", "tell me", "what", "is wrong"]
CHINESE = ["请", "看看", "我", "的", "仓库", "里", "失败", "的", "测试", "并", "告诉", "我", "哪里", "出", "了", "问题"]

CountTokens = Callable[[Turn], int]


def count_escaped(turn: Turn) -> int:
    """About what a large vocabulary makes of the card's JSON: 4 ASCII letters a token, an escape 5 tokens."""
    n_other = sum(char > "\x7f" for char in turn.content)
    return 10 + (len(turn.content) - n_other + 3) // 4 + 5 * n_other


def count_raw(turn: Turn) -> int:
    """The same where other letters are not escaped: about a token each."""
    n_other = sum(char > "\x7f" for char in turn.content)
    return 10 + (len(turn.content) - n_other + 3) // 4 + n_other


KINDS = [
    pytest.param(ENGLISH, count_escaped, id="english"),
    pytest.param(CHINESE, count_escaped, id="chinese-escaped"),
    pytest.param(CHINESE, count_raw, id="chinese-raw"),
]


def talk(words: list[str], n_turns: int, count: CountTokens, size: int, seed: int = 0) -> list[Turn]:
    """Turns of 20 to ``size`` tokens, the user's and the assistant's in turn."""
    draw = random.Random(seed)
    turns = []
    for index in range(n_turns):
        role, content, wanted = "assistant" if index % 2 else "user", f"turn {index}:", draw.randint(20, size)
        while count(Turn(role, content)) < wanted:
            content += " " + draw.choice(words)
        turns.append(Turn(role, content))
    return turns


def total(kept: TrimmedConversation, count: CountTokens) -> int:
    return sum(map(count, kept.turns))


def growing(turns: list[Turn], budget: int, count: CountTokens, first: int = 1) -> list[TrimmedConversation]:
    """What is kept after each turn from the ``first`` on."""
    return [trim(turns[:length], budget, count) for length in range(first, len(turns) + 1)]


@pytest.mark.parametrize(("words", "count"), KINDS)
def test_the_budget_is_kept_and_used(words: list[str], count: CountTokens) -> None:
    """Over budget a prompt overflows the context; far below it the model no longer knows what it is about."""
    for kept in growing(talk(words, 80, count, 120), 1024, count):
        assert total(kept, count) <= 1024
        assert total(kept, count) >= 512 or not kept.trimmed


@pytest.mark.parametrize(("words", "count"), KINDS)
def test_most_new_turns_leave_the_start_where_it_is(words: list[str], count: CountTokens) -> None:
    """A window that slides with every turn throws the whole cache of a long conversation away at every turn."""
    steps = growing(talk(words, 120, count, 120), 1024, count)
    moved = 0
    for before, after in itertools.pairwise(steps):
        assert after.dropped >= before.dropped
        if after.dropped == before.dropped:
            assert after.turns[: len(before.turns)] == before.turns
        moved += after.dropped != before.dropped
    n_trimmed = sum(step.trimmed for step in steps)
    assert n_trimmed > 60
    # Chinese that is not escaped takes fewer tokens than is allowed for, so its blocks are smaller.
    assert 0 < moved <= n_trimmed / (1.4 if count is count_raw else 2)


def test_a_long_tail_after_the_last_user_turn_moves_now_and_then_too() -> None:
    """An assistant that works for 80 turns on one request must not lose its cache at each of them."""
    tail = [Turn("assistant", turn.content) for turn in talk(ENGLISH, 100, count_escaped, 120, seed=1)]
    steps = growing([Turn("user", "do it all"), *tail], 1024, count_escaped)
    assert all(step.turns[0] == Turn("user", "do it all") for step in steps)
    assert all(total(step, count_escaped) <= 1024 for step in steps)
    moved = [after.dropped != before.dropped for before, after in itertools.pairwise(steps)]
    assert 0 < sum(moved) <= sum(step.trimmed for step in steps) / 2
    assert all(
        after.turns[: len(before.turns)] == before.turns
        for before, after, has_moved in zip(steps, steps[1:], moved, strict=False)
        if not has_moved
    )


TURNS = st.lists(
    st.builds(Turn, st.sampled_from(["user", "assistant"]), st.text(min_size=1, max_size=400).filter(str.strip)), max_size=12
).filter(lambda turns: any(turn.role == "user" for turn in turns))


@given(TURNS, st.integers(64, 600), st.sampled_from([count_escaped, count_raw]))
def test_the_last_user_turn_always_stays(turns: list[Turn], budget: int, count: CountTokens) -> None:
    """It is what is to be routed: without it the decision is about something else."""
    kept = trim(turns, budget, count)
    last = next(turn for turn in reversed(turns) if turn.role == "user")
    mine = next(turn for turn in reversed(kept.turns) if turn.role == "user")
    head, _, tail = mine.content.partition("…")
    assert mine == last or (last.content.startswith(head) and last.content.endswith(tail))
    assert total(kept, count) <= budget
    assert len(kept.turns) + kept.dropped == len(turns)
    assert kept.cut == sum(turn not in turns for turn in kept.turns) or "…" in last.content


@given(TURNS, st.integers(64, 600))
def test_what_fits_is_left_as_it_is(turns: list[Turn], budget: int) -> None:
    """Trimming a conversation that fits loses context for nothing."""
    if sum(map(count_raw, turns)) <= budget:
        assert trim(turns, budget, count_raw) == TrimmedConversation(tuple(turns))
    else:
        assert trim(turns, budget, count_raw).trimmed


@given(TURNS, st.integers(64, 600))
def test_the_same_conversation_is_trimmed_the_same(turns: list[Turn], budget: int) -> None:
    """What is kept may depend on nothing but the conversation, or a second process would not hit the first one's cache."""
    assert trim(turns, budget, count_escaped) == trim(tuple(turns), budget, count_escaped)


def test_the_middle_of_an_overflowing_message_is_cut() -> None:
    """The request stands at the start or the end of a long paste, hardly ever in its middle."""
    content = "explain this log: " + "x" * 9000 + " what is wrong?"
    (turn,) = trim([Turn("user", content)], 200, count_raw).turns
    head, tail = turn.content.split("…")
    assert content.startswith(head)
    assert content.endswith(tail)
    assert 0.58 < len(head) / (len(head) + len(tail)) < 0.62
    assert trim([Turn("user", content)], 200, count_raw).cut == 1


def test_of_several_turns_one_takes_half_the_budget_at_most() -> None:
    """A pasted file must not push everything else out of the conversation."""
    turns = [Turn("user", "I have a question on taxes"), Turn("assistant", "go ahead"), Turn("user", "y" * 9000)]
    kept = trim(turns, 200, count_raw)
    assert kept.turns[:2] == tuple(turns[:2])
    assert count_raw(kept.turns[2]) <= 100


@pytest.fixture(scope="module")
def builder(random_loaded: LoadedModel) -> PromptBuilder:
    return PromptBuilder(random_loaded, CARD)


MEGABYTES = [
    pytest.param("word " * 200_000, id="words"),
    pytest.param("x" * 1_000_000, id="one-letter"),
    pytest.param(" " * 999_999 + "x", id="blanks"),
    pytest.param("\U0001f600" * 250_000, id="emoji"),
    pytest.param("日本語" * 111_000, id="japanese"),
    pytest.param("a" * 500_000 + "\U0001f600" * 125_000, id="dense-end"),
    pytest.param("e\u0301" * 333_000, id="combining"),
]


@pytest.mark.parametrize("content", MEGABYTES)
def test_a_megabyte_is_cut_fast_and_into_the_budget(builder: PromptBuilder, content: str) -> None:
    """One pasted file must neither stop a router for seconds nor overflow its context."""
    started = time.perf_counter()
    kept = trim([Turn("user", content)], 2048, builder.count_tokens)
    assert time.perf_counter() - started < 1
    assert 1024 < total(kept, builder.count_tokens) <= 2048
    kept.turns[0].content.encode()


@pytest.mark.parametrize("content", ["\U0001f600" * 300, "x y" * 300, "\x01" * 300])
@pytest.mark.parametrize("n_turns", [1, 3])
def test_the_smallest_budget_holds_too(builder: PromptBuilder, content: str, n_turns: int) -> None:
    """The JSON around a turn takes tokens as well; a budget too small for it would silently be exceeded."""
    turns = [Turn("assistant" if index % 2 else "user", content) for index in range(n_turns)]
    assert total(trim(turns, 64, builder.count_tokens), builder.count_tokens) <= 64
