"""Hyperparameters and tensor types on which llama.cpp would abort instead of refusing the file.

llama.cpp compares the shape of every tensor with the hyperparameters itself and reports what differs. What it asserts,
and dies on, is checked here: that the hyperparameters agree among themselves, and that tensors have types it can
compute with. Read in llama.cpp's ``llama-model.cpp`` and ``models/*.cpp``, and confirmed by loading damaged files.
"""

from __future__ import annotations

from typing import Final

from archroute_edge.engine._gguf_header import TENSOR_TYPES, GGUFHeader
from archroute_edge.errors import ModelFileError

# LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS.
_MAX_BLOCKS: Final = 512
_MAX_EXPERTS: Final = 512
_ROPE_SCALINGS: Final = ("none", "linear", "yarn", "longrope")
_DENSE: Final = ("qwen2", "qwen3", "llama")
"""Architectures whose heads are all of one size, so that everything about them can be checked."""
_NOT_WEIGHTS: Final = ("I8", "I16", "I32", "I64", "F64")


def check_architecture(header: GGUFHeader) -> None:
    """Check what ``header`` says about the network.

    Raises:
        ModelFileError: a value or a tensor type that llama.cpp cannot use.
    """
    prefix = header.architecture
    for name, limit in (("block_count", _MAX_BLOCKS), ("embedding_length", 1 << 20), ("context_length", 1 << 31)):
        value = header.integer(f"{prefix}.{name}")
        if value is None or not 0 < value < limit + 1:
            raise unusable(header, name)
    scaling = header.metadata.get(f"{prefix}.rope.scaling.type", "linear")
    if scaling not in _ROPE_SCALINGS:
        raise unusable(header, "rope.scaling.type")
    for name in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.group_norm_epsilon"):
        epsilon = header.metadata.get(f"{prefix}.{name}", 0.0)
        if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
            raise unusable(header, name)
    if (header.integer(f"{prefix}.nextn_predict_layers") or 0) > (header.integer(f"{prefix}.block_count") or 0):
        raise unusable(header, "nextn_predict_layers")
    _check_experts(header)
    _check_heads(header)
    if prefix in _DENSE:
        _check_head_sizes(header)
        check_tensor_types(header)


def _check_experts(header: GGUFHeader) -> None:
    prefix = header.architecture
    experts, groups = (header.integer(f"{prefix}.expert{name}_count") or 0 for name in ("", "_group"))
    used = header.metadata.get(f"{prefix}.expert_used_count", 0)
    if not 0 <= experts <= _MAX_EXPERTS:
        raise unusable(header, "expert_count")
    # A list holds a number for each layer, as only architectures with layers of several kinds need it.
    if prefix in _DENSE and not isinstance(used, int):
        raise unusable(header, "expert_used_count")
    if isinstance(used, int) and not (0 < used <= experts if experts else used == 0):
        raise unusable(header, "expert_used_count")
    if not (0 <= groups < experts if experts else groups == 0):
        raise unusable(header, "expert_group_count")
    if groups > 1:
        used_groups = header.integer(f"{prefix}.expert_group_used_count") or 0
        if experts % groups or not 0 < used_groups < groups:
            raise unusable(header, "expert_group_used_count")


def _check_heads(header: GGUFHeader) -> None:
    heads, kv_heads = (header.metadata.get(f"{header.architecture}.attention.head_count{end}") for end in ("", "_kv"))
    # Architectures with a head count for each layer store lists.
    if isinstance(heads, int) and not 0 < heads <= (header.integer(f"{header.architecture}.embedding_length") or 0):
        raise unusable(header, "attention.head_count")
    if isinstance(kv_heads, int) and (kv_heads < 1 or (isinstance(heads, int) and heads % kv_heads)):
        raise unusable(header, "attention.head_count_kv")


def _check_head_sizes(header: GGUFHeader) -> None:
    heads, width = positive(header, "attention.head_count"), positive(header, "embedding_length")
    positive(header, "attention.head_count_kv", default=heads)
    positive(header, "feed_forward_length")
    size = positive(header, "attention.key_length", default=width // heads)
    # Rotary position encoding turns pairs.
    if size % 2:
        raise unusable(header, "attention.head_count")
    for name in ("attention.value_length", "rope.dimension_count"):
        if positive(header, name, default=size) != size:
            raise unusable(header, name)
    if header.architecture == "qwen2" and heads * size != width:
        raise unusable(header, "attention.head_count")


def check_tensor_types(header: GGUFHeader) -> None:
    """Check that every tensor has a type that llama.cpp computes with in its place.

    Raises:
        ModelFileError: one has not.
    """
    for tensor in header.tensors.values():
        kind = TENSOR_TYPES[tensor.type_number][0]
        # Norms and biases are added and multiplied with F32 activations, for which ggml has no other kernels.
        if kind in _NOT_WEIGHTS or (len(tensor.shape) == 1 and kind != "F32"):
            raise ModelFileError(f"{header.path}: tensor {tensor.name} cannot be of type {kind}; the file is damaged")


def positive(header: GGUFHeader, name: str, default: int | None = None) -> int:
    """A positive number among the hyperparameters, or ``default``.

    Raises:
        ModelFileError: it is missing or something else.
    """
    value = header.metadata.get(f"{header.architecture}.{name}", default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise unusable(header, name)
    return value


def unusable(header: GGUFHeader, name: str) -> ModelFileError:
    """That a hyperparameter does not fit the others."""
    key = f"{header.architecture}.{name}"
    value = header.metadata.get(key)
    shown = value if isinstance(value, (int, float, str)) else "missing" if value is None else "a list"
    return ModelFileError(f"{header.path}: {key} is {shown!r}, which does not fit the rest; the file is damaged")
