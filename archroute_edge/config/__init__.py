"""Route configurations: our own format, and those of archgw, Plano and chat-ui, as YAML or JSON.

:func:`load_config` reads a file, :func:`parse_config` a text; an error is a :class:`~archroute_edge.errors.ConfigError` with
file and line. What programs send as JSON is read by the same reader (:class:`Node`, :class:`Keys`).

Used by: ``prompts``, ``models``, ``deciders``, ``targets``, ``routing``, ``label``, ``evaluation``, ``gateway``, ``server`` and
its rooms, and ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.config._forward_schema import (
        Canary,
        ForwardSettings,
        KeyRule,
        ModelFacts,
        Price,
        Ramp,
        Shadow,
        TrafficRule,
        Upstream,
    )
    from archroute_edge.config._json import parse_json
    from archroute_edge.config._models import is_router_name
    from archroute_edge.config._node import Keys, Node, Place, Source, shorten
    from archroute_edge.config._reader import load_config, parse_config, read_routes
    from archroute_edge.config._schema import (
        Advice,
        ConfigFormat,
        IgnoredKey,
        ModelDefinition,
        QualityPolicy,
        RoutingConfig,
        SelectionPolicy,
        WeightedModel,
    )
    from archroute_edge.config._tree import MAX_BYTES, parse_tree, read_text
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_forward_schema": "Canary ForwardSettings KeyRule ModelFacts Price Ramp Shadow TrafficRule Upstream",
            "_models": "is_router_name",
            "_node": "Keys Node Place Source shorten",
            "_json": "parse_json",
            "_reader": "load_config parse_config read_routes",
            "_schema": (
                "Advice ConfigFormat IgnoredKey ModelDefinition QualityPolicy RoutingConfig SelectionPolicy WeightedModel"
            ),
            "_tree": "MAX_BYTES parse_tree read_text",
        },
    )
