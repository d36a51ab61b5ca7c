"""What the authors of Arch-Router advise about routes, checked as far as words alone can tell.

The advice: names that agree with their descriptions, descriptions that are specific and do not overlap, noun-centric
wording, and one broad route to fall back on. These are warnings about usable files, so they err towards silence.
"""

from __future__ import annotations

from collections.abc import Iterator

from archroute_edge.config._gateway_routers import is_router_name
from archroute_edge.config._route_wording import (
    agree,
    is_broad,
    leading_verb,
    speaks_to_the_model,
    stem,
    stems,
    telling_words,
    words,
)
from archroute_edge.config._schema import Advice, RoutingConfig
from archroute_edge.config._yaml_tree import shorten
from archroute_edge.routes import Route

MANY_ROUTES = 20
"""More routes than this are advised against."""

_DEFAULT_REMEDY = "mark one with 'default: true' or 'default_model'"
_OVERLAP = 0.6
_SHORTEST_OVERLAP = 3


def advice(config: RoutingConfig) -> list[Advice]:
    """What could be better about a configuration that can be used.

    Args:
        config: as read from a file, or made from a table alone.

    Returns:
        Advice in the order of lines, advice about the whole table last.
    """
    found = list(config.reading_notes)
    for route in config.table:
        line = config.route_lines.get(route.name)
        found.extend(Advice(message, route.name, line) for message in _about(route, config))
    found.extend(_about_overlaps(config))
    found.sort(key=lambda item: item.line or 0)
    return found + [Advice(message) for message in _about_table(config)]


def _about(route: Route, config: RoutingConfig) -> Iterator[str]:
    if not route.description.strip():
        yield "has no description; the model decides by it, so say what belongs here"
        return
    if not telling_words(route.description):
        yield "has a description that says nothing specific; name the subjects or kinds of request that belong here"
    elif len(words(route.description)) < 3:
        yield "has a very short description; name the subjects or kinds of request that belong here"
    elif not agree(route.name, route.description):
        yield "has a name that shares no word with its description; the model reads both, so let them agree"
    if verb := leading_verb(route.description):
        yield f"has a description that starts with the verb {verb!r}; nouns work better, such as 'writing of emails'"
    elif speaks_to_the_model(route.description):
        yield "has a description that gives instructions; name the subject instead, as in 'questions about invoices'"
    if verb := leading_verb(route.name):
        yield f"has a name that starts with the verb {verb!r}; nouns work better, such as 'email_writing'"
    if not route.models and any(other.models for other in config.table):
        yield "names no model, so the default model serves it" if config.default_model else "names no model"
    for model in filter(is_router_name, route.models):
        yield f"names {shorten(model)}, a model that was made for routing and answers no user"
    policy = config.selection.get(route.name, "none")
    if policy != "none" and len(route.models) > 1:
        yield f"prefers {policy!r}, which cannot be known offline; its models are tried in the order of the file"


def _about_overlaps(config: RoutingConfig) -> Iterator[Advice]:
    """One for each route that is described like an earlier one, however many of those there are."""
    described = [(route, stems(route.description)) for route in config.table]
    for index, (route, one) in enumerate(described):
        like = next((earlier for earlier, other in described[:index] if _overlap(one, other)), None)
        if like is not None:
            message = f"is described much like {shorten(like.name)}; say what sets the two apart"
            yield Advice(message, route.name, config.route_lines.get(route.name))


def _overlap(one: frozenset[str], other: frozenset[str]) -> bool:
    if min(len(one), len(other)) < _SHORTEST_OVERLAP:
        return bool(one) and one == other
    return len(one & other) / len(one | other) >= _OVERLAP


def _about_table(config: RoutingConfig) -> Iterator[str]:
    routes = config.table.routes
    if len(routes) > MANY_ROUTES:
        yield f"{len(routes)} routes are many; past {MANY_ROUTES} they tend to overlap, so merge the closest ones"
    if len(routes) > 1 and not any(is_broad(route.name) or is_broad(route.description) for route in routes):
        subjects = [{stem(word) for word in words(route.name)} for route in routes]
        if not any(one < other for one in subjects for other in subjects):
            yield "no route is broad enough to fall back on; add one for the whole field, such as 'general questions'"
    if config.default_model is None:
        remedy = "a route called 'default' gives one" if config.format == "chat-ui" else _DEFAULT_REMEDY
        yield f"no default model for conversations that fit no route; {remedy}"
