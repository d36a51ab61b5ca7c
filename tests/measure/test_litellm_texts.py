"""Decisions on LiteLLM's texts are compared with those on the conversations of the shipped cases."""

from __future__ import annotations

from typing import Any

import pytest

from archroute_edge.evaluation import shipped_cases
from tools.measure import litellm_texts


@pytest.mark.quick
def test_both_are_asked_about_a_cases_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, dict[str, Any]] = {}

    def post(url: str, body: dict[str, Any]) -> Any:
        asked[url] = body
        return {"answers": {"tier": {"choice": "one"}}, "route": "two"}

    monkeypatch.setattr(litellm_texts, "_post", post)
    case = shipped_cases()[0]
    assert litellm_texts.decide("http://here", case, "as LiteLLM writes it") == ("one", "two")
    by_text, by_messages = asked["http://here/v1/systemone"], asked["http://here/v1/route"]
    names = [route.name for route in case.table]
    assert by_text["state"] == "as LiteLLM writes it"
    assert list(by_text["questions"]["tier"]["criteria"]) == [*names, "other"]
    assert by_messages["messages"] == case.messages
    assert [each["name"] for each in by_messages["routes"]] == names
