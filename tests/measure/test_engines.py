"""The tools that compare and take apart the engines, on the bundled language model."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tools.measure import engine_equality, engine_times, evaluation_shares


def test_both_engines_are_compared_on_cases(bundled_model: object) -> None:
    found = CliRunner().invoke(engine_equality.main, [str(bundled_model), "--every", "200", "--threads", "1"])
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)
    assert figures["cases"] == 5
    for pair in ("ik, llama.cpp", "llama.cpp with, without flash attention"):
        assert figures[pair]["same_route"] + len(figures[pair]["margins_where_routes_differ"]) == 5
        assert figures[pair]["difference"]["most"] < 0.2


@pytest.mark.parametrize("engine", ["llama.cpp", "ik"])
def test_the_shares_of_a_decision_make_a_whole(bundled_model: object, engine: str) -> None:
    """Would break if a part of the graph were counted nowhere, or twice."""
    arguments = [str(bundled_model), "--engine", engine, "--routes", "5", "--rounds", "1", "--threads", "1"]
    found = CliRunner().invoke(evaluation_shares.main, arguments)
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)
    assert figures["engine"] == engine
    assert sum(figures["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert figures["shares"]["matrix products"] > 0.1
    assert figures["shares"]["logits"] > 0


def test_both_engines_are_timed(bundled_model: object) -> None:
    arguments = [str(bundled_model), "--tokens", "20", "--rounds", "2", "--threads", "1"]
    found = CliRunner().invoke(engine_times.main, arguments)
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)
    assert figures["ratio"] > 0
    assert set(figures["seconds"]) == {"llama.cpp", "ik"}
