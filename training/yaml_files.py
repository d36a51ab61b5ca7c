"""YAML files, read by libyaml if PyYAML has it: the catalogue's take seconds that way, and a minute otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_Loader: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """The content of a file."""
    with path.open(encoding="utf-8") as file:
        return yaml.load(file, _Loader)
