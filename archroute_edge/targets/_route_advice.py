"""What the authors of Arch-Router advise about routes: descriptions that tell them apart, names that agree, not too many.

Texts are compared by the vectors of the bundled encoder, so in any language that it reads. These are warnings about usable
files, so they err towards silence.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from archroute_edge.config import Advice, RoutingConfig, is_router_name, shorten
from archroute_edge.deciders import route_text
from archroute_edge.engine import EmbeddingEngine, LoadedModel, Vectors, inner_products
from archroute_edge.errors import ArchRouteError
from archroute_edge.models import BUNDLED_ENCODER, find_bundled
from archroute_edge.routes import Route, RouteTable
from archroute_edge.targets._groups import group_at
from archroute_edge.targets._model_facts import model_facts
from archroute_edge.targets._order_words import Place
from archroute_edge.targets._quality_advice import about_quality
from archroute_edge.targets._quality_policies import QualityPolicies

logger = logging.getLogger(__name__)

MANY_ROUTES: Final = 20
"""More routes than this are advised against."""
# Cosines. Of 307 sound routes in 35 tables no two descriptions were nearer than 0.80, of tables written to overlap none further
# apart than 0.89. No sound name was further from its description than 0.53, or 0.19 nearer to another one's; of names that say
# something else none was nearer than 0.39.
_OVERLAP: Final = 0.84
_UNRELATED: Final = 0.42
_NEARER: Final = 0.3
_N_TOKENS: Final = 256
_LEAST_WORDS: Final = 3
# In smaller windows four standard deviations are more than there can be, so only latencies that do not overlap count.
_CANARY_WINDOW: Final = 33
_WORD: Final = re.compile(r"[^\W_]+")
_DEFAULT_REMEDY: Final = "mark one with 'default: true' or 'default_model'"

Embed = Callable[[Sequence[str]], Vectors]


@contextmanager
def bundled_encoder() -> Iterator[Embed]:
    """What gives texts their vectors, (texts, width) of length 1.

    Raises:
        ModelError: the bundled encoder cannot be loaded.
    """
    model = LoadedModel(find_bundled(BUNDLED_ENCODER).path, wanted="encoder")
    # One thread: the texts are few and short, and on a machine that does other work threads wait for each other far longer.
    engine = EmbeddingEngine(model, 1, _N_TOKENS)
    try:
        yield lambda texts: engine.embed([engine.encode(text) for text in texts])
    finally:
        engine.close()
        model.close()


def advice(config: RoutingConfig, embed: Embed | None = None) -> list[Advice]:
    """What could be better about a configuration that can be used.

    Args:
        config: as read from a file, or made from a table alone.
        embed: gives the vectors of texts; the bundled encoder by default.

    Returns:
        Advice in the order of lines, advice about the whole table last.

    Raises:
        ConfigError: a predictor that it names cannot be used.
    """
    found = [*config.reading_notes, *about_quality(config, QualityPolicies(config))]
    first = _first_by_text(config.table)
    for route in config.table:
        line = config.route_lines.get(route.name)
        found.extend(Advice(message, route.name, line) for message in _about(route, config))
        if (like := first[route_text(route)]) is not route:
            message = f"reads like {shorten(like.name)} to an encoder, which cannot tell the two apart; say what does"
            found.append(Advice(message, route.name, line))
    try:
        if embed is not None:
            found.extend(_compared(config, embed))
        else:
            with bundled_encoder() as own:
                found.extend(_compared(config, own))
    except ArchRouteError as exc:
        logger.warning("the routes were not compared with each other: %s", exc)
    found.sort(key=lambda item: item.line or 0)
    return found + [Advice(message) for message in (*_about_canaries(config), *_about_table(config.table, config))]


def _about(route: Route, config: RoutingConfig) -> Iterator[str]:
    if not route.description.strip():
        yield "has no description; the model decides by it, so say what belongs here"
    elif _n_words(route.description) < _LEAST_WORDS:
        yield "has a very short description; name the subjects or kinds of request that belong here"
    if not route.models and any(other.models for other in config.table):
        yield "names no model, so the default model serves it" if config.default_model else "names no model"
    for model in filter(is_router_name, route.models):
        yield f"names {shorten(model)}, a model that was made for routing and answers no user"
    yield from _about_policy(route, config)


def _about_policy(route: Route, config: RoutingConfig) -> Iterator[str]:
    policy = config.selection.get(route.name, "none")
    models = group_at(config, Place("route", route.name))
    if policy in ("none", "quality") or models is None or len(models.models) < 2:
        return
    if policy == "cheapest":
        unknown = [shorten(model) for model in models.models if model_facts(config, model).price is None]
        remedy = "state prices in the section 'archroute'"
        if len(unknown) == len(models.models):
            yield f"prefers 'cheapest', but no model of it has a price, so they keep the order of the file; {remedy}"
        elif unknown:
            yield f"prefers 'cheapest', but these models have no price and stand last: {', '.join(unknown)}; {remedy}"
    elif policy == "fastest":
        yield "prefers 'fastest', which only a server that forwards can know; elsewhere its models keep the order of the file"
    else:
        yield f"prefers {policy!r}, which has no effect here; its models are tried in the order of the file"


def _first_by_text(table: RouteTable) -> dict[str, Route]:
    """The first route of each text that an encoder reads."""
    first: dict[str, Route] = {}
    for route in table:
        first.setdefault(route_text(route), route)
    return first


def _n_words(text: str) -> int:
    # Chinese and Japanese have no blanks between words.
    n_wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(_WORD.findall(text)) + n_wide // 2


def _compared(config: RoutingConfig, embed: Embed) -> Iterator[Advice]:
    """One for each route that is described like an earlier one, however many of those there are, or called like another."""
    routes = [route for route in _first_by_text(config.table).values() if route.description.strip()]
    if not routes:
        return
    called = [" ".join(_WORD.findall(route.name)) or route.name for route in routes]
    vectors = embed([*(route.description for route in routes), *called])
    descriptions, names = vectors[: len(routes)], vectors[len(routes) :]
    alike, fits = inner_products(descriptions, descriptions), inner_products(names, descriptions)
    for number, route in enumerate(routes):
        message = ""
        if (alike[number, :number] >= _OVERLAP).any():
            like = routes[int((alike[number, :number] >= _OVERLAP).argmax())]
            message = f"is described much like {shorten(like.name)}; say what sets the two apart"
        elif _differs(route, float(fits[number, number]), float(fits[number].max())):
            message = "has a name that says something else than its description; the model reads both, so let them agree"
        if message:
            yield Advice(message, route.name, config.route_lines.get(route.name))


def _differs(route: Route, own: float, nearest: float) -> bool:
    # A name in one script and a description in another are not compared: the encoder reads some scripts poorly.
    return route.name.isascii() == route.description.isascii() and (own < _UNRELATED or nearest - own > _NEARER)


def _about_canaries(config: RoutingConfig) -> Iterator[str]:
    for kind, rules in (("route", config.forward.routes), ("alias", config.forward.aliases)):
        for name, rule in rules.items():
            if rule.canary is not None and rule.canary.window < _CANARY_WINDOW:
                yield (
                    f"the canary of the {kind} {shorten(name)} is compared by {rule.canary.window} requests, which hardly show "
                    f"a difference in latency; {_CANARY_WINDOW} may, 100 do"
                )


def _about_table(table: RouteTable, config: RoutingConfig) -> Iterator[str]:
    if len(table) > MANY_ROUTES:
        yield f"{len(table)} routes are many; past {MANY_ROUTES} they tend to overlap, so merge the closest ones"
    if config.default_model is None:
        remedy = "a route called 'default' gives one" if config.format == "chat-ui" else _DEFAULT_REMEDY
        yield f"no default model for conversations that fit no route; {remedy}"
