"""What PyInstaller needs to know to bundle an application with this package; it finds this through an entry point."""

from __future__ import annotations

from pathlib import Path


def hook_folders() -> list[str]:
    """The folders with hooks, as PyInstaller's entry point ``hook-dirs`` asks for them."""
    return [str(Path(__file__).parent)]
