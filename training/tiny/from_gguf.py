"""A checkpoint from a GGUF that was made of one, so that a training can begin with the bundled ``tiny``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from gguf import GGUFReader, dequantize
from tokenizers import models

from training.gguf_names import checkpoint_name
from training.tiny.checkpoint import write_checkpoint
from training.tiny.model import Qwen2, Shape
from training.tiny.tokenizer import CONTROL, empty_tokenizer

_ARCHITECTURE: Final = "qwen2"
# GGUF's names, and those of a checkpoint; of a layer without "blk.N." and "model.layers.N.".
_NAMES: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_LAYER_NAMES: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def checkpoint_from_gguf(path: Path, folder: Path) -> None:
    """Write the checkpoint of a model that ``training.tiny`` trained; quantized weights are what they stand for.

    Raises:
        ValueError: the file is of another architecture, or has a vocabulary of another kind.
        KeyError: a value is missing.
        RuntimeError: a tensor is missing, or has another name or shape than the model's.
    """
    reader = GGUFReader(path)
    values = {name: field.contents() for name, field in reader.fields.items()}
    if values["general.architecture"] != _ARCHITECTURE:
        raise ValueError(f"its architecture is {values['general.architecture']}")
    model = Qwen2(_shape(values))
    weights = {
        checkpoint_name(tensor.name, _NAMES, "model.layers", _LAYER_NAMES): torch.tensor(
            dequantize(tensor.data, tensor.tensor_type)
        )
        for tensor in reader.tensors
    }
    model.load_state_dict(weights)
    tokens, merges = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.merges"]
    ordinary = len(tokens) - len(CONTROL)
    if tokens[ordinary:] != CONTROL or values["tokenizer.ggml.pre"] != _ARCHITECTURE:
        raise ValueError("its vocabulary is of another kind")
    bpe = models.BPE(
        vocab={token: number for number, token in enumerate(tokens[:ordinary])},
        merges=[tuple(merge.split(" ")) for merge in merges],
    )
    tokenizer = empty_tokenizer(bpe)
    tokenizer.add_special_tokens(CONTROL)
    write_checkpoint(folder, model, tokenizer)


def _shape(values: dict[str, Any]) -> Shape:
    def value(name: str) -> Any:
        return values[f"{_ARCHITECTURE}.{name}"]

    return Shape(
        vocab_size=len(values["tokenizer.ggml.tokens"]),
        hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"),
        num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        max_position_embeddings=value("context_length"),
        rope_theta=value("rope.freq_base"),
        # GGUF has it in 32 bits.
        rms_norm_eps=float(f"{value('attention.layer_norm_rms_epsilon'):.7g}"),
    )
