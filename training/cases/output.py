"""Write a file of cases."""

from __future__ import annotations

from pathlib import Path

from archroute_edge.errors import CaseError
from archroute_edge.system import replaced_when_whole


def write_whole(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises:
        CaseError: it cannot be written.
    """
    try:
        with replaced_when_whole(path) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
    except OSError as exc:
        raise CaseError(f"{path}: cannot be written ({exc.strerror or exc})") from exc
