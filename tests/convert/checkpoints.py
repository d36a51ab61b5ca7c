"""Hugging Face checkpoints of the real layout, small enough to write in milliseconds.

:func:`write_checkpoint` makes a folder as ``save_pretrained`` leaves it, with random weights and a byte-level BPE
tokenizer whose pre-tokenizer, normaliser and control tokens are Qwen2.5's.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from tests.convert.qwen_tokenizer import build_tokenizer, write_json, write_tokenizer

_STORED_AS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}

Words = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Shape:
    """The sizes of a checkpoint, and what else of its layout a test may want to vary."""

    model_type: str = "qwen2"
    hidden_size: int = 64
    intermediate_size: int = 96
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int | None = None
    vocab_padding: int = 10
    tie_word_embeddings: bool = True
    dtype: str = "float32"
    weight_scale: float = 0.1
    n_shards: int = 1
    tokenizer_files: str = "tokenizer.json"
    chat_template_in: str = "tokenizer_config.json"
    extra_config: dict[str, Any] = field(default_factory=dict)

    @property
    def head_width(self) -> int:
        """Of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


QWEN2 = Shape()
QWEN3 = Shape(model_type="qwen3", head_dim=32)


@dataclass(frozen=True)
class WrittenCheckpoint:
    """A checkpoint on disk. ``weights`` holds every tensor as float32, exactly as the stored numbers read."""

    folder: Path
    config: dict[str, Any]
    weights: dict[str, npt.NDArray[np.float32]]
    tokenizer: tokenizers.Tokenizer


def write_checkpoint(
    folder: Path, shape: Shape = QWEN2, *, seed: int = 0, tokenizer: tokenizers.Tokenizer | None = None
) -> WrittenCheckpoint:
    """Write a checkpoint of ``shape`` with weights from ``seed``, and with a small tokenizer unless one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer or build_tokenizer()
    n_tokens = tokenizer.get_vocab_size(with_added_tokens=True)
    config = _config(shape, n_tokens + shape.vocab_padding, tokenizer)
    write_json(folder / "config.json", config)
    sampling = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1}
    write_json(folder / "generation_config.json", sampling | {"eos_token_id": config["eos_token_id"]})
    write_tokenizer(
        folder, tokenizer, tokenizer_json=shape.tokenizer_files == "tokenizer.json", template_in=shape.chat_template_in
    )
    stored = {name: store(values, shape.dtype) for name, values in _random_weights(shape, config["vocab_size"], seed).items()}
    write_tensors(folder, {name: words for name, (words, _) in stored.items()}, shape.dtype, shape.n_shards)
    return WrittenCheckpoint(folder, config, {name: exact for name, (_, exact) in stored.items()}, tokenizer)


def write_tensors(folder: Path, tensors: dict[str, Words], dtype: str, n_shards: int = 1) -> None:
    """Write ``tensors`` (words of ``dtype``) as model.safetensors, or as shards with their index."""
    if n_shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return
    weight_map = {}
    for shard in range(n_shards):
        file_name = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
        part = {name: words for place, (name, words) in enumerate(tensors.items()) if place % n_shards == shard}
        write_safetensors(folder / file_name, part, dtype)
        weight_map.update(dict.fromkeys(part, file_name))
    total = sum(words.nbytes for words in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_safetensors(path: Path, tensors: dict[str, Words], dtype: str) -> None:
    """One safetensors file (the package of that name writes no bf16 without PyTorch)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, words in tensors.items():
        end = offset + words.nbytes
        header[name] = {"dtype": _STORED_AS[dtype], "shape": list(words.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for words in tensors.values():
            file.write(np.ascontiguousarray(words).tobytes())


def change_json(path: Path, **changes: Any) -> None:
    """Set top-level keys of a JSON file; a value of None removes the key."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    write_json(path, {key: value for key, value in content.items() if value is not None})


def sharded(shape: Shape, n_shards: int = 3) -> Shape:
    """The same checkpoint in several files."""
    return replace(shape, n_shards=n_shards)


def _config(shape: Shape, vocab_size: int, tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    names = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
    config: dict[str, Any] = {
        "architectures": [names[shape.model_type]],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": 512,
        "max_window_layers": shape.num_hidden_layers,
        "model_type": shape.model_type,
        "num_attention_heads": shape.num_attention_heads,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_key_value_heads": shape.num_key_value_heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "torch_dtype": shape.dtype,
        "transformers_version": "4.57.6",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": vocab_size,
    }
    if shape.model_type == "qwen3":
        config |= {"attention_bias": False, "head_dim": shape.head_width}
    elif shape.head_dim:
        config["head_dim"] = shape.head_dim
    return config | shape.extra_config


def _random_weights(shape: Shape, vocab_size: int, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    hidden, ffn, head = shape.hidden_size, shape.intermediate_size, shape.head_width
    queries, keys = shape.num_attention_heads * head, shape.num_key_value_heads * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab_size, hidden)}
    for layer in range(shape.num_hidden_layers):
        block: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (queries, hidden),
            "self_attn.k_proj.weight": (keys, hidden),
            "self_attn.v_proj.weight": (keys, hidden),
            "self_attn.o_proj.weight": (hidden, queries),
            "post_attention_layernorm.weight": (hidden,),
            "mlp.gate_proj.weight": (ffn, hidden),
            "mlp.up_proj.weight": (ffn, hidden),
            "mlp.down_proj.weight": (hidden, ffn),
        }
        if shape.model_type == "qwen2":
            block |= {f"self_attn.{part}_proj.bias": (keys if part != "q" else queries,) for part in "qkv"}
        else:
            block |= {f"self_attn.{part}_norm.weight": (head,) for part in "qk"}
        shapes |= {f"model.layers.{layer}.{name}": size for name, size in block.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not shape.tie_word_embeddings:
        shapes["lm_head.weight"] = (vocab_size, hidden)
    weights = {}
    for name, size in shapes.items():
        # Norms lie around 1 and biases are large enough to be missed if they were dropped.
        offset, scale = 0.0, shape.weight_scale
        if name.endswith("norm.weight"):
            offset, scale = 1.0, 0.3
        elif name.endswith("bias"):
            scale = 0.5
        weights[name] = (offset + scale * random.standard_normal(size)).astype(np.float32)
    return weights


def store(values: npt.NDArray[np.float32], dtype: str) -> tuple[Words, npt.NDArray[np.float32]]:
    """The words of ``values`` in ``dtype``, and what these words mean as float32."""
    if dtype == "float32":
        return values.view(np.uint32), values
    if dtype == "float16":
        half = values.astype(np.float16)
        return half.view(np.uint16), half.astype(np.float32)
    words = (values.view(np.uint32) >> 16).astype(np.uint16)
    return words, (words.astype(np.uint32) << 16).view(np.float32)
