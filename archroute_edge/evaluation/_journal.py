"""What a long run has finished, kept on disk part by part, so that an interrupted run goes on where it was.

One file a run, JSON lines: the first says what is run, each other one is a finished part. The file is named after
everything that decides the results (the arguments, the identity of models and cases), so parts of one run are never
taken for those of another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from archroute_edge.errors import SettingsError
from archroute_edge.system import ProcessLock, overriding_folder, own_folder

logger = logging.getLogger(__name__)


def runs_folder() -> Path:
    """Where unfinished runs are kept: ``runs`` in ``$ARCHROUTE_CACHE_DIR``, or in the user's cache folder."""
    override = os.environ.get("ARCHROUTE_CACHE_DIR")
    return (overriding_folder(override) if override else own_folder("cache")) / "runs"


class Journal:
    """The finished parts of one run, by name; a context manager that closes its file.

    A file that cannot be written costs a warning, and the run what ``resume`` would take over from it.

    Args:
        run: everything that decides the results, as JSON values.
        resume: take over what an earlier run of the same finished; otherwise begin anew.
        folder: where to keep it.

    Raises:
        SettingsError: another process is at the same run, and would lose what it keeps.
    """

    def __init__(self, run: Mapping[str, Any], *, resume: bool, folder: Path | None = None) -> None:
        described = json.dumps(run, sort_keys=True, default=str)
        self.path = (folder or runs_folder()) / f"{hashlib.sha256(described.encode()).hexdigest()[:24]}.jsonl"
        self.parts: dict[str, Any] = {}
        self._lock = ProcessLock(self.path.with_suffix(".lock"))
        self._file: TextIO | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._lock.take():
                raise SettingsError(
                    f"the same run is at work in another process, which holds {self._lock.path}; wait for it, or end it and "
                    "use --resume"
                )
            if resume:
                self.parts = self._read(described)
            # Written anew also on resuming: a line that an interruption cut short goes.
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = os.fdopen(handle, "w", encoding="utf-8")
        except OSError as exc:
            self._give_up(exc)
        self._write(json.loads(described))
        for name, value in self.parts.items():
            self._write({"part": name, "value": value})

    def __contains__(self, part: str) -> bool:
        """Whether a part is finished."""
        return part in self.parts

    def __getitem__(self, part: str) -> Any:
        """What a finished part gave."""
        return self.parts[part]

    def finish(self, part: str, value: Any) -> None:
        """Keep what ``part`` gave, as JSON values."""
        self.parts[part] = value
        self._write({"part": part, "value": value})

    def remove(self) -> None:
        """Forget the run: it has been reported whole."""
        self._close_file()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._close()

    def _write(self, line: Any) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as exc:
            self._give_up(exc)

    def _give_up(self, reason: OSError) -> None:
        """Say once that nothing more is kept."""
        logger.warning(
            "%s: the run goes on, but is not kept for --resume (%s); set ARCHROUTE_CACHE_DIR to another folder",
            self.path,
            reason.strerror or reason,
        )
        self._close()

    def _close(self) -> None:
        self._close_file()
        self._lock.release(remove=True)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # What could not be written would fail again.
            with contextlib.suppress(OSError):
                file.close()

    def _read(self, described: str) -> dict[str, Any]:
        parts: dict[str, Any] = {}
        try:
            first, *lines = self.path.read_text(encoding="utf-8").splitlines()
            if json.loads(first) == json.loads(described):
                for line in lines:
                    entry = json.loads(line)
                    parts[entry["part"]] = entry["value"]
        except (OSError, ValueError, KeyError, TypeError):
            # No earlier run, or its last line was cut short: what was read before that stands.
            return parts
        return parts

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
