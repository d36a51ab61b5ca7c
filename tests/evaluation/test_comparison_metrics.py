"""Two models on the same cases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.evaluation import Share, agreement, mcnemar, mean_kl_divergence
from archroute_edge.evaluation._comparison_metrics import PairedTest, kl_divergence


def distributions(n_routes: int) -> st.SearchStrategy[dict[str, float]]:
    """Over ``n_routes`` routes; some probabilities may be 0."""
    weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1)), min_size=n_routes, max_size=n_routes)
    return weights.filter(lambda values: sum(values) > 0).map(
        lambda values: {f"route {place}": value / sum(values) for place, value in enumerate(values)}
    )


PAIRS = st.integers(1, 6).flatmap(lambda n_routes: st.tuples(distributions(n_routes), distributions(n_routes)))


def test_divergence() -> None:
    one, two = {"a": 0.5, "b": 0.5}, {"a": 0.25, "b": 0.75}
    assert kl_divergence(one, two) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert kl_divergence(two, one) == pytest.approx(0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2))
    assert mean_kl_divergence([one, one], [two, one]) == pytest.approx(kl_divergence(one, two) / 2)
    assert mean_kl_divergence([], []) is None
    with pytest.raises(ValueError, match="same routes"):
        kl_divergence(one, {"a": 1.0})


@given(PAIRS)
def test_divergence_is_never_negative_nor_infinite(pair: tuple[dict[str, float], dict[str, float]]) -> None:
    assert 0 <= kl_divergence(*pair) < math.inf
    assert kl_divergence(pair[0], pair[0]) == 0


def test_mcnemar() -> None:
    """Ten cases that only the second decides right and two that only the first does: 2 (1 + 12 + 66) / 2^12."""
    first = [True] * 2 + [False] * 10 + [True] * 5 + [False] * 3
    second = [False] * 2 + [True] * 10 + [True] * 5 + [False] * 3
    assert mcnemar(first, second) == PairedTest(2, 10, 2 * 79 / 4096)
    assert mcnemar(second, first).p_value == mcnemar(first, second).p_value


@given(st.lists(st.sampled_from(["a", "b", "other"]), max_size=30), st.lists(st.booleans(), max_size=30))
def test_a_model_does_not_differ_from_itself(decided: list[str], right: list[bool]) -> None:
    assert agreement(decided, decided) == Share(len(decided), len(decided))
    assert mcnemar(right, right) == PairedTest(0, 0, 1.0)


def test_very_many_cases_are_no_overflow() -> None:
    right = [True] * 5000
    assert 0 <= mcnemar(right, [False] * 5000).p_value < 1e-300
