"""Deciding whether a well-formed GGUF is a model that can be routed with, and telling two files apart.

llama.cpp compares the shape of every tensor with the hyperparameters itself and reports what differs. What it asserts,
and dies on, is checked here: that the hyperparameters agree among themselves, and that tensors have types it can
compute with. Read in llama.cpp's ``llama-model.cpp`` and ``models/*.cpp``, and confirmed by loading damaged files.
"""

from __future__ import annotations

import hashlib
import re
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

from archroute_edge.engine._charsmap import is_charsmap
from archroute_edge.engine._gguf_header import (
    TENSOR_TYPES,
    GGUFHeader,
    MetadataArray,
    read_array,
    read_header,
    read_numbers,
    read_texts,
)
from archroute_edge.errors import ModelFileError

ModelKind = Literal["generative", "encoder"]
"""A causal language model, which writes an answer, or a sentence encoder, which gives texts vectors."""

ENCODER: Final = "bert"
"""The architecture of the sentence encoders that can be routed with."""
_OTHER_ENCODERS: Final = ("nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert",
                          "eurobert", "t5encoder", "clip", "mmproj")  # fmt: skip
_DENSE: Final = ("qwen2", "qwen3", "llama")
"""Architectures whose heads are all of one size, so that everything about them can be checked."""

UNIGRAM: Final = "t5"
"""llama.cpp's name for tokenizers like XLM-RoBERTa's."""
# Those of decoder models whose tokens are pieces of text that can be written byte by byte; of encoders, BERT's and XLM-R's.
_TOKENIZERS: Final[dict[str, tuple[str, ...]]] = {"generative": ("gpt2", "llama", "gemma4"), "encoder": ("bert", UNIGRAM)}
_ARRAY_TYPES: Final = {"tokens": (8,), "merges": (8,), "token_type": (4, 5), "scores": (6,)}
_CONTROL_TOKENS: Final[dict[str, dict[str, int | None]]] = {
    "bert": {"bos": 101, "seperator": 102, "unknown": 100},
    UNIGRAM: {"bos": None, "eos": None, "unknown": None},
}
"""The tokens before and behind every text, and that of unknown words, as GGUF spells them; their ids if it gives none."""
CHARSMAP_KEY: Final = "tokenizer.ggml.precompiled_charsmap"
NORMAL: Final = 1
"""``llama_token_type`` of what text can become."""
# Others: unknown, control, unused; and one that stands for a byte, which a BERT has none of.
_BESIDE_PIECES: Final = (2, 3, 5)
_BYTE: Final = 6
_BYTE_TYPES: Final = (0, 1)
_NO_TOKEN: Final = 0xFFFFFFFF

# LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS.
_MAX_BLOCKS: Final = 512
_MAX_EXPERTS: Final = 512
_ROPE_SCALINGS: Final = ("none", "linear", "yarn", "longrope")
_NOT_WEIGHTS: Final = ("I8", "I16", "I32", "I64", "F64")
# Added to activations, for which ggml has kernels for F32 and F16 only.
_ADDED: Final = ("token_types.weight", "position_embd.weight")
# Hyperparameters that no BERT has, and that llama.cpp would act upon.
_OTHER_GRAPHS: Final = (
    *("expert_count", "expert_used_count", "expert_group_count", "embedding_length_out", "attention.max_alibi_bias"),
    *("attention.key_length_swa", "attention.value_length_swa", "attention.clamp_kqv", "classifier.pooling_type"),
    *("moe_every_n_layers", "attention.causal"),
)
# llama_pooling_type: mean, cls, last.
_POOLINGS: Final = (1, 2, 3)

_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 4096


def check_model_file(path: str | Path, wanted: ModelKind | None = None, *, needs_weights: bool = True) -> GGUFHeader:
    """Check that ``path`` is a GGUF of a causal language model or a sentence encoder, and return its header.

    Args:
        wanted: only this kind will do.
        needs_weights: False if the vocabulary of a language model will do.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFileError: the file is damaged, or a model of another kind; the message says which.
    """
    header = read_header(path)
    if (header.integer("split.count") or 1) > 1:
        raise ModelFileError(f"{path}: one of several files of a split model; merge them first (llama-gguf-split --merge)")
    if header.text("general.type") == "adapter":
        raise ModelFileError(f"{path}: a LoRA adapter; merge it into its base model first (llama-export-lora)")
    architecture = header.architecture
    if not architecture:
        raise ModelFileError(f"{path}: no general.architecture; this GGUF holds no language model")
    if header.text("general.type") not in (None, "model"):
        raise ModelFileError(f"{path}: a GGUF of type {header.text('general.type')!r}, not a model")
    if not header.tensors and (needs_weights or model_kind(header) == "encoder"):
        raise ModelFileError(
            f"{path}: holds a vocabulary only, no weights; name a whole model, or this file as the vocabulary of a remote one "
            "(http://HOST?vocabulary=FILE)"
        )
    if architecture in _OTHER_ENCODERS:
        raise ModelFileError(f"{path}: a {architecture} encoder; of encoders those of the architecture {ENCODER} can be used")
    kind = model_kind(header)
    if wanted == "generative" and kind == "encoder":
        raise ModelFileError(f"{path}: a {architecture} encoder, which cannot write an answer; name a causal language model")
    if wanted == "encoder" and kind == "generative":
        raise ModelFileError(f"{path}: a {architecture} language model, which is no sentence encoder; name an encoder")
    _check_vocabulary(header, kind)
    # llama.cpp reads no hyperparameters for a vocabulary.
    if header.tensors:
        _check_embedding(header)
        _check_architecture(header)
    if kind == "encoder":
        _check_encoder(header)
    return header


def model_kind(header: GGUFHeader) -> ModelKind:
    """Which kind of model a checked file holds."""
    return "encoder" if header.architecture == ENCODER else "generative"


def control_tokens(header: GGUFHeader) -> tuple[int, int, int]:
    """The ids, in a checked file, of the tokens before and behind every text, and of unknown words."""
    usual = _CONTROL_TOKENS[header.text("tokenizer.ggml.model") or ""]
    found = [header.integer(f"tokenizer.ggml.{role}_token_id") for role in usual]
    first, last, unknown = (usual[role] if number is None else number for role, number in zip(usual, found, strict=True))
    assert first is not None and last is not None and unknown is not None
    return first, last, unknown


def model_fingerprint(header: GGUFHeader) -> str:
    """A SHA-256 (hex) that tells model files apart in milliseconds, whatever their size.

    It covers the size, the header, and 64 blocks of 4 KiB spread evenly over the tensor data.
    """
    digest = hashlib.sha256(f"{header.file_size}:{header.sha256}".encode())
    span = max(header.file_size - header.data_offset - _SAMPLE_BYTES, 0)
    with header.path.open("rb") as file:
        for sample in range(_SAMPLES):
            file.seek(header.data_offset + span * sample // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _damaged(header: GGUFHeader, what: str) -> ModelFileError:
    return ModelFileError(f"{header.path}: {what}; the file is damaged")


def _unusable(header: GGUFHeader, name: str) -> ModelFileError:
    """That a hyperparameter does not fit the others."""
    key = f"{header.architecture}.{name}"
    value = header.metadata.get(key)
    shown = value if isinstance(value, (int, float, str)) else "missing" if value is None else "a list"
    return _damaged(header, f"{key} is {shown!r}, which does not fit the rest")


def _positive(header: GGUFHeader, name: str, default: int | None = None) -> int:
    """A positive number among the hyperparameters, or ``default``."""
    value = header.metadata.get(f"{header.architecture}.{name}", default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise _unusable(header, name)
    return value


def _check_vocabulary(header: GGUFHeader, kind: ModelKind) -> None:
    n_vocab = header.length("tokenizer.ggml.tokens")
    tokenizer = header.text("tokenizer.ggml.model")
    if not n_vocab or tokenizer in (None, "none", "no_vocab"):
        raise ModelFileError(f"{header.path}: has no tokenizer; convert the model again with its tokenizer files")
    if tokenizer not in _TOKENIZERS[kind]:
        known = ", ".join(_TOKENIZERS[kind])
        raise ModelFileError(f"{header.path}: has a tokenizer of the kind {tokenizer!r}; those that can be used are {known}")
    for key in ("tokenizer.ggml.token_type", "tokenizer.ggml.scores"):
        length = header.length(key)
        if length is not None and length != n_vocab:
            raise _damaged(header, f"{key} has {length} entries for {n_vocab} tokens")
    for key, value in header.metadata.items():
        is_id = isinstance(value, int) and re.fullmatch(r"tokenizer\.ggml\.\w+_token_id", key)
        if is_id and not 0 <= value < n_vocab and value != _NO_TOKEN:  # type: ignore[operator]
            raise _damaged(header, f"{key} is {value}, past the {n_vocab} tokens")
    for name, types in _ARRAY_TYPES.items():
        found = header.metadata.get(f"tokenizer.ggml.{name}")
        if found is not None and not (isinstance(found, MetadataArray) and found.element_type in types):
            raise _damaged(header, f"tokenizer.ggml.{name} has the wrong type")
    # Of an encoder's tokens only our own tokenizers take notice, and those look for themselves.
    if kind == "generative":
        _check_tokens(header, n_vocab)


def _check_embedding(header: GGUFHeader) -> None:
    n_vocab = header.length("tokenizer.ggml.tokens")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelFileError(f"{header.path}: has no token_embd.weight; this GGUF holds no language model")
    if len(embedding.shape) != 2 or embedding.shape[1] != n_vocab:
        raise _damaged(header, f"token_embd.weight is {list(embedding.shape)} for {n_vocab} tokens")


def _check_tokens(header: GGUFHeader, n_vocab: int) -> None:
    """Tokens that are not distinct, and bytes that no token stands for, are assertions in llama.cpp."""
    texts = read_texts(header, "tokenizer.ggml.tokens")
    tokens = set(texts)
    if len(tokens) < n_vocab or b"" in tokens or b"\0" in b"".join(texts):
        # As llama.cpp reads them: up to the first zero byte, and a name of its own for each empty one.
        texts = [text.partition(b"\0")[0] for text in texts]
        tokens = {text or b"[EMPTY_%d]" % number for number, text in enumerate(texts)}
    if len(tokens) < n_vocab:
        raise _damaged(header, "the same token stands twice in tokenizer.ggml.tokens")
    if header.text("tokenizer.ggml.model") == "llama":
        missing = [byte for byte in range(256) if b"<0x%02X>" % byte not in tokens and bytes([byte]) not in tokens]
        if missing:
            raise _damaged(header, f"no token stands for the byte 0x{missing[0]:02X}")
    # These split text at other places than spaces, and llama.cpp looks for no merges across a space.
    if header.text("tokenizer.ggml.pre") == "whitespace":
        raise ModelFileError(f"{header.path}: has the pre-tokenizer 'whitespace', which cannot write prompts")


def _check_architecture(header: GGUFHeader) -> None:
    def value(name: str, default: Any = None) -> Any:
        return header.metadata.get(f"{header.architecture}.{name}", default)

    def integer(name: str) -> int:
        return header.integer(f"{header.architecture}.{name}") or 0

    for name, limit in (("block_count", _MAX_BLOCKS), ("embedding_length", 1 << 20), ("context_length", 1 << 31)):
        if not 0 < integer(name) <= limit:
            raise _unusable(header, name)
    if value("rope.scaling.type", "linear") not in _ROPE_SCALINGS:
        raise _unusable(header, "rope.scaling.type")
    for name in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.group_norm_epsilon"):
        epsilon = value(name, 0.0)
        if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
            raise _unusable(header, name)
    if integer("nextn_predict_layers") > integer("block_count"):
        raise _unusable(header, "nextn_predict_layers")
    dense = header.architecture in _DENSE
    experts, groups, used = integer("expert_count"), integer("expert_group_count"), value("expert_used_count", 0)
    if not 0 <= experts <= _MAX_EXPERTS:
        raise _unusable(header, "expert_count")
    # A list holds a number for each layer, as only architectures with layers of several kinds need it.
    if (dense and not isinstance(used, int)) or (isinstance(used, int) and not (0 < used <= experts if experts else used == 0)):
        raise _unusable(header, "expert_used_count")
    if not (0 <= groups < experts if experts else groups == 0):
        raise _unusable(header, "expert_group_count")
    if groups > 1 and (experts % groups or not 0 < integer("expert_group_used_count") < groups):
        raise _unusable(header, "expert_group_used_count")
    # Architectures with a head count for each layer store lists.
    heads, kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    if isinstance(heads, int) and not 0 < heads <= integer("embedding_length"):
        raise _unusable(header, "attention.head_count")
    if isinstance(kv_heads, int) and (kv_heads < 1 or (isinstance(heads, int) and heads % kv_heads)):
        raise _unusable(header, "attention.head_count_kv")
    if dense:
        _check_head_sizes(header)
        _check_tensor_types(header)


def _check_head_sizes(header: GGUFHeader) -> None:
    heads, width = _positive(header, "attention.head_count"), _positive(header, "embedding_length")
    _positive(header, "attention.head_count_kv", default=heads)
    _positive(header, "feed_forward_length")
    size = _positive(header, "attention.key_length", default=width // heads)
    # Rotary position encoding turns pairs.
    if size % 2:
        raise _unusable(header, "attention.head_count")
    for name in ("attention.value_length", "rope.dimension_count"):
        if _positive(header, name, default=size) != size:
            raise _unusable(header, name)
    if header.architecture == "qwen2" and heads * size != width:
        raise _unusable(header, "attention.head_count")


def _check_tensor_types(header: GGUFHeader) -> None:
    for tensor in header.tensors.values():
        kind = TENSOR_TYPES[tensor.type_number][0]
        # Norms and biases are added and multiplied with F32 activations, for which ggml has no other kernels.
        if kind in _NOT_WEIGHTS or (len(tensor.shape) == 1 and kind != "F32"):
            raise _damaged(header, f"tensor {tensor.name} cannot be of type {kind}")


def _check_encoder(header: GGUFHeader) -> None:
    prefix = header.architecture
    heads, width = _positive(header, "attention.head_count"), _positive(header, "embedding_length")
    _positive(header, "feed_forward_length")
    if width % heads:
        raise _unusable(header, "attention.head_count")
    sizes = {"attention.head_count_kv": heads, "attention.key_length": width // heads, "attention.value_length": width // heads}
    for name, size in sizes.items():
        if _positive(header, name, default=size) != size:
            raise _unusable(header, name)
    for name in _OTHER_GRAPHS:
        if header.metadata.get(f"{prefix}.{name}"):
            raise _unusable(header, name)
    pooling = header.metadata.get(f"{prefix}.pooling_type", 0)
    if not isinstance(pooling, int) or isinstance(pooling, bool) or pooling not in _POOLINGS:
        raise ModelFileError(
            f"{header.path}: says no usable way of pooling ({prefix}.pooling_type {pooling!r}), so texts have no vector; "
            "convert a checkpoint of sentence-transformers"
        )
    n_tokens = header.length("tokenizer.ggml.tokens") or 0
    tokenizer = header.text("tokenizer.ggml.model") or ""
    for role, usual in _CONTROL_TOKENS[tokenizer].items():
        key = f"tokenizer.ggml.{role}_token_id"
        value = header.metadata.get(key, usual)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < n_tokens:
            raise _damaged(header, f"{key} is {value!r}, none of the {n_tokens} tokens")
    if tokenizer == UNIGRAM:
        _check_unigram(header)
    elif _BYTE in read_numbers(header, "tokenizer.ggml.token_type"):
        raise _damaged(header, "has tokens that stand for bytes, which a BERT's do not")
    _check_tensor_types(header)
    for name in _ADDED:
        tensor = header.tensors.get(name)
        kind = TENSOR_TYPES[tensor.type_number][0] if tensor is not None else "F32"
        if kind not in ("F32", "F16"):
            raise _damaged(header, f"tensor {name} cannot be of type {kind}")


def _check_unigram(header: GGUFHeader) -> None:
    """What our tokenizer of this kind relies on."""
    types, scores = (read_numbers(header, f"tokenizer.ggml.{name}") for name in ("token_type", "scores"))
    if not types or not scores:
        raise _damaged(header, f"has no tokenizer.ggml.{'scores' if types else 'token_type'}")
    if not all(map(isfinite, scores)):
        raise _damaged(header, "tokenizer.ggml.scores has what is no number")
    kinds = set(types)
    if not kinds <= {NORMAL, *_BESIDE_PIECES}:
        raise _damaged(header, "has tokens of a type that an XLM-R's are not")
    if NORMAL in {types[number] for number in control_tokens(header)}:
        raise _damaged(header, "calls a token ordinary that stands around texts or for unknown characters")
    charsmap = header.metadata.get(CHARSMAP_KEY)
    is_bytes = isinstance(charsmap, MetadataArray) and charsmap.element_type in _BYTE_TYPES
    if charsmap is not None and not (is_bytes and is_charsmap(read_array(header, CHARSMAP_KEY))):
        raise _damaged(header, f"{CHARSMAP_KEY} is no table of replacements")
