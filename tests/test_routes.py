"""Routes and tables are validated once, so that nothing behind them has to."""

from __future__ import annotations

import pytest

from archroute_edge.errors import RouteTableError
from archroute_edge.routes import MAX_ROUTES, OTHER, Route, RouteTable

LEGAL_NAMES = [
    "code",
    "Other",
    "other ",
    "c++ / c#",
    '"quoted"',
    "\\",
    "\x00",
    "a\u2028b",
    "日本語",
    "😀",
    "{conversation}",
    "a" * 5000,
]

ILLEGAL_ROUTES = [
    pytest.param({"name": ""}, "empty name", id="empty"),
    pytest.param({"name": " \t\n\u3000"}, "empty name", id="blank"),
    pytest.param({"name": OTHER}, "may not be called 'other'", id="reserved"),
    pytest.param({"name": "a\ud800b"}, "the name holds a lone surrogate", id="surrogate-in-name"),
    pytest.param({"name": "a", "description": "\udfff"}, "the description holds a lone surrogate", id="surrogate-in-text"),
    pytest.param({"name": 5}, "must be text", id="number"),
    pytest.param({"name": None}, "must be text", id="none"),
    pytest.param({"name": "a", "description": None}, "must be text", id="no-description"),
    pytest.param({"name": "a", "models": [""]}, "models must be non-empty text", id="empty-model"),
    pytest.param({"name": "a", "models": ["x", 3]}, "models must be non-empty text", id="number-model"),
]


@pytest.mark.parametrize("name", LEGAL_NAMES)
def test_a_name_may_be_any_text_and_stays_as_it_is(name: str) -> None:
    """A name that is cleaned up on the way in is not the name that the application switches on."""
    assert RouteTable([Route(name)]).names == (name,)


@pytest.mark.parametrize(("fields", "message"), ILLEGAL_ROUTES)
def test_an_illegal_route_is_refused_when_it_is_made(fields: dict[str, object], message: str) -> None:
    """A bad route that is found at the first decision fails a request instead of a start."""
    with pytest.raises(RouteTableError, match=message):
        Route(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("models", "kept"), [("a/b", ("a/b",)), (["a/b", "c/d"], ("a/b", "c/d")), ((), ())])
def test_models_are_a_tuple_of_whole_names(models: object, kept: tuple[str, ...]) -> None:
    """One model given as text must not become a list of its letters."""
    assert Route("a", models=models).models == kept  # type: ignore[arg-type]


def test_the_order_of_a_table_is_kept() -> None:
    """The order is part of the prompt: sorting it would change what the model sees, and miss the cache."""
    names = ("z", "a", "m", "B")
    table = RouteTable(Route(name) for name in names)
    assert table.names == names
    assert [route.name for route in table] == list(names)
    assert len(table) == 4
    assert table["m"] is table.routes[2]


def test_membership_is_by_exact_name() -> None:
    """A lookup that folds case or white space finds a route that the model did not name."""
    table = RouteTable([Route("Code")])
    assert "Code" in table
    assert all(name not in table for name in ("code", "Code ", OTHER, 5, None))
    with pytest.raises(KeyError):
        table["code"]


@pytest.mark.parametrize(("count", "accepted"), [(0, False), (1, True), (MAX_ROUTES, True), (MAX_ROUTES + 1, False)])
def test_bounds_of_a_table(count: int, accepted: bool) -> None:
    """No routes leave nothing to answer; a table of any size would let one request fill the context."""
    routes = [Route(f"r{number}") for number in range(count)]
    if accepted:
        assert len(RouteTable(routes)) == count
    else:
        with pytest.raises(
            RouteTableError, match="no routes" if count == 0 else f"{count} routes are more than the {MAX_ROUTES}"
        ):
            RouteTable(routes)


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ("a", "a", "two routes are called 'a'; names must be distinct"),
        ("caf\u00e9", "cafe\u0301", "equal after Unicode normalisation"),
        ("\u212b", "\u00c5", "equal after Unicode normalisation"),
    ],
)
def test_names_that_a_prompt_cannot_tell_apart_are_refused(one: str, two: str, message: str) -> None:
    """Names equal after NFC are the same tokens to a model, so its answer could mean either route."""
    with pytest.raises(RouteTableError, match=message):
        RouteTable([Route(one), Route("between"), Route(two)])


def test_equal_tables_are_one_key() -> None:
    """Tables are what caches are keyed by: equal ones must hash alike, and their order must count."""
    one, two = (RouteTable([Route("a", "x", ("m",)), Route("b")]) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != RouteTable([Route("b"), Route("a", "x", ("m",))])
    assert one != RouteTable([Route("a", "y", ("m",)), Route("b")])
