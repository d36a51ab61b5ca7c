"""What the libraries that evaluate language models are called; nothing is loaded for it."""

from __future__ import annotations

from typing import Final, Literal

EngineName = Literal["llama.cpp", "ik"]
"""The libraries: llama.cpp, and its fork ik_llama.cpp."""

WantedEngine = Literal["auto", "llama.cpp", "ik"]

ENGINES: Final[tuple[WantedEngine, ...]] = ("auto", "llama.cpp", "ik")
"""What can be asked for. ``auto`` takes ik_llama.cpp where it is sound and faster."""
