"""Convert between f32, f16 and bf16, in pieces, refusing values that would not survive.

Rounding is to nearest, ties to even, as in ``ggml_compute_fp32_to_bf16`` and in IEEE 754's own conversion to half.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import CheckpointError

NumberType = Literal["F32", "F16", "BF16"]

_EXPONENT: Final[dict[str, int]] = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
_WORD: Final[dict[str, type[np.unsignedinteger]]] = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
ELEMENT_BYTES: Final[dict[str, int]] = {"F32": 4, "F16": 2, "BF16": 2}


def convert(raw: bytes, source: str, target: NumberType, *, where: str) -> npt.NDArray[np.unsignedinteger]:
    """Little-endian numbers of type ``source`` as the words of type ``target``.

    Args:
        raw: whole elements.
        where: the tensor's file and name, for the message.

    Raises:
        CheckpointError: a number is NaN or infinite, or too large for ``target``.
    """
    words = np.frombuffer(raw, dtype=np.dtype(_WORD[source]).newbyteorder("<"))
    if _any_not_finite(words, source):
        raise CheckpointError(f"{where}: holds NaN or infinity; the checkpoint is damaged or its training diverged")
    if source == target:
        return words
    if source == "F16":
        wide = words.view(np.float16).astype(np.float32)
    elif source == "BF16":
        wide = (words.astype(np.uint32) << 16).view(np.float32)
    else:
        wide = words.view(np.float32)
    if target == "F32":
        return wide.view(np.uint32)
    if target == "F16":
        with np.errstate(over="ignore", under="ignore"):
            result = wide.astype(np.float16).view(np.uint16)
    else:
        bits = wide.view(np.uint32)
        result = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    if _any_not_finite(result, target):
        largest = float(np.abs(wide).max())
        raise CheckpointError(f"{where}: holds {largest:.6g}, too large for {target.lower()}; use --outtype f32")
    return result


def _any_not_finite(words: npt.NDArray[np.unsignedinteger], number_type: str) -> bool:
    exponent = _WORD[number_type](_EXPONENT[number_type])
    return bool(np.any((words & exponent) == exponent))
