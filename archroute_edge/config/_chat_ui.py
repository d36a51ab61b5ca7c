"""The routes of huggingface/chat-ui: a list of objects, each with a ``primary_model`` and perhaps ``fallback_models``."""

from __future__ import annotations

from archroute_edge.config._document import Document
from archroute_edge.config._known_keys import CHAT_UI_ROUTE
from archroute_edge.config._model_names import ModelNames
from archroute_edge.config._route_drafts import RouteDraft, add_route, draft_route, make_table, route_key
from archroute_edge.config._schema import RoutingConfig
from archroute_edge.config._yaml_tree import Entries, Value, shorten

_REQUIRED = ("name", "description", "primary_model")
_DEFAULT_ROUTE = "default"
"""The route whose models chat-ui asks when its router names none of the routes."""


def is_chat_ui(root: Value) -> bool:
    """Whether a list holds routes of chat-ui; told by the one key that only they have."""
    return any(
        isinstance(item, Entries) and any(key.text == "primary_model" for key in item.keys)
        for item in getattr(root, "values", ())
    )


def read_chat_ui(document: Document) -> RoutingConfig:
    """Read a list of routes.

    Raises:
        ConfigError: a route without one of the three keys that it needs, a wrong type, or two of one name.
    """
    names = ModelNames(document, ())
    drafts: dict[str, RouteDraft] = {}
    for value in document.items(document.root, "the routes of chat-ui"):
        fields = document.fields(value, CHAT_UI_ROUTE)
        missing = [key for key in _REQUIRED if key not in fields]
        if missing:
            raise document.error(f"a route of chat-ui without {missing[0]!r}", value.line)
        draft = draft_route(document, fields, value)
        add_route(document, drafts, draft)
        what = f"route {shorten(draft.name)}"
        models = [names.resolve(fields["primary_model"].value, f"{what}: primary_model")]
        if "fallback_models" in fields:
            fallbacks = document.items(fields["fallback_models"].value, f"{what}: fallback_models")
            models += [names.resolve(model, f"{what}: a fallback model") for model in fallbacks]
        draft.models = list(dict.fromkeys(models))
    fallback = drafts.get(route_key(_DEFAULT_ROUTE))
    return RoutingConfig(
        table=make_table(document, drafts, document.root.line),
        default_model=fallback.models[0] if fallback else None,
        source=document.path,
        route_lines={draft.name: draft.line for draft in drafts.values()},
        reading_notes=tuple(document.notes),
        ignored_keys=document.ignored_keys(),
        format="chat-ui",
    )
