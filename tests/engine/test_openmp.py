"""How threads wait for each other, which decides how long a decision takes on busy cores."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import os
before = dict(os.environ)
from archroute_edge.engine import build
from archroute_edge.engine._ik_binding import binding
build()
binding()
assert dict(os.environ) == before
"""
NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def settings_in_child(variables: dict[str, str]) -> list[list[str]]:
    """The settings that each GNU OpenMP of a process says it read when it was loaded."""
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment = {**inherited, "OMP_DISPLAY_ENV": "verbose", **variables}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True)
    lines = [line.replace("[host]", "").split() for line in done.stderr.splitlines()]
    return [[line[2].strip("'") for line in lines if line and line[0] == name] for name in NAMES]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ("1000", "ACTIVE")),
        ({"GOMP_SPINCOUNT": "500"}, ("500", "PASSIVE")),
        ({"OMP_WAIT_POLICY": "passive"}, ("0", "PASSIVE")),
    ],
)
def test_threads_sleep_soon_unless_the_environment_says_otherwise(
    tried_kernels: None, variables: dict[str, str], expected: tuple[str, str]
) -> None:
    """Would break if a library of llama.cpp or of ik_llama.cpp were loaded first, or if the environment kept a trace."""
    counts, policies = settings_in_child(variables)
    assert counts
    assert set(counts) == {expected[0]}
    assert set(policies) == {expected[1]}
