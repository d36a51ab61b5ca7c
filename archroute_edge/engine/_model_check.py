"""Deciding whether a well-formed GGUF is a model that can be routed with, and telling two files apart."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, Literal

from archroute_edge.engine._architecture_check import check_architecture
from archroute_edge.engine._encoder_check import check_encoder
from archroute_edge.engine._gguf_header import GGUFHeader, MetadataArray, read_header, read_texts
from archroute_edge.errors import ModelFileError

ENCODER: Final = "bert"
"""The architecture of the sentence encoders that can be routed with."""
_OTHER_ENCODERS: Final = ("nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert",
                          "eurobert", "t5encoder", "clip", "mmproj")  # fmt: skip
# Those of decoder models whose tokens are pieces of text that can be written byte by byte; of encoders, BERT's.
_TOKENIZERS: Final[dict[str, tuple[str, ...]]] = {"generative": ("gpt2", "llama", "gemma4"), "encoder": ("bert",)}
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 4096


ModelKind = Literal["generative", "encoder"]
"""A causal language model, which writes an answer, or a sentence encoder, which gives texts vectors."""


def check_model_file(path: str | Path, wanted: ModelKind | None = None) -> GGUFHeader:
    """Check that ``path`` is a GGUF of a causal language model or a sentence encoder, and return its header.

    Args:
        wanted: only this kind will do.

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
    if not header.tensors:
        raise ModelFileError(f"{path}: holds a vocabulary only, no weights; a whole model is needed")
    if architecture in _OTHER_ENCODERS:
        raise ModelFileError(f"{path}: a {architecture} encoder; of encoders those of the architecture {ENCODER} can be used")
    kind = model_kind(header)
    if wanted == "generative" and kind == "encoder":
        raise ModelFileError(f"{path}: a {architecture} encoder, which cannot write an answer; name a causal language model")
    if wanted == "encoder" and kind == "generative":
        raise ModelFileError(f"{path}: a {architecture} language model, which is no sentence encoder; name an encoder")
    _check_vocabulary(header, kind)
    check_architecture(header)
    if kind == "encoder":
        check_encoder(header)
    return header


def model_kind(header: GGUFHeader) -> ModelKind:
    """Which kind of model a checked file holds."""
    return "encoder" if header.architecture == ENCODER else "generative"


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
            raise ModelFileError(f"{header.path}: {key} has {length} entries for {n_vocab} tokens; the file is damaged")
    for key, value in header.metadata.items():
        if not isinstance(value, int) or not re.fullmatch(r"tokenizer\.ggml\.\w+_token_id", key):
            continue
        # 2^32 - 1 is how "none" is written.
        if not 0 <= value < n_vocab and value != 0xFFFFFFFF:
            raise ModelFileError(f"{header.path}: {key} is {value}, past the {n_vocab} tokens; the file is damaged")
    _check_array_types(header)
    _check_tokens(header, n_vocab)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelFileError(f"{header.path}: has no token_embd.weight; this GGUF holds no language model")
    if len(embedding.shape) != 2 or embedding.shape[1] != n_vocab:
        raise ModelFileError(
            f"{header.path}: token_embd.weight is {list(embedding.shape)} for {n_vocab} tokens; the file is damaged"
        )


def _check_tokens(header: GGUFHeader, n_vocab: int) -> None:
    """Tokens that are not distinct, and bytes that no token stands for, are assertions in llama.cpp."""
    texts = read_texts(header, "tokenizer.ggml.tokens")
    tokens = set(texts)
    if len(tokens) < n_vocab or b"" in tokens or b"\0" in b"".join(texts):
        # As llama.cpp reads them: up to the first zero byte, and a name of its own for each empty one.
        texts = [text.partition(b"\0")[0] for text in texts]
        tokens = {text or b"[EMPTY_%d]" % number for number, text in enumerate(texts)}
    if len(tokens) < n_vocab:
        raise ModelFileError(f"{header.path}: the same token stands twice in tokenizer.ggml.tokens; the file is damaged")
    if header.text("tokenizer.ggml.model") == "llama":
        missing = [byte for byte in range(256) if b"<0x%02X>" % byte not in tokens and bytes([byte]) not in tokens]
        if missing:
            raise ModelFileError(f"{header.path}: no token stands for the byte 0x{missing[0]:02X}; the file is damaged")
    # These split text at other places than spaces, and llama.cpp looks for no merges across a space.
    if header.text("tokenizer.ggml.pre") == "whitespace":
        raise ModelFileError(f"{header.path}: has the pre-tokenizer 'whitespace', which cannot write prompts")


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
