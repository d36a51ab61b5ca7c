"""The predictor that commands of ``archroute quality`` are given: a file, or the bundled one by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BUNDLED: Final = "bundled"


def predictor_file(named: str) -> Path:
    """The file of the predictor called ``named``; a file of that name goes before the bundled one."""
    from archroute_edge.system import bundled_folder
    from archroute_edge.targets import BUNDLED_PREDICTOR

    path = Path(named)
    return bundled_folder() / BUNDLED_PREDICTOR if named == BUNDLED and not path.exists() else path
