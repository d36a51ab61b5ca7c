"""The quantization levels: what they are called, what they need, and when to take which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from archroute_edge.errors import QuantizationError


@dataclass(frozen=True)
class Level:
    """A quantization level.

    Attributes:
        name: as llama.cpp's own tools call it.
        ftype: llama.cpp's ``llama_ftype``.
        bits_per_weight: over all tensors of a file at the shape of Arch-Router-1.5B, as llama.cpp reckons it.
        needs_imatrix: llama.cpp refuses the level without an importance matrix.
        file_name: how Arch-Router's authors name the file, with ``{model}`` for the model's name.
        advice: when to take it.
    """

    name: str
    ftype: int
    bits_per_weight: float
    needs_imatrix: bool
    advice: str
    file_name: str = ""

    def file_for(self, model: str) -> str:
        """The file's name for a model called ``model``."""
        return (self.file_name or "{model}-{level}.gguf").format(model=model, level=self.name)


_TABLE: Final = (
    Level("Q2_K", 10, 3.47, False, "the smallest that works without an importance matrix; loses much"),
    Level("Q3_K_S", 11, 3.91, False, "small; loses noticeably"),
    Level("Q3_K_M", 12, 4.24, False, "small; loses some"),
    Level("Q3_K_L", 13, 4.53, False, "better than Q3_K_M for a little more memory"),
    Level("Q4_0", 2, 4.81, False, "four bits, repacked for the CPU when loaded; often the fastest of its size"),
    Level("Q4_K_S", 14, 4.84, False, "four bits, smaller than Q4_K_M and nearly as good"),
    Level("Q4_K_M", 15, 5.08, False, "the usual choice: little loss at a third of the size"),
    Level("Q5_K_S", 16, 5.66, False, "five bits, close to the original"),
    Level("Q5_K_M", 17, 5.8, False, "five bits, very close to the original"),
    Level("Q6_K", 18, 6.56, False, "hardly told from the original"),
    Level("Q8_0", 7, 8.5, False, "as good as the original at half the size; for small models"),
    Level("IQ2_M", 29, 3.08, True, "for very little memory only; loses much"),
    Level("IQ3_XXS", 23, 3.56, True, "three bits and smaller than Q3_K_S; slow on CPUs"),
    Level("IQ3_M", 27, 3.99, False, "better than Q3_K_M at its size; slow on CPUs"),
    Level("IQ4_XS", 30, 4.64, False, "smaller than Q4_K_S at its quality; slower on CPUs"),
    Level("IQ4_NL", 25, 4.85, False, "IQ4_XS in blocks of 32, for rows that are no multiple of 256"),
    Level("F16", 1, 16.0, False, "not quantized; the reference for the others", "{model}.gguf"),
    Level("BF16", 32, 16.0, False, "not quantized; for CPUs with BF16 instructions, where it can be the fastest of all"),
)
LEVELS: Final[dict[str, Level]] = {level.name: level for level in _TABLE}
"""Every level this project offers, by name, each family from small to large."""


def level_named(name: str) -> Level:
    """Look a level up, in any case.

    Raises:
        QuantizationError: there is none of that name; the message lists them.
    """
    level = LEVELS.get(name.upper())
    if level is None:
        raise QuantizationError(f"no quantization level {name!r}; there are {', '.join(LEVELS)}")
    return level
