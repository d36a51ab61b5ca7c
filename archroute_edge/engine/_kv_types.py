"""The number types that a KV cache can hold, and what a cell of it takes."""

from __future__ import annotations

from typing import Final

from archroute_edge.engine._gguf_header import TENSOR_TYPES, GGUFHeader

DEFAULT_KV_TYPE: Final = "f16"

KV_TYPES: Final = {
    name.lower(): number
    for number, (name, _, _) in TENSOR_TYPES.items()
    if name in ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL")
}
"""Number types that llama.cpp can keep keys and values in, by name; the same ones that its own tools offer."""


def is_quantized_kv(kv_type: str) -> bool:
    """Whether keys and values of this type are quantized, which llama.cpp does with flash attention only."""
    return TENSOR_TYPES[KV_TYPES[kv_type]][1] > 1


def bytes_per_cell(header: GGUFHeader, kv_type: str) -> float:
    """Bytes that keys and values of one token take over all layers; 0 where the file does not say it plainly."""

    def number(name: str) -> int:
        return header.integer(f"{header.architecture}.{name}") or 0

    heads = number("attention.head_count")
    width = number("embedding_length") // heads if heads else 0
    keys, values = (number(f"attention.{what}_length") or width for what in ("key", "value"))
    n_numbers = number("block_count") * (number("attention.head_count_kv") or heads) * (keys + values)
    _, block_numbers, block_bytes = TENSOR_TYPES[KV_TYPES[kv_type]]
    return n_numbers * block_bytes / block_numbers
