"""Weights in PyTorch from the GGUF of an encoder, under the names that a checkpoint has."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import load_file
from torch import Tensor

from training.gguf_names import checkpoint_name

# GGUF's names, and those of a checkpoint; of a layer without "blk.N." and "encoder.layer.N.".
_NAMES: Final = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
}
_LAYER_NAMES: Final = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
# A checkpoint may have a pooler beside these, which nothing reads.
_READ: Final = ("embeddings.", "encoder.")


def read_weights(reader: GGUFReader, base: Path) -> dict[str, Tensor]:
    """The weights of the checkpoint in ``base``, with those of a GGUF in their place; quantized ones are what they stand for.

    Raises:
        ValueError: the file's tensors are not those of ``base``.
    """
    weights: dict[str, Tensor] = load_file(base / "model.safetensors")
    # Some checkpoints keep the numbers of the positions as a tensor, which are no weights.
    missing = {name for name, tensor in weights.items() if name.startswith(_READ) and tensor.is_floating_point()}
    for tensor in reader.tensors:
        name = checkpoint_name(tensor.name, _NAMES, "encoder.layer", _LAYER_NAMES)
        found = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if name not in weights or found.numel() != weights[name].numel():
            raise ValueError(f"its tensor {tensor.name} is none of the base's; the base or its vocabulary is another one")
        weights[name] = found.float().reshape(weights[name].shape)
        missing.discard(name)
    if missing:
        raise ValueError(f"it lacks {len(missing)} tensors of the base, such as {min(missing)}")
    return weights
