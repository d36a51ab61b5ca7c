"""What must hold of a BERT encoder so that llama.cpp neither aborts on it nor computes something else.

Read in llama.cpp's ``llama-model.cpp`` and ``models/bert.cpp``, and confirmed by loading damaged files.
"""

from __future__ import annotations

from typing import Final

from archroute_edge.engine._architecture_check import check_tensor_types, positive, unusable
from archroute_edge.engine._gguf_header import TENSOR_TYPES, GGUFHeader, read_numbers
from archroute_edge.errors import ModelFileError

POOLING: Final = {1: "mean", 2: "cls", 3: "last"}
"""``llama_pooling_type`` -> how the vector of a text is made of those of its tokens."""

CONTROL_TOKENS: Final = {"bos": 101, "seperator": 102, "unknown": 100}
"""The tokens before and behind every text, and that of unknown words, as GGUF spells them; their ids where it gives none."""

# Added to activations, for which ggml has kernels for these types only.
_ADDED: Final = ("token_types.weight", "position_embd.weight")
# llama_token_type
_BYTE: Final = 6
_OTHER_GRAPHS: Final = (
    *("expert_count", "expert_used_count", "expert_group_count", "embedding_length_out", "attention.max_alibi_bias"),
    *("attention.key_length_swa", "attention.value_length_swa", "attention.clamp_kqv", "classifier.pooling_type"),
    "moe_every_n_layers",
)
"""Hyperparameters that no BERT has, and that llama.cpp would act upon."""


def check_encoder(header: GGUFHeader) -> None:
    """Check hyperparameters, pooling, control tokens and tensor types of a BERT.

    Raises:
        ModelFileError: something llama.cpp cannot use, or no way of pooling is stated.
    """
    prefix = header.architecture
    heads, width = positive(header, "attention.head_count"), positive(header, "embedding_length")
    positive(header, "feed_forward_length")
    if width % heads:
        raise unusable(header, "attention.head_count")
    if positive(header, "attention.head_count_kv", default=heads) != heads:
        raise unusable(header, "attention.head_count_kv")
    for name in ("attention.key_length", "attention.value_length"):
        if positive(header, name, default=width // heads) != width // heads:
            raise unusable(header, name)
    for name in _OTHER_GRAPHS:
        if header.metadata.get(f"{prefix}.{name}"):
            raise unusable(header, name)
    if header.metadata.get(f"{prefix}.attention.causal", False) is not False:
        raise unusable(header, "attention.causal")
    pooling = header.metadata.get(f"{prefix}.pooling_type", 0)
    if not isinstance(pooling, int) or isinstance(pooling, bool) or pooling not in POOLING:
        raise ModelFileError(
            f"{header.path}: says no usable way of pooling ({prefix}.pooling_type {pooling!r}), so texts have no vector; "
            "convert a checkpoint of sentence-transformers"
        )
    _check_control_tokens(header)
    _check_token_types(header)
    check_tensor_types(header)
    for name in _ADDED:
        tensor = header.tensors.get(name)
        if tensor is not None and TENSOR_TYPES[tensor.type_number][0] not in ("F32", "F16"):
            raise ModelFileError(
                f"{header.path}: tensor {name} cannot be of type {TENSOR_TYPES[tensor.type_number][0]}; the file is damaged"
            )


def _check_token_types(header: GGUFHeader) -> None:
    if _BYTE in read_numbers(header, "tokenizer.ggml.token_type"):
        raise ModelFileError(f"{header.path}: has tokens that stand for bytes, which a BERT's do not; the file is damaged")


def control_token(header: GGUFHeader, role: str) -> int:
    """The id of one of :data:`CONTROL_TOKENS` in a checked file."""
    found = header.integer(f"tokenizer.ggml.{role}_token_id")
    return CONTROL_TOKENS[role] if found is None else found


def _check_control_tokens(header: GGUFHeader) -> None:
    n_tokens = header.length("tokenizer.ggml.tokens") or 0
    for role, usual in CONTROL_TOKENS.items():
        key = f"tokenizer.ggml.{role}_token_id"
        value = header.metadata.get(key, usual)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < n_tokens:
            raise ModelFileError(f"{header.path}: {key} is {value!r}, none of the {n_tokens} tokens; the file is damaged")
