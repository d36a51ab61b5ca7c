"""Reading route configurations: our own, those of archgw, Plano and chat-ui, as YAML or JSON.

:func:`load_config` reads a file, :func:`parse_config` a text, :func:`advice` says what the model's authors would
advise against. Everything that cannot be used is a :class:`~archroute_edge.errors.ConfigError` with file and line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archroute_edge.config.document import Document
from archroute_edge.config.reader import read_config
from archroute_edge.config.schema import (
    Advice,
    ConfigFormat,
    IgnoredKey,
    ModelDefinition,
    RoutingConfig,
    SelectionPolicy,
    WeightedModel,
)
from archroute_edge.config.source_text import MAX_BYTES, read_text

if TYPE_CHECKING:
    from archroute_edge.config.route_advice import advice

__all__ = [
    "MAX_BYTES",
    "Advice",
    "ConfigFormat",
    "IgnoredKey",
    "ModelDefinition",
    "RoutingConfig",
    "SelectionPolicy",
    "WeightedModel",
    "advice",
    "load_config",
    "parse_config",
]


def __getattr__(name: str) -> Any:
    # Its patterns and lists of words take as long to import as reading a configuration does, and deciding asks for none.
    if name == "advice":
        from archroute_edge.config.route_advice import advice

        return advice
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_config(path: str | os.PathLike[str]) -> RoutingConfig:
    """Read a configuration file.

    Args:
        path: a YAML or JSON file in UTF-8, :data:`MAX_BYTES` bytes at most.

    Raises:
        ConfigError: the file cannot be read, or holds no usable routes; names the file and, where there is one, the
            line.
    """
    path = Path(path)
    return parse_config(read_text(path), path=path)


def parse_config(text: str, *, path: str | os.PathLike[str] | None = None) -> RoutingConfig:
    """Read a configuration from text.

    Args:
        text: YAML or JSON.
        path: the file that it came from, for messages and :attr:`RoutingConfig.source`.

    Raises:
        ConfigError: the text is malformed, or holds no usable routes.
    """
    return read_config(Document.parse(text, path=Path(path) if path is not None else None))
