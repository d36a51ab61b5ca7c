"""Every door gives the same decision, or the same error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.measure.door_cases import make_cases
from tools.measure.doors import compare


@pytest.mark.usefixtures("tried_kernels")
def test_every_door_says_the_same(random_encoder: Path) -> None:
    """`python -m tools.measure.doors` does the same with thousands; five readers of one format differ sooner or later."""
    outcome = compare(make_cases(30, 3), str(random_encoder))
    assert outcome.differences == []
    assert outcome.decided >= 12
    assert outcome.refused >= 4
    assert set(outcome.kinds) == {"by the model", "no_user_text"}


def test_the_cases_of_a_seed_are_the_same_and_json() -> None:
    """What was found could not be looked at again otherwise."""
    assert make_cases(50, 1) == make_cases(50, 1) != make_cases(50, 2)
    for case in make_cases(200, 1):
        assert json.loads(json.dumps([case.messages, case.routes])) == [case.messages, case.routes]
