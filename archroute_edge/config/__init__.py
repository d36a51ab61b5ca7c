"""Route configurations: our own format, and those of archgw, Plano and chat-ui, as YAML or JSON.

:func:`load_config` reads a file, :func:`parse_config` a text; an error is a :class:`~archroute_edge.errors.ConfigError` with
file and line. :func:`advice` warns about routes that the router model's authors advise against.

Used by: ``prompts``, ``models``, ``deciders``, ``targets``, ``routing``, ``server`` and ``cli``. Other rooms import only the
names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.config._document import Document, Field
    from archroute_edge.config._json_requests import parse_json, read_routes
    from archroute_edge.config._known_keys import Level
    from archroute_edge.config._load import load_config, parse_config
    from archroute_edge.config._route_advice import advice
    from archroute_edge.config._schema import (
        Advice,
        ConfigFormat,
        IgnoredKey,
        ModelDefinition,
        RoutingConfig,
        SelectionPolicy,
        WeightedModel,
    )
    from archroute_edge.config._source_text import MAX_BYTES, read_text
    from archroute_edge.config._yaml_tree import Entries, Items, Scalar, Value, parse_tree, shorten
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_document": "Document Field",
            "_json_requests": "parse_json read_routes",
            "_known_keys": "Level",
            "_load": "load_config parse_config",
            "_route_advice": "advice",
            "_schema": "Advice ConfigFormat IgnoredKey ModelDefinition RoutingConfig SelectionPolicy WeightedModel",
            "_source_text": "MAX_BYTES read_text",
            "_yaml_tree": "Entries Items Scalar Value parse_tree shorten",
        },
    )
