"""Arguments of wrong types, refused by name where a program hands them over: deep inside they would be a TypeError."""

from __future__ import annotations

import operator
import os
import reprlib
from collections.abc import Collection, KeysView, Mapping, Sequence, Set
from pathlib import Path
from typing import Any
from uuid import UUID

from archroute_edge.config import RoutingConfig
from archroute_edge.deciders import Calibration
from archroute_edge.engine import Cancellation
from archroute_edge.errors import SettingsError
from archroute_edge.models import ModelFile
from archroute_edge.routes import RouteTable
from archroute_edge.system import cache_folder, expanded

_PATH = (str, os.PathLike)


def check_type(name: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """Refuse what is of none of these types.

    Raises:
        SettingsError: it is not.
    """
    if not isinstance(value, kinds):
        raise SettingsError(f"{name} is {reprlib.repr(value)}; it must be {expected}")


def read_sources(
    routes: object,
    config: object,
    model: object,
    prefix_cache: bool | str | os.PathLike[str],
    calibration: Calibration | str | os.PathLike[str] | None,
) -> tuple[Path | None, Calibration | None]:
    """The folder of saved prefixes, if they are saved, and the calibration, if there is one.

    Raises:
        SettingsError: one of the arguments is of another type, or there are both routes and a config, or neither.
        CalibrationError: the calibration cannot be read.
    """
    if (routes is None) == (config is None):
        raise SettingsError("give the router either routes or a config")
    if config is not None:
        check_config(config)
    check_type("model", model, (str, Path, ModelFile), "a name or the path of a file")
    check_type("prefix_cache", prefix_cache, (bool, *_PATH), "True, False or a folder")
    check_type("calibration", calibration, (Calibration, *_PATH, type(None)), "a Calibration or the path of its file")
    folder = None if prefix_cache is False else cache_folder() if prefix_cache is True else expanded(prefix_cache)
    read = calibration if calibration is None or isinstance(calibration, Calibration) else Calibration.load(calibration)
    return folder, read


def check_config(config: object) -> None:
    """Refuse what is no configuration.

    Raises:
        SettingsError: it is none.
    """
    check_type("config", config, RoutingConfig, "what load_config returns; Router.from_config takes a file")


def check_asking(caller: object, cancellation: object = None) -> None:
    """Refuse who cannot ask, and what cannot stop it.

    Raises:
        SettingsError: the caller cannot be told from others, or it is no flag.
    """
    try:
        hash(caller)
    except TypeError:
        raise SettingsError(f"caller is {reprlib.repr(caller)}; it must be a text") from None
    if cancellation is not None:
        check_type("cancellation", cancellation, Cancellation, "a Cancellation")


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """The whole number that ``value`` is: an int, or one of another library, such as NumPy's. A flag is none.

    Raises:
        SettingsError: it is none, or beyond the limits.
    """
    number = _index(value)
    if number is None or number < least or (most is not None and number > most):
        limits = f", at least {least}" if most is None else f" from {least} to {most}"
        raise SettingsError(f"{name} is {reprlib.repr(value)}; it must be a whole number{limits}")
    return number


def _index(value: Any) -> int | None:
    """A whole number as an int; None if it is none."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def read_keys(keys: Any, n_conversations: int) -> Sequence[str | None]:
    """A key for each conversation, as :func:`read_key` reads it; None if there are none.

    Raises:
        SettingsError: there are more or fewer, or one cannot name a conversation.
    """
    if keys is None:
        return [None] * n_conversations
    if not is_list(keys):
        raise SettingsError(f"keys is {reprlib.repr(keys)}; it must be a list with a key or None for each conversation")
    if len(keys) != n_conversations:
        raise SettingsError(f"there are {len(keys)} keys for {n_conversations} conversations; give one for each")
    return [read_key(key) for key in keys]


def read_key(key: object) -> str | None:
    """The text that names a conversation: a whole number or a UUID, as databases number rows, counts as its digits.

    Raises:
        SettingsError: it is of another type.
    """
    if key is None or isinstance(key, str):
        return key
    if isinstance(key, UUID):
        return str(key)
    number = _index(key)
    if number is None:
        raise SettingsError(f"key is {reprlib.repr(key)}; it must be a text, a whole number or a UUID")
    return str(number)


def check_tables(tables: Any) -> None:
    """Refuse what cannot be held against a conversation.

    Raises:
        SettingsError: there are no tables, or others than such.
    """
    if not is_list(tables) or not all(isinstance(each, RouteTable) for each in tables):
        raise SettingsError(f"tables is {reprlib.repr(tables)}; it must be a list of RouteTable objects")
    if not tables:
        raise SettingsError("there are no tables; give at least one")


def is_list(value: object) -> bool:
    """Whether its items have places: not those of a text, of a set or of a dictionary."""
    if isinstance(value, (str, bytes, bytearray, Mapping)) or (isinstance(value, Set) and not isinstance(value, KeysView)):
        return False
    # A data set of another library may have no more than these two.
    return isinstance(value, Collection) or all(hasattr(type(value), name) for name in ("__len__", "__getitem__"))
