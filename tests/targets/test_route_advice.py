"""Advice on routes: what the model's authors advise against is a warning, and sound routes in any language are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archroute_edge.config import (
    Advice,
    Canary,
    ForwardSettings,
    ModelFacts,
    Price,
    RoutingConfig,
    TrafficRule,
    load_config,
    parse_config,
)
from archroute_edge.engine import Vectors
from archroute_edge.errors import ModelFileError
from archroute_edge.evaluation import shipped_cases
from archroute_edge.routes import Route, RouteTable
from archroute_edge.targets import advice
from archroute_edge.targets._route_advice import Embed

ROOT = Path(__file__).resolve().parents[2]
NOTHING = [
    ("translation", "translation of texts between languages"),
    ("help_desk", "help with broken laptops, printers and passwords"),
    ("travel", "trips, flights and hotels"),
    ("qa", "short questions and answers about products"),
    ("general", "casual conversation, greetings and jokes"),
    ("SQLTuning", "performance of SQL queries and indexes"),
    ("reisen", "Fluege und Hotels"),
    ("翻訳", "文章の翻訳と校正"),
    ("翻訳", "translation of Japanese texts"),
    ("перевод", "перевод текстов между языками"),
]


def advice_on(routes: dict[str, str], embed: Embed) -> list[Advice]:
    table = RouteTable([Route(name, description) for name, description in routes.items()])
    return advice(RoutingConfig(table, default_model="a/b"), embed)


def test_shipped_files_follow_the_advice(embed: Embed) -> None:
    assert advice(load_config(ROOT / "archroute_edge/data/example_routes.yaml")) == []
    assert advice(load_config(ROOT / "examples/configs/archgw-v0.1.yaml"), embed) == []


def test_tables_of_the_shipped_cases_follow_the_advice(embed: Embed) -> None:
    """Routes that overlap, or that the model's authors advise against, would make labels disputable."""
    tables = [table for table in {case.table for case in shipped_cases()} if len(table) <= 5]
    assert len(tables) >= 6
    assert [item for table in tables for item in advice(RoutingConfig(table, default_model="a/b"), embed)] == []


@pytest.mark.parametrize(
    ("name", "description", "message"),
    [
        ("billing", "", "no description"),
        ("billing", "  \n", "no description"),
        ("billing", "billing", "very short"),
        ("billing", "invoice questions", "very short"),
        ("翻訳", "翻訳", "very short"),
        ("weather", "flights, hotels and car rental in Europe", "says something else"),
        ("finance", "recipes, ingredients and cooking times", "says something else"),
    ],
)
def test_wording_that_is_advised_against(embed: Embed, name: str, description: str, message: str) -> None:
    (only,) = advice_on({name: description}, embed)
    assert only.route == name
    assert message in only.message


@pytest.mark.parametrize(("name", "description"), NOTHING)
def test_good_wording_is_left_alone(embed: Embed, name: str, description: str) -> None:
    assert advice_on({name: description}, embed) == []


def test_names_that_fit_each_others_descriptions(embed: Embed) -> None:
    found = advice_on({"finance": "recipes, meals and ingredients", "cooking": "invoices, budgets and payments"}, embed)
    assert [item.route for item in found if "says something else" in item.message] == ["finance", "cooking"]


@pytest.mark.parametrize(
    "routes",
    [
        {"invoices": "questions about invoices, payments and refunds", "payments": "payments, refunds and invoices, questions"},
        {"letters": "writing of emails and letters", "mail": "composing letters and e-mails"},
        {"rechnungen": "Fragen zu Rechnungen und Zahlungen", "zahlungen": "Fragen zu Zahlungen und Rechnungen"},
    ],
)
def test_overlapping_descriptions_name_both_routes(embed: Embed, routes: dict[str, str]) -> None:
    first, second = routes
    (only,) = advice_on({**routes, "weather": "forecasts of rain and wind"}, embed)
    assert only.route == second
    assert f"is described much like {first!r}" in only.message


def test_routes_that_an_encoder_cannot_tell_apart(embed: Embed) -> None:
    """It reads names as words, so these have one text, and their names alone decide between them."""
    described = "finding and fixing errors in code"
    found = advice_on({"bug_fixing": described, "bug-fixing": described, "small_talk": "", "small/talk": ""}, embed)
    said = {item.route: item.message for item in found if "like" in item.message}
    message = "reads like {!r} to an encoder, which cannot tell the two apart; say what does"
    assert said == {"bug-fixing": message.format("bug_fixing"), "small/talk": message.format("small_talk")}


def test_many_routes_described_alike_are_named_once_each(embed: Embed) -> None:
    """Of 256 routes alike there are 32,640 pairs, and nobody reads so many lines."""
    found = advice_on({f"invoices_{number}": "questions about invoices, payments and refunds" for number in range(5)}, embed)
    assert [item.route for item in found if "much like" in item.message] == [f"invoices_{number}" for number in range(1, 5)]


def test_an_encoder_that_fails_costs_the_comparison_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_texts: Sequence[str]) -> Vectors:
        raise ModelFileError("damaged")

    (only,) = advice_on({"a": "b"}, fail)
    assert "very short" in only.message
    assert "the routes were not compared with each other: damaged" in caplog.text


def no_vectors(texts: Sequence[str]) -> Vectors:
    """Every text lies at a right angle to every other one."""
    places = list(dict.fromkeys(texts))
    return np.eye(len(places), dtype=np.float32)[[places.index(text) for text in texts]]


def read_advice(text: str) -> list[Advice]:
    return [item for item in advice(parse_config(text), no_vectors) if "says something else" not in item.message]


def test_many_routes_and_no_default_model() -> None:
    text = "routing_preferences:\n" + "".join(f"  - {{name: r{n}, description: 'about {n} and {n}'}}\n" for n in range(21))
    assert [item.message.split(";")[0] for item in read_advice(text)][-2:] == [
        "21 routes are many",
        "no default model for conversations that fit no route",
    ]


def test_line_and_route_of_advice() -> None:
    text = (
        "default_model: a/b\nrouting_preferences:\n  - name: general questions\n    description: questions on any subject\n"
        "    models: [a/b, c/d]\n    selection_policy: {prefer: cheapest}\n"
    )
    (only,) = read_advice(text)
    assert (only.route, only.line) == ("general questions", 3)
    assert only.message.startswith("prefers 'cheapest', but no model of it has a price")
    assert read_advice(text.replace(", c/d", "")) == []


@pytest.mark.parametrize(
    ("policy", "priced", "expected"),
    [
        ("cheapest", {"a/b"}, "these models have no price and stand last: 'c/d'"),
        ("cheapest", {"a/b", "c/d"}, None),
        ("fastest", {"a/b"}, "only a server that forwards can know"),
        ("long_context_quality", set(), "has no effect here"),
    ],
)
def test_policies_whose_figures_are_not_known(policy: str, priced: set[str], expected: str | None) -> None:
    text = (
        "default_model: a/b\nrouting_preferences:\n  - name: general questions\n    description: questions on any subject\n"
        f"    models: [a/b, c/d]\n    selection_policy: {{prefer: {policy}}}\n"
    )
    models = {model: ModelFacts(price=Price(1.0, 2.0)) for model in priced}
    config = replace(parse_config(text), forward=ForwardSettings(models=models))
    found = [item.message for item in advice(config, no_vectors) if "prefers" in item.message]
    assert len(found) == (expected is not None)
    assert all(str(expected) in message for message in found)


@pytest.mark.parametrize("window", [32, 33])
def test_a_canary_that_nothing_can_withdraw_for_its_latency(window: int) -> None:
    text = "default_model: a/b\nrouting_preferences: [{name: general questions, description: questions on any subject}]"
    rules = {"general questions": TrafficRule(canary=Canary("a/b", window))}
    config = replace(parse_config(text), forward=ForwardSettings(routes=rules))
    found = [item.message for item in advice(config, no_vectors) if "canary" in item.message]
    assert len(found) == (window < 33)


def test_a_route_without_models_among_routes_with_models() -> None:
    text = """
model_providers: [{model: a/b, default: true}]
routing_preferences:
  - {name: flights, description: flights and airports of Europe, models: [a/b]}
  - {name: general, description: casual conversation on any subject}
"""
    (only,) = read_advice(text)
    assert (only.route, only.line) == ("general", 5)
    assert "the default model serves it" in only.message


def test_what_reading_had_to_decide_is_told_in_the_order_of_lines() -> None:
    text = """
model_providers:
  - {model: a/one, default: true, routing_preferences: [{name: flights, description: flights and airports of Europe}]}
  - {model: b/two, routing_preferences: [{name: flights, description: something else entirely}]}
routing_preferences:
  - {name: general, description: chat}
"""
    found = read_advice(text)
    assert [item.line for item in found] == sorted((item.line for item in found), key=lambda line: line or 0)
    assert [item.route for item in found if "described again" in item.message] == ["flights"]
