"""A GGUF as plain Python values, read with the ``gguf`` package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Contents:
    """``types`` and ``tensors`` by tensor name; a tensor is its raw words (uint32, uint16 or bytes), rows first."""

    metadata: dict[str, Any]
    types: dict[str, str]
    tensors: dict[str, npt.NDArray[np.unsignedinteger]]


def read(path: Path) -> Contents:
    """Read all of ``path``."""
    reader = gguf.GGUFReader(path)
    metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    words = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
    tensors = {
        tensor.name: np.array(tensor.data).view(words.get(tensor.tensor_type.name, np.uint8)) for tensor in reader.tensors
    }
    return Contents(metadata, types, tensors)
