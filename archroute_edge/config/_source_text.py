"""The text of a configuration file: read within bounds, and JSON made readable as YAML."""

from __future__ import annotations

import json
from pathlib import Path

from archroute_edge.errors import ConfigError

MAX_BYTES = 1 << 20
"""Largest file that is read, in bytes; 256 routes with long descriptions take a fifth of it."""

MAX_DEPTH = 64
"""Deepest nesting of lists and mappings."""


def read_text(path: Path) -> str:
    """Read a file that holds a configuration.

    Raises:
        ConfigError: missing, a folder, unreadable, too large, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("no such file", path=path) from None
    except IsADirectoryError:
        raise ConfigError("this is a folder, not a configuration file", path=path) from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot be read: {getattr(exc, 'strerror', None) or exc}", path=path) from exc
    if len(data) > MAX_BYTES:
        raise ConfigError(f"larger than the {MAX_BYTES:,} bytes that a configuration may have", path=path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError("not UTF-8 text; save the file as UTF-8", path=path, line=line) from exc


def json_as_yaml(text: str, path: Path | None) -> str:
    """JSON made palatable to a YAML 1.1 parser; other text unchanged.

    Raises:
        ConfigError: a ``.json`` file that is not JSON, or JSON nested too deep.
    """
    is_json_file = path is not None and path.suffix.lower() == ".json"
    if not (is_json_file or text.lstrip().startswith(("{", "["))):
        return text
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", path=path) from None
    except json.JSONDecodeError as exc:
        if is_json_file and text.strip():
            raise ConfigError(f"malformed JSON: {exc.msg}", path=path, line=exc.lineno) from exc
        return text
    # Valid JSON has tabs between its tokens only, where PyYAML takes none.
    return text.replace("\t", " ")
