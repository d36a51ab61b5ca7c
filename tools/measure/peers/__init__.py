"""Compare decisions with other ways to run the same model: ``python -m tools.measure.peers``."""

from __future__ import annotations

import os

INHERITED = dict(os.environ)
"""The environment before ``archroute_edge`` was imported, which sets a variable of OpenMP's: peers run as they do alone."""
