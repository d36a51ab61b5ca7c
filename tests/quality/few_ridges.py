"""A search for ridges with few choices: a training takes a tenth or half of the time. The whole search has tests of its own."""

from __future__ import annotations

import math

import pytest

from archroute_edge.quality import _ridges

_VALUES = {"_OWN": (16.0, math.inf), "_SHARED": (4.0, 1.0), "_WORDS": (4.0, 1.0), "_TEXT": (2.0, 0.5)}
"""The usual value of each kind, and another one of those that are tried."""


def search_few_ridges(patch: pytest.MonkeyPatch, n: int) -> None:
    """Each kind of ridge has one value, the usual one, or two."""
    for name, values in _VALUES.items():
        assert set(values) <= set(getattr(_ridges, name))
        patch.setattr(_ridges, name, values[:n])
