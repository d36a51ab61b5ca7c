"""The bookkeeping of the KV cache, on a fake engine: reuse, eviction, failure, and that it tells the truth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from archroute_edge.decoding import KVCache, SavedStates
from archroute_edge.decoding import _kv_cache as kv_cache
from archroute_edge.engine import BatchToken
from archroute_edge.errors import ContextOverflowError, EngineError, EvaluationStoppedError
from archroute_edge.prompts import StaticParts
from tests.fakes import FakeEngine

CLOSING = b"==closing=="


def prompt_of(prefix: str, conversation: str) -> tuple[list[int], StaticParts]:
    head = prefix.encode()
    return [*head, *conversation.encode(), *CLOSING], StaticParts(tuple(head), len(CLOSING))


@pytest.fixture
def store(tmp_path: Path) -> SavedStates:
    return SavedStates(tmp_path / "saved", {"model": "fake"})


def run(cache: KVCache, prefix: str, conversation: str) -> tuple[int, int]:
    """Evaluate a prompt as a decision would; returns (reused, evaluated) and checks the cells behind it."""
    prompt, static = prompt_of(prefix, conversation)
    with cache.working(prompt, static) as (work, n_reused):
        rest = prompt[work.n_tokens :]
        (row,) = work.extend(rest, [len(rest) - 1])
        engine = cache.engine
        assert isinstance(engine, FakeEngine)
        assert (row == engine.logits_after(prompt)).all()
        return n_reused, work.n_evaluated


def test_a_warm_first_turn_evaluates_only_what_follows_the_static_prefix() -> None:
    """Would break if a new conversation evaluated the routes again."""
    cache = KVCache(FakeEngine(), max_prefixes=2, max_conversations=3)
    assert run(cache, "routes", "[hello")[0] == 0
    reused, evaluated = run(cache, "routes", "[other words")
    assert reused == len("routes[")
    assert evaluated == len("other words") + len(CLOSING)


def test_the_next_turn_evaluates_only_the_new_turn_and_the_closing() -> None:
    """Would break if earlier turns of a conversation were evaluated again."""
    cache = KVCache(FakeEngine(), max_prefixes=2, max_conversations=3)
    run(cache, "routes", "[hello, I need help with my code]")
    reused, evaluated = run(cache, "routes", "[hello, I need help with my code, thank you]")
    assert reused == len("routes[hello, I need help with my code")
    assert evaluated == len(", thank you]") + len(CLOSING)


def test_conversations_do_not_push_each_other_out_turn_by_turn() -> None:
    """Would break if a new conversation took over the sequence of another that only begins alike."""
    cache = KVCache(FakeEngine(), max_prefixes=2, max_conversations=4)
    for name in ("alpha", "beta", "gamma"):
        run(cache, "routes", f"[the first long question of {name}]")
    for name in ("alpha", "beta", "gamma"):
        reused, _ = run(cache, "routes", f"[the first long question of {name}, and the second]")
        assert reused == len(f"routes[the first long question of {name}")


def test_the_same_prompt_again_evaluates_one_token() -> None:
    """Would break if logits were taken from an evaluation that never happened."""
    cache = KVCache(FakeEngine(), max_prefixes=1, max_conversations=1)
    run(cache, "routes", "[hello]")
    assert run(cache, "routes", "[hello]")[1] == 1


def test_the_least_recently_used_conversation_goes_first() -> None:
    """Would break if a busy conversation lost its cells to an idle one."""
    cache = KVCache(FakeEngine(), max_prefixes=1, max_conversations=2)
    run(cache, "routes", "[first conversation]")
    run(cache, "routes", "[second conversation]")
    run(cache, "routes", "[first conversation, more]")
    run(cache, "routes", "[third conversation]")
    assert run(cache, "routes", "[first conversation, more, and more]")[0] == len("routes[first conversation, more")
    assert cache.n_evictions == 1


def test_a_full_context_evicts_and_goes_on() -> None:
    """Would break if a full KV cache failed a decision for which there is room once others are gone."""
    cache = KVCache(FakeEngine(n_ctx=200, n_sequences=20), max_prefixes=3, max_conversations=12)
    for number in range(30):
        run(cache, f"routes {number % 4}", f"[{number} " + "words " * 15)
    assert cache.n_evictions > 20


def test_a_prompt_that_fits_is_never_refused_because_of_what_is_cached() -> None:
    """Would break if the conversation whose beginning was shared kept its place while the new one needs it."""
    cache = KVCache(FakeEngine(n_ctx=120), max_prefixes=1, max_conversations=4)
    for word in ("alpha", "bravo", "gamma"):
        run(cache, "routes", "[please fix " + word * 14)


def test_a_saved_prefix_that_does_not_fit_makes_room(store: SavedStates) -> None:
    """Would break if a full cache made a good saved prefix be evaluated again."""
    run(KVCache(FakeEngine(), store, max_prefixes=1, max_conversations=1), "routes", "[hello]")

    class Full(FakeEngine):
        def load(self, sequence: int, state: bytes) -> None:
            if sum(map(len, self.sequences.values())) > 40:
                raise EngineError("no cells")
            super().load(sequence, state)

    cache = KVCache(Full(), store, max_prefixes=3, max_conversations=4)
    run(cache, "others", "[" + "words " * 10)
    assert run(cache, "routes", "[hello]")[0] == len("routes")


def test_a_prefix_that_is_not_worth_keeping_is_not_stored(store: SavedStates) -> None:
    """Would break if routes that come with single messages filled the disk."""
    prompt, static = prompt_of("routes", "[hello]")
    with KVCache(FakeEngine(), store).working(prompt, static, keep=False) as (work, _):
        work.extend(prompt[work.n_tokens :])
    assert not store.folder.exists()


def test_what_can_never_fit_is_an_error_and_leaves_the_cache_sound() -> None:
    """Would break if the sequences of a failed decision stayed half filled."""
    cache = KVCache(FakeEngine(n_ctx=100), max_prefixes=2, max_conversations=2)
    with pytest.raises(ContextOverflowError):
        run(cache, "routes", "x" * 200)
    with pytest.raises(ContextOverflowError):
        run(cache, "r" * 300, "x")
    for _ in range(5):
        run(cache, "routes", "[short]")
        run(cache, "others", "[short]")


def test_a_prefix_that_cannot_be_saved_or_loaded_is_evaluated(store: SavedStates) -> None:
    """Would break if llama.cpp refusing to save or load a sequence failed the decision."""

    class Refusing(FakeEngine):
        def save(self, sequence: int) -> bytes:
            raise EngineError("cannot save")

        def load(self, sequence: int, state: bytes) -> None:
            raise EngineError("cannot load")

    assert run(KVCache(Refusing(), store), "routes", "[hello]")[0] == 0
    assert not store.folder.exists()
    run(KVCache(FakeEngine(), store), "routes", "[hello]")
    assert run(KVCache(Refusing(), store), "routes", "[hello]")[0] == 0


class _FailingEngine(FakeEngine):
    fail = False

    def evaluate(self, batch):  # type: ignore[no-untyped-def]
        rows = super().evaluate(batch)
        if self.fail:
            raise EngineError("no more electricity")
        return rows


def test_a_failed_evaluation_is_forgotten_whole() -> None:
    """Would break if cells of an evaluation that failed were taken for evaluated ones later."""
    engine = _FailingEngine()
    cache = KVCache(engine, max_prefixes=2, max_conversations=2)
    run(cache, "routes", "[hello]")
    engine.fail = True
    for conversation in ("[hello, more]", "[new]"):
        with pytest.raises(EngineError):
            run(cache, "routes", conversation)
        with pytest.raises(EngineError):
            run(cache, "new routes", conversation)
    engine.fail = False
    for conversation in ("[hello, more]", "[new]"):
        run(cache, "routes", conversation)
        run(cache, "new routes", conversation)


def test_closing_instructions_of_waiting_conversations_take_no_cells() -> None:
    """Would break if every conversation kept instructions that its next turn cannot reuse."""
    engine = FakeEngine()
    cache = KVCache(engine, max_prefixes=1, max_conversations=4)
    for name in ("alpha", "brown", "clear"):
        run(cache, "routes", f"[{name}]")
    kept = sorted(len(cells) for cells in engine.sequences.values() if cells)
    assert kept == [len("routes"), len("routes[alpha]"), len("routes[brown]"), len("routes[clear]") + len(CLOSING)]


def test_what_a_decision_has_no_use_for_leaves_the_kv_cache_and_comes_back() -> None:
    """Would break if other tables and conversations slowed every decision down, or if getting out of its way lost them."""
    engine = FakeEngine()
    cache = KVCache(engine, max_prefixes=3, max_conversations=8)
    for table in ("one", "two", "three"):
        for talk in ("alpha", "bravo"):
            run(cache, f"routes of {table}", f"[{talk} says " + table * 30)
            others = engine.n_cells - len(f"routes of {table}[{talk} says " + table * 30) - len(CLOSING)
            assert others <= kv_cache.MAX_OTHER_CELLS
    for table in ("one", "two", "three"):
        for talk in ("alpha", "bravo"):
            said = f"[{talk} says " + table * 30
            assert run(cache, f"routes of {table}", said + " and more")[0] == len(f"routes of {table}{said}")
    assert cache.n_evictions == 0


def test_what_is_parked_stays_within_its_memory() -> None:
    """Would break if an app that holds a router grew with every conversation, or lost the newest first."""
    engine = FakeEngine()
    cache = KVCache(engine, max_prefixes=1, max_conversations=8, max_parked_bytes=700)
    for name in "abcdefgh":
        run(cache, "routes", "[" + name * 200)
    # Three are parked, the last one is resident, and one more as long as others have few cells.
    assert cache.n_evictions == 3
    assert run(cache, "routes", "[" + "a" * 200)[0] == len("routes[")
    assert run(cache, "routes", "[" + "g" * 200 + "!")[0] > 200


def test_a_sequence_that_cannot_be_parked_or_brought_back_is_evaluated_again() -> None:
    """Would break if llama.cpp refusing to save or load a sequence failed the decision, or left half a conversation."""

    class Refusing(FakeEngine):
        refused: tuple[str, ...] = ()

        def save(self, sequence: int) -> bytes:
            if "save" in self.refused:
                raise EngineError("cannot save")
            return super().save(sequence)

        def load(self, sequence: int, state: bytes) -> None:
            if "load" in self.refused:
                raise EngineError("cannot load")
            super().load(sequence, state)

    engine = Refusing()
    cache = KVCache(engine, max_prefixes=3, max_conversations=8)
    for refused in (("save",), ("load",), ("save", "load"), ()):
        engine.refused = ()
        for table in "one", "two":
            run(cache, f"routes of {table}", f"[{table} " + "words " * 60)
        engine.refused = refused
        for table in "one", "two", "three", "one":
            run(cache, f"routes of {table}", f"[{table} " + "words " * 60 + "!")


class _LoadingInto(FakeEngine):
    """Refuses a state that it has no cells for, as llama.cpp does."""

    def load(self, sequence: int, state: bytes) -> None:
        if self.n_cells + len(state) - 4 > self.n_ctx:
            raise EngineError("no cells")
        super().load(sequence, state)


def test_a_prefix_stays_while_its_conversation_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if room for a conversation were made by parking the very cells that it begins with."""
    monkeypatch.setattr(kv_cache, "MAX_OTHER_CELLS", 0)
    cache = KVCache(_LoadingInto(n_ctx=74), max_prefixes=3, max_conversations=4)
    prompt, static = [*b"routes[ab" + b"c" * 57 + b"="], StaticParts(tuple(b"routes"), 1)
    with cache.working(prompt, static) as (work, _):
        work.extend(prompt[work.n_tokens :])
    run(cache, "others", "[hello")
    run(cache, "routes[ab", "cccd")


@pytest.mark.parametrize("seed", range(12))
def test_branches_are_right_whatever_has_to_make_room_for_them(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if parking and branches used one sequence, or if what comes back were forgotten for its own sake."""
    draw = random.Random(seed)
    monkeypatch.setattr(kv_cache, "MAX_OTHER_CELLS", draw.choice([0, 100, 4000]))
    engine = _LoadingInto(n_ctx=draw.choice([150, 200, 400]), n_sequences=12)
    cache = KVCache(engine, max_prefixes=2, max_conversations=4, max_parked_bytes=draw.choice([60, 150, 4000]))
    for _ in range(100):
        table, talk = f"routes of {draw.choice('abc')}", "[" + "".join(draw.choices("xy", k=draw.randint(1, 40)))
        prompt, static = prompt_of(table, talk)
        engine.stops_after = draw.choice([None, None, None, draw.randint(0, 40)])
        try:
            with cache.working(prompt, static) as (work, _):
                work.extend(prompt[work.n_tokens :])
                branches = [bytes(draw.choices(b"123", k=3)) for _ in range(work.most_branches)]

                def build(
                    scratch: Sequence[int], prompt: list[int] = prompt, branches: list[bytes] = branches
                ) -> list[BatchToken]:
                    return [
                        BatchToken(token, len(prompt) + at, (number,), at == 2)
                        for number, branch in zip(scratch, branches, strict=True)
                        for at, token in enumerate(branch)
                    ]

                rows = work.evaluate_branches(len(prompt), len(branches), build)
        except EvaluationStoppedError:
            continue
        for row, branch in zip(rows, branches, strict=True):
            assert (row == engine.logits_after([*prompt, *branch])).all()


def test_a_second_process_starts_warm_and_only_static_prefixes_are_stored(store: SavedStates) -> None:
    """Would break if a saved prefix were not used, or if a conversation were saved."""
    run(KVCache(FakeEngine(), store, max_prefixes=1, max_conversations=1), "routes", "[secret words]")
    assert store.load(list(b"routes")) is not None
    assert len(list(store.folder.iterdir())) == 1
    reused, evaluated = run(KVCache(FakeEngine(), store, max_prefixes=1, max_conversations=1), "routes", "[hello]")
    assert (reused, evaluated) == (len("routes"), len("[hello]") + len(CLOSING))


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_tables_and_turns_gives_the_logits_of_an_empty_cache(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if any mix of reuse, parking, eviction and growth left a wrong token in a sequence (checked in ``run``)."""
    draw = random.Random(seed)
    monkeypatch.setattr(kv_cache, "MAX_OTHER_CELLS", draw.choice([0, 30, 4000]))
    cache = KVCache(
        FakeEngine(n_ctx=draw.choice([400, 700, 4000]), n_sequences=9),
        max_prefixes=2,
        max_conversations=3,
        max_parked_bytes=draw.choice([0, 60, 4000]),
    )
    talks = {(table, talk): "[" for table in ("one", "two", "three") for talk in range(3)}
    for _ in range(120):
        key = draw.choice(list(talks))
        talks[key] = draw.choice([talks[key], talks[key] + draw.choice("abc") * draw.randint(1, 9), "[" + draw.choice("ab")])
        reused, evaluated = run(cache, f"routes of {key[0]}", talks[key])
        n_prompt = len(prompt_of(f"routes of {key[0]}", talks[key])[0])
        assert reused + evaluated == n_prompt


def test_what_is_finished_before_a_stop_is_not_evaluated_again() -> None:
    """Would break if a prefix or a conversation that takes longer than there ever is time for were begun again each time."""
    engine = FakeEngine()
    cache = KVCache(engine, max_prefixes=2, max_conversations=2)
    engine.stops_after = 18
    with pytest.raises(EvaluationStoppedError):
        run(cache, "the routes of a table", "[hello]")
    assert engine.n_evaluated == 16
    with pytest.raises(EvaluationStoppedError):
        engine.stops_after = 10
        run(cache, "the routes of a table", "[hello, my code is wrong]")
    n_finished = len("the routes of a table") + 8
    assert engine.n_evaluated == n_finished
    reused, evaluated = run(cache, "the routes of a table", "[hello, my code is wrong]")
    assert (reused, evaluated) == (n_finished, len("[hello, my code is wrong]") - 8 + len(CLOSING))
    # The conversation goes on in the place that it had.
    assert sum(bool(cells) for cells in engine.sequences.values()) == 2


@pytest.mark.parametrize("seed", range(8))
def test_stopping_at_any_time_leaves_nothing_wrong_behind(seed: int) -> None:
    """Would break if a stopped evaluation left cells that are not those of the tokens they are taken for."""
    draw = random.Random(seed)
    engine = FakeEngine(n_ctx=draw.choice([400, 4000]), n_sequences=9)
    cache = KVCache(engine, max_prefixes=2, max_conversations=3)
    n_stopped = 0
    for number in range(150):
        table, talk = f"routes of {draw.choice('abc')}", "[" + draw.choice("xyz") * draw.randint(1, 30)
        engine.stops_after = draw.randint(0, 40) if number % 2 else None
        try:
            reused, evaluated = run(cache, table, talk)
        except EvaluationStoppedError:
            n_stopped += 1
        else:
            assert reused + evaluated == len(prompt_of(table, talk)[0])
    assert n_stopped > 10
