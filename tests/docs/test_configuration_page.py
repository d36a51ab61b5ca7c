"""docs/configuration.md names every key that the reader knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.config import Keys
from archroute_edge.config import _keys as known_keys
from archroute_edge.config._policy_reader import POLICIES

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
LEVELS = [each for each in vars(known_keys).values() if isinstance(each, Keys)]


def test_the_levels_are_found() -> None:
    assert {"the configuration", "a model provider", "a route", "a model alias"} <= {level.what for level in LEVELS}


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.what)
def test_every_key_that_is_read_has_a_row_or_stands_in_one(level: Keys) -> None:
    tables = ("## Every key", "## The section `archroute`")
    rows = "".join(PAGE.partition(heading)[2].partition("\n## ")[0] for heading in tables)
    assert [key for key in sorted(level.read) if f"`{key}`" not in rows] == []


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.what)
def test_every_key_that_is_read_has_an_example(level: Keys) -> None:
    examples = "".join(part for part in PAGE.split("```") if part.startswith(("yaml\n", "json\n"))).replace('":', ":")
    assert [key for key in sorted(level.read) if f"{key}:" not in examples] == []


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.what)
def test_every_key_that_is_ignored_is_named(level: Keys) -> None:
    ignored = PAGE.partition("## archgw and Plano")[2]
    assert [key for key in sorted(level.ignored) if f"`{key}`" not in ignored] == []


def test_every_policy_is_named() -> None:
    assert [policy for policy in POLICIES if f"`{policy}`" not in PAGE] == []
