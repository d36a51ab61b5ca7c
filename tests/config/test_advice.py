from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.config import Advice, RoutingConfig, advice, load_config, parse_config
from archroute_edge.config import _route_advice as route_advice
from archroute_edge.config._route_wording import stems
from archroute_edge.routes import Route, RouteTable

ROOT = Path(__file__).resolve().parents[2]

CARD = {
    "code_generation": "Generating new code snippets, functions, or boilerplate based on user prompts or requirements",
    "bug_fixing": "Identifying and fixing errors or bugs in the provided code across different programming languages",
    "performance_optimization": "Suggesting improvements to make code more efficient, readable, or scalable",
    "api_help": "Assisting with understanding or integrating external APIs and libraries",
    "programming": "Answering general programming questions, theory, or best practices",
}


def advice_on(routes: dict[str, str], default_model: str | None = "a/b") -> list[Advice]:
    table = RouteTable([Route(name, description) for name, description in routes.items()])
    return advice(RoutingConfig(table, default_model=default_model))


def test_the_model_card_lacks_a_default_model_and_nothing_else() -> None:
    (only,) = advice_on(CARD, default_model=None)
    assert "no default model" in only.message
    assert only.route is None
    assert advice_on(CARD) == []


@pytest.mark.parametrize("path", ["archroute_edge/data/example_routes.yaml", "examples/configs/archgw-v0.1.yaml"])
def test_shipped_files_follow_the_advice(path: str) -> None:
    assert advice(load_config(ROOT / path)) == []


def test_line_and_route_of_advice() -> None:
    text = (
        "default_model: a/b\nrouting_preferences:\n  - name: general questions\n    description: questions on any subject\n"
        "    models: [a/b, c/d]\n    selection_policy: {prefer: cheapest}\n"
    )
    (only,) = advice(parse_config(text))
    assert (only.route, only.line) == ("general questions", 3)
    assert "'cheapest', which cannot be known offline" in only.message


@pytest.mark.parametrize(
    ("name", "description", "message"),
    [
        ("billing", "", "no description"),
        ("billing", "  \n", "no description"),
        ("billing", "billing", "very short"),
        ("billing", "invoice questions", "very short"),
        ("things", "various things and other stuff", "nothing specific"),
        ("requests", "all kinds of requests from users", "nothing specific"),
        ("weather", "flights, hotels and car rental in Europe", "shares no word"),
        ("route_7", "recipes, ingredients and cooking times", "shares no word"),
        ("email_writing", "Write emails and letters for the user", "verb 'write'"),
        ("translation", "Translates texts between languages", "verb 'translates'"),
        ("classification", "Classifies documents by their subject", "verb 'classifies'"),
        ("write_email", "writing of emails and letters", "name that starts with the verb 'write'"),
        ("summarizeText", "summaries of long texts and articles", "name that starts with the verb 'summarize'"),
        ("billing", "When the user asks about billing or invoices", "gives instructions"),
        ("billing", "Use this for billing and invoices", "gives instructions"),
        ("billing", "the user wants to see bills and invoices", "gives instructions"),
    ],
)
def test_wording_that_is_advised_against(name: str, description: str, message: str) -> None:
    found = [item for item in advice_on({name: description}) if item.route == name]
    assert any(message in item.message for item in found), found


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("translation", "translation of texts between languages"),
        ("help_desk", "help with broken laptops, printers and passwords"),
        ("travel", "trips, flights and hotels"),
        ("qa", "short questions and answers about products"),
        ("mathematics", "arithmetic, algebra and geometry problems"),
        ("user_accounts", "user accounts, passwords and logins"),
        ("route_planning", "route planning, maps and directions"),
        ("returns", "returns, refunds and exchanges"),
        ("general", "casual conversation, greetings and jokes"),
        ("use_cases", "use cases of our products in industry"),
        ("SQLTuning", "performance of SQL queries and indexes"),
        ("翻訳", "文章の翻訳と校正"),
        ("翻訳", "translation of Japanese texts"),
        ("перевод", "перевод текстов между языками"),
    ],
)
def test_good_wording_is_left_alone(name: str, description: str) -> None:
    assert advice_on({name: description}) == []


def test_overlapping_descriptions_name_both_routes() -> None:
    found = advice_on(
        {
            "invoices": "questions about invoices, payments and refunds",
            "payments": "questions about payments, refunds and invoices",
            "general": "casual conversation on any subject",
        }
    )
    assert [(item.route, "'invoices'" in item.message) for item in found] == [("payments", True)]


def test_many_routes_described_alike_are_named_once_each() -> None:
    """Of 256 routes alike there are 32,640 pairs, and nobody reads so many lines."""
    found = advice_on({f"invoices_{number}": "questions about invoices, payments and refunds" for number in range(5)})
    assert [item.route for item in found if "much like" in item.message] == [f"invoices_{number}" for number in range(1, 5)]


def test_many_routes() -> None:
    subjects = [f"{chr(97 + index // 26)}{chr(97 + index % 26)}subject" for index in range(21)]
    routes = {subject: f"{subject}one {subject}two {subject}three" for subject in subjects}
    routes["general"] = routes.pop(subjects[0])
    assert any("21 routes are many" in item.message for item in advice_on(routes))
    del routes["general"]
    assert not any("are many" in item.message for item in advice_on(routes))


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("flights", "hotels"), True),
        (("flights", "hotels", "general"), False),
        (("travel_flights", "travel_hotels", "travel"), False),
        (("flights",), False),
    ],
)
def test_a_broad_route_to_fall_back_on(names: tuple[str, ...], missing: bool) -> None:
    descriptions = {"general": "casual conversation", "travel": "trips and journeys by any means"}
    routes = {name: descriptions.get(name, f"{name} in Europe and Asia") for name in names}
    if "travel" in routes:
        routes["travel"] = "trips and journeys by land"
    assert any("fall back" in item.message for item in advice_on(routes)) is missing


def test_a_route_without_models_among_routes_with_models() -> None:
    text = """
model_providers: [{model: a/b, default: true}]
routing_preferences:
  - {name: flights, description: flights and airports of Europe, models: [a/b]}
  - {name: general, description: casual conversation on any subject}
"""
    (only,) = advice(parse_config(text))
    assert (only.route, only.line) == ("general", 5)
    assert "the default model serves it" in only.message


def test_a_policy_over_one_model_needs_no_advice() -> None:
    text = """
default_model: a/b
routing_preferences:
  - {name: flights, description: flights and airports of Europe, models: [a/b], selection_policy: {prefer: cheapest}}
"""
    assert advice(parse_config(text)) == []


def test_what_reading_had_to_decide_is_told_in_the_order_of_lines() -> None:
    text = """
model_providers:
  - {model: a/one, default: true, routing_preferences: [{name: flights, description: flights and airports of Europe}]}
  - {model: b/two, routing_preferences: [{name: flights, description: something else entirely}]}
routing_preferences:
  - {name: general, description: Answer casual questions on any subject}
  - {name: hotels, description: Find hotels in the cities of Europe}
"""
    found = advice(parse_config(text))
    lines = [item.line for item in found]
    assert lines == sorted(lines, key=lambda line: line or 0)
    assert [item.route for item in found if "described again" in item.message] == ["flights"]


def test_each_description_is_stemmed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing every pair of 256 descriptions took seconds when each comparison stemmed both anew."""
    stemmed: list[str] = []

    def counting(text: str) -> frozenset[str]:
        stemmed.append(text)
        return stems(text)

    monkeypatch.setattr(route_advice, "stems", counting)
    advice_on({f"r{index}": f"subject{index} matter{index}" for index in range(256)})
    assert len(stemmed) == 256
