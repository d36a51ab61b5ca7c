"""What is measured in which order, what it is measured on, and when a sweep is cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archroute_edge.bench import MOST_ROUTES, BenchPlan, Contender, Sweep, conversation, fit_together
from archroute_edge.bench._machine import cpu_features
from archroute_edge.bench._plan import main_parts, sweep_parts
from archroute_edge.bench._run import sweep_contenders
from archroute_edge.bench._workload import message, table_of
from archroute_edge.errors import SettingsError


def plan(n_levels: int = 3, **more: Any) -> BenchPlan:
    levels = tuple(Contender(f"L{n}", Path(f"L{n}.gguf"), None, f"{n}", 10**9, 4.5) for n in range(n_levels))
    return BenchPlan(levels, {"budget": 2048}, (("a", "b"),), **{"rounds": 3, "decisions": 2, **more})


def runs(parts: list[Any]) -> list[str]:
    """Levels in the order in which they take turns."""
    order = [part.contender.label for part in parts]
    return [label for index, label in enumerate(order) if index == 0 or order[index - 1] != label]


def test_levels_take_turns_within_a_round_and_every_other_round_goes_backwards() -> None:
    """Would break if a machine that slows down were held against the level that comes last."""
    parts = [part for part in main_parts(plan()) if part.kind == "decide"]
    assert [(part.round, part.contender.label) for part in parts] == [
        *((0, "L0"), (0, "L1"), (0, "L2")),
        *((1, "L2"), (1, "L1"), (1, "L0")),
        *((2, "L0"), (2, "L1"), (2, "L2")),
    ]


def test_levels_that_do_not_fit_side_by_side_are_loaded_once_a_round() -> None:
    assert runs(main_parts(plan(together=False))) == ["L0", "L1", "L2", "L1", "L0", "L1", "L2"]


def test_every_level_is_given_the_same() -> None:
    """Would break if a level were given longer messages than another."""
    given: dict[str, set[str]] = {}
    for part in [*main_parts(plan()), *sweep_parts(Sweep("turns", (1, 4)), plan().contenders)]:
        given.setdefault(part.contender.label, set()).add(f"{part.kind} {part.round} {part.what} {part.arguments}")
    assert given["L0"] == given["L1"] == given["L2"]
    keys = [part.key for part in main_parts(plan())]
    assert len(keys) == len(set(keys))


def test_what_fits_side_by_side() -> None:
    """A gigabyte of weights takes up to 1.53; beside the levels there is a fresh process."""
    assert fit_together(plan().contenders, 6_200_000_000)
    assert not fit_together(plan().contenders, 6_100_000_000)


def test_a_sweep_that_would_take_too_long_is_made_over_the_first_level() -> None:
    def measured(decision_ms: float) -> dict[str, Any]:
        opened = {"without": {"load_ms": 1000.0, "prefix_ms": 500.0}}
        cold = {f"cold//0/L{n}": opened for n in range(3)}
        return cold | {f"decide//0/L{n}": {"before_ms": [decision_ms]} for n in range(3)}

    sweep = Sweep("threads", (1, 2, 4, 8))
    # 3 rounds x 3 levels x 4 values x (1.5 s + 4 decisions)
    assert sweep_contenders(plan(), sweep, measured(5_000)) == (plan().contenders, None)
    levels, note = sweep_contenders(plan(), sweep, measured(6_000))
    assert [each.label for each in levels] == ["L0"]
    assert note == "over L0 alone: all levels would take about 15 minutes"


def test_messages_are_fresh_and_conversations_grow() -> None:
    """Would break if a message's beginning were in the cache from another, or a later turn's not from the earlier."""
    messages = [message(seed) for seed in range(500)]
    assert len({text.split()[0] for text in messages}) > 490
    assert all(15 <= len(text.split()) <= 24 for text in messages)
    long = conversation(3, 16)
    assert [each["role"] for each in long] == ["user", "assistant"] * 15 + ["user"]
    assert conversation(3, 4) == long[:7]
    assert conversation(4, 16)[0] != long[0]


def test_tables_of_any_length_are_valid_and_grow() -> None:
    whole = [route.name for route in table_of(MOST_ROUTES)]
    assert len(set(whole)) == MOST_ROUTES == 240
    assert [route.name for route in table_of(5)] == whole[:5]
    for n_routes in (0, MOST_ROUTES + 1):
        with pytest.raises(SettingsError, match="1 to 240"):
            table_of(n_routes)


def test_cpu_features_are_those_that_are_on() -> None:
    assert cpu_features("CPU : AVX2 = 1 | AVX512 = 0 | OPENMP = 1 | SVE_CNT = 32 |") == ["AVX2", "OPENMP", "SVE_CNT"]
