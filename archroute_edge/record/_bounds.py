"""How much is kept."""

from __future__ import annotations

from typing import Final

DEFAULT_MAX_BYTES: Final = 1000 * 1000 * 1000
"""Some two million requests without texts."""
LEAST_MAX_BYTES: Final = 1000 * 1000
MOST_WAITING: Final = 10_000
"""Entries that wait to be written; further ones are lost while so many do."""
MOST_CHARACTERS: Final = 4 << 20
"""Of the texts of one request; longer ones are not kept."""
MOST_WAITING_CHARACTERS: Final = 64 << 20
