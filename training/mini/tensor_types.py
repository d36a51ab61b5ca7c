"""The types of the bundled file's tensors: each matrix in the smallest that keeps it well enough."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

from archroute_edge.system import replaced_when_whole

Array = npt.NDArray[Any]

HALVES: Final = frozenset(
    ["blk.3.ffn_up.weight", *(f"blk.{layer}.{name}.weight" for layer in range(3, 12) for name in ("attn_v", "attn_output"))]
)
"""The matrices whose rounding to Q8_0 moves the vectors most for their size, measured on a checkpoint before the end of its
training; and one whose rounding moves single texts furthest."""
_WRITTEN_ANEW: Final = ("general.architecture", "general.file_type", "general.quantization_version")
# As in tools.convert: llama.cpp adds them to F32 activations.
_ADDED: Final = ("position_embd.weight", "token_types.weight")


def write_small(source: Path, target: Path, halves: Collection[str]) -> None:
    """Write the F32 GGUF ``source`` with smaller matrices.

    A matrix gets Q4_0 or Q8_0 if that loses nothing, as in the layers that stay as they were published. Otherwise it gets F16
    if it is one of ``halves``, and Q8_0 if not.

    Args:
        target: appears when it is whole, and replaces an old one.
        halves: names of matrices, all of which need not be there.
    """
    reader = GGUFReader(source)
    with replaced_when_whole(target) as partial:
        writer = GGUFWriter(partial, reader.fields["general.architecture"].contents())
        for name, field in reader.fields.items():
            if name not in _WRITTEN_ANEW and not name.startswith("GGUF."):
                inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
                writer.add_key_value(name, field.contents(), field.types[0], inner)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
        for tensor in reader.tensors:
            kind, stored = _stored(tensor.name, tensor.data, halves)
            writer.add_tensor(tensor.name, stored, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _stored(name: str, values: Array, halves: Collection[str]) -> tuple[GGMLQuantizationType, Array]:
    """The type of a tensor, and its numbers in that."""
    if values.ndim < 2 or name in _ADDED:
        return GGMLQuantizationType.F32, values
    small, usual, half = GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0, GGMLQuantizationType.F16
    for kind in (small, usual):
        stored = gguf.quantize(values, kind)
        if np.array_equal(gguf.dequantize(stored, kind), values) or (kind == usual and name not in halves):
            return kind, stored
    return half, gguf.quantize(values, half)
