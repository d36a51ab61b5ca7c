"""Exports of a room that are imported when they are first used.

A command that needs one light function of a room must not wait for the imports of the others: llama.cpp's binding and NumPy
take longer to load than most commands take to run.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """``__getattr__`` (PEP 562) and ``__all__`` of a package.

    Args:
        package: the package's ``__name__``.
        modules: of each module inside the package, the names that it exports, separated by spaces.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        # Found without this function from now on.
        setattr(sys.modules[package], name, value)
        return value

    return get, sorted(homes)
