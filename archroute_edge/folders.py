"""Folders: the one of the files that come with the package, and the user's own for what can be made again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs

from archroute_edge.errors import SavedPrefixError


def bundled_folder() -> Path:
    """The folder of the catalogue and the bundled models: inside an installed package, or ``models/`` in a clone."""
    installed = Path(__file__).parent / "bundled"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "models"


def cache_folder() -> Path:
    """The folder of saved prefixes and of the kernels' trial: ``$ARCHROUTE_CACHE_DIR``, or in the user's cache folder."""
    override = os.environ.get("ARCHROUTE_CACHE_DIR")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("archroute-edge")) / "prefixes"


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
