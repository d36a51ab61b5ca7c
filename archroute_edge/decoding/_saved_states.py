"""States on disk, so that the next process starts warm: the keys and values of static prefixes, and vectors of routes.

Only what routes alone determine is ever written: never a conversation. A file is named after everything that makes its state
valid; it carries its own SHA-256, which is checked before llama.cpp reads a byte of it.

Layout: magic, length of the header (4 bytes, little endian), header (JSON: name of the file, tokens, sha256 of the
state), state.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archroute_edge.errors import SavedPrefixError
from archroute_edge.system import check_private

logger = logging.getLogger(__name__)

MAX_TOTAL_BYTES = 512 << 20
"""All states of a folder together; the longest unused go first."""

_MAGIC = b"ARPREFX1"
_SUFFIX = ".prefix"
_PARTIAL = _SUFFIX + ".partial"
_ABANDONED_AFTER_S = 3600
_LARGEST_HEADER = 16 << 20
# About a prefix of the bundled language model.
_TRIAL_BYTES = 1 << 20


@dataclass(frozen=True)
class SavedState:
    """A file in the folder: its size in bytes, and what is wrong with it, if anything."""

    path: Path
    n_bytes: int
    problem: str | None


class SavedStates:
    """The states of one engine in one folder.

    Nothing here stops a decision: what cannot be read, written or trusted is logged as one warning and done without.

    Args:
        folder: made private to the user (mode 0700) if it does not exist.
        engine_key: everything but the tokens that decides whether a state is valid.
        max_total_bytes: bound on the folder's size.
    """

    def __init__(self, folder: Path, engine_key: Mapping[str, object], *, max_total_bytes: int = MAX_TOTAL_BYTES) -> None:
        self.folder = folder
        self._engine_key = json.dumps(engine_key, sort_keys=True)
        self._max_total_bytes = max_total_bytes
        self._given_up = False

    def _path(self, tokens: Sequence[int]) -> Path:
        key = f"{self._engine_key}\n{list(tokens)}"
        return self.folder / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)

    def load(self, tokens: Sequence[int]) -> bytes | None:
        """The state saved for ``tokens``, or None if there is none that can be trusted."""
        if not self._is_usable():
            return None
        path = self._path(tokens)
        try:
            state = read_saved_state(path, tokens)
        except FileNotFoundError:
            return None
        except (SavedPrefixError, OSError) as exc:
            logger.warning("%s; it is evaluated and saved again", exc)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # marks it as used, for the order of removal
        return state

    def store(self, tokens: Sequence[int], state: bytes) -> None:
        """Save ``state`` for ``tokens``: whole or not at all, readable by the user alone."""
        if not self._is_usable(make=True):
            return
        try:
            path = self._path(tokens)
            fields = {"name": path.name, "tokens": list(tokens), "sha256": hashlib.sha256(state).hexdigest()}
            header = json.dumps(fields).encode()
            # mkstemp makes the file with mode 0600.
            handle, name = tempfile.mkstemp(prefix=".", suffix=_PARTIAL, dir=self.folder)
            partial = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_MAGIC + len(header).to_bytes(4, "little") + header)
                    file.write(state)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            self._clean_up()
        except OSError as exc:
            logger.warning("a prefix could not be saved in %s: %s", self.folder, exc)

    def _is_usable(self, *, make: bool = False) -> bool:
        """Whether the folder is there and private; if it is not private, one warning says so."""
        if self._given_up:
            return False
        try:
            if make:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_private(self.folder)
        except (SavedPrefixError, OSError) as exc:
            if make or not isinstance(exc, FileNotFoundError):
                self._given_up = True
                logger.warning("%s; no prefix is saved there, and none is read", exc)
            return False
        return True

    def _clean_up(self) -> None:
        """Delete the longest unused beyond the bound, and what processes that were killed while saving left behind."""
        files = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_total_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        for path in self.folder.glob(f".*{_PARTIAL}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                    path.unlink()


def read_saved_state(path: Path, tokens: Sequence[int] | None = None) -> bytes:
    """The state in the file at ``path``, after every check that can be made without llama.cpp.

    Raises:
        FileNotFoundError: there is no such file.
        SavedPrefixError: the file is damaged, or was saved for other tokens.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise SavedPrefixError(f"{path}: not a saved prefix")
        n_header = int.from_bytes(file.read(4), "little")
        if n_header > _LARGEST_HEADER:
            raise SavedPrefixError(f"{path}: the saved prefix is damaged (its header cannot be that long)")
        header, state = file.read(n_header), file.read()
    try:
        fields = json.loads(header)
        name, saved_tokens, digest = fields["name"], fields["tokens"], fields["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SavedPrefixError(f"{path}: the saved prefix is damaged (its header cannot be read)") from None
    if hashlib.sha256(state).hexdigest() != digest:
        raise SavedPrefixError(f"{path}: the saved prefix is damaged (its checksum does not match)")
    # The name stands for the model, the build and the settings: under another one the state is not valid.
    if name != path.name:
        raise SavedPrefixError(f"{path}: the saved prefix was renamed; it belongs to another model or setting")
    if tokens is not None and saved_tokens != list(tokens):
        raise SavedPrefixError(f"{path}: the saved prefix is of other tokens")
    return state


def inspect_folder(folder: Path) -> list[SavedState]:
    """Every state in ``folder``, damaged ones with what is wrong with them."""
    found = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        problem = None
        try:
            read_saved_state(path)
        except (SavedPrefixError, OSError) as exc:
            problem = str(exc)
        found.append(SavedState(path, path.lstat().st_size, problem))
    return found


def folder_problem(folder: Path) -> str | None:
    """Why prefixes cannot be kept in ``folder``, or None if they can be, even if it has yet to be made."""
    try:
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        if existing == folder:
            check_private(folder)
    except (SavedPrefixError, OSError) as exc:
        return str(exc)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return f"{folder}: prefixes cannot be saved there; make it writable, or set ARCHROUTE_CACHE_DIR to another folder"
    try:
        # A disk may be full, or a folder not to be written though its permissions say so.
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(_TRIAL_BYTES))
    except OSError as exc:
        why = exc.strerror or exc
        return f"{folder}: prefixes cannot be saved there ({why}); make room, or set ARCHROUTE_CACHE_DIR to another folder"
    return None
