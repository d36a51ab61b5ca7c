"""A routing configuration, from a file or a text."""

from __future__ import annotations

import os
from pathlib import Path

from archroute_edge.config._document import Document
from archroute_edge.config._reader import read_config
from archroute_edge.config._schema import RoutingConfig
from archroute_edge.config._source_text import read_text


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
