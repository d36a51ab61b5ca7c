"""Folders: the one of the files that come with the package, and the user's own for what can be made again."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Literal

import platformdirs

from archroute_edge.errors import SavedPrefixError

_APP: Final = "archroute-edge"
# In the place of folders in a home that is not known: nobody can make a folder there.
_NOWHERE: Final = Path(os.devnull)


def bundled_folder() -> Path:
    """The folder of the catalogue and the bundled models: inside an installed package, or ``models/`` in a clone."""
    package = Path(__file__).parents[1]
    installed = package / "bundled"
    return installed if installed.is_dir() else package.parent / "models"


def cache_folder() -> Path:
    """The folder of saved prefixes and of the kernels' trial: ``$ARCHROUTE_CACHE_DIR``, or in the user's cache folder."""
    override = os.environ.get("ARCHROUTE_CACHE_DIR")
    return overriding_folder(override) if override else own_folder("cache") / "prefixes"


def overriding_folder(name: str) -> Path:
    """The folder that a variable of ours names."""
    folder = expanded(name)
    # Else a folder called ~ would be made in the current one.
    return _NOWHERE / folder if str(folder).startswith("~") else folder


def own_folder(kind: Literal["cache", "config", "data"]) -> Path:
    """The user's own folder of a kind. A user without a home has one that is not there."""
    find = {
        "cache": platformdirs.user_cache_dir,
        "config": platformdirs.user_config_dir,
        "data": platformdirs.user_data_dir,
    }[kind]
    try:
        found = Path(find(_APP))
    except RuntimeError:
        found = Path()
    # Earlier versions of platformdirs leave the ~ of a home that is not known.
    return found if found.is_absolute() else _NOWHERE / "no-home" / _APP


def expanded(path: str | os.PathLike[str]) -> Path:
    """``path`` with its ``~`` replaced, if that home is known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file_here(path: Path) -> bool:
    """Whether ``path`` is a file; one in a folder that may not be searched is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder_here(path: Path) -> bool:
    """Whether ``path`` is a folder; one in a folder that may not be searched is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def check_private(folder: Path) -> None:
    """Refuse what is no folder, or one in which other users could put files for us to trust.

    Raises:
        FileNotFoundError: there is nothing.
        SavedPrefixError: it is a file, or others can write there.
    """
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise SavedPrefixError(f"{folder}: is a file; delete it, or set ARCHROUTE_CACHE_DIR to another folder")
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise SavedPrefixError(f"{folder}: other users can write there; make it yours alone (chmod 700) or delete it")
