"""Deciding whether a well-formed GGUF is a model that can be routed with, and telling two files apart."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from archroute_edge.engine.gguf_header import GGUFHeader, MetadataArray, read_header
from archroute_edge.errors import ModelFileError

_ENCODERS: Final = ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert",
                    "eurobert", "t5encoder", "clip", "mmproj")  # fmt: skip
_MAX_BLOCKS: Final = 512  # LLAMA_MAX_LAYERS; llama.cpp asserts on more
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 4096


def check_model_file(path: str | Path) -> GGUFHeader:
    """Check that ``path`` is a GGUF of a causal language model with a tokenizer, and return its header.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFileError: the file is damaged, or a model of another kind; the message says which.
    """
    header = read_header(path)
    architecture = header.architecture
    if not architecture:
        raise ModelFileError(f"{path}: no general.architecture; this GGUF holds no language model")
    if header.text("general.type") not in (None, "model"):
        raise ModelFileError(f"{path}: a GGUF of type {header.text('general.type')!r}, not a model")
    if not header.tensors:
        raise ModelFileError(f"{path}: holds a vocabulary only, no weights; a whole model is needed")
    if architecture in _ENCODERS:
        raise ModelFileError(f"{path}: a {architecture} encoder, which cannot generate an answer; use a causal language model")
    _check_vocabulary(header)
    _check_hyperparameters(header)
    return header


def _check_vocabulary(header: GGUFHeader) -> None:
    n_vocab = header.length("tokenizer.ggml.tokens")
    if not n_vocab or header.text("tokenizer.ggml.model") in (None, "none", "no_vocab"):
        raise ModelFileError(f"{header.path}: has no tokenizer; convert the model again with its tokenizer files")
    for key in ("tokenizer.ggml.token_type", "tokenizer.ggml.scores"):
        length = header.length(key)
        if length is not None and length != n_vocab:
            raise ModelFileError(f"{header.path}: {key} has {length} entries for {n_vocab} tokens; the file is damaged")
    for key, value in header.metadata.items():
        if not isinstance(value, int) or not re.fullmatch(r"tokenizer\.ggml\.\w+_token_id", key):
            continue
        # 2^32 - 1 is how "none" is written.
        if not 0 <= value < n_vocab and value != 0xFFFFFFFF:
            raise ModelFileError(f"{header.path}: {key} is {value}, past the {n_vocab} tokens; the file is damaged")
    _check_array_types(header)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None and not header.metadata.get("split.count"):
        raise ModelFileError(f"{header.path}: has no token_embd.weight; this GGUF holds no language model")
    if embedding is not None and (len(embedding.shape) != 2 or embedding.shape[1] != n_vocab):
        raise ModelFileError(
            f"{header.path}: token_embd.weight is {list(embedding.shape)} for {n_vocab} tokens; the file is damaged"
        )


def _check_array_types(header: GGUFHeader) -> None:
    expected = {
        "tokenizer.ggml.tokens": (8,),
        "tokenizer.ggml.merges": (8,),
        "tokenizer.ggml.token_type": (4, 5),
        "tokenizer.ggml.scores": (6,),
    }
    for key, types in expected.items():
        value = header.metadata.get(key)
        if value is not None and not (isinstance(value, MetadataArray) and value.element_type in types):
            raise ModelFileError(f"{header.path}: {key} has the wrong type; the file is damaged")


def _check_hyperparameters(header: GGUFHeader) -> None:
    prefix = header.architecture
    limits = {"block_count": _MAX_BLOCKS, "embedding_length": 1 << 20, "context_length": 1 << 32}
    for name, limit in limits.items():
        value = header.integer(f"{prefix}.{name}")
        if value is None or not 0 < value <= limit:
            raise ModelFileError(f"{header.path}: {prefix}.{name} is {value}, which is not usable; the file is damaged")
    heads, kv_heads = (header.integer(f"{prefix}.attention.head_count{end}") for end in ("", "_kv"))
    width = header.integer(f"{prefix}.embedding_length") or 0
    # Architectures with a head count per layer store arrays, which llama.cpp checks itself.
    if heads is not None and not 0 < heads <= width:
        raise ModelFileError(f"{header.path}: {prefix}.attention.head_count is {heads}; the file is damaged")
    if kv_heads is not None and (kv_heads < 1 or (heads or kv_heads) % kv_heads):
        raise ModelFileError(f"{header.path}: {prefix}.attention.head_count_kv is {kv_heads}; the file is damaged")


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
