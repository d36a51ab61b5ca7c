"""A checkpoint from a GGUF that was made of one, so that the numbers of a decision can be chosen anew without a training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import load_file, save_file

from training.folders import replaced_when_whole
from training.mini.objective import Answers
from training.mini.training import ANSWERS

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
_TOPICS: Final = "archroute.encoder.other_topics"


def checkpoint_from_gguf(path: Path, base: Path, folder: Path) -> None:
    """Write the checkpoint of an encoder that ``training.mini`` trained; quantized weights are what they stand for.

    The scale and the bounds of `other` are those of a new training: a calibration replaces them.

    Args:
        path: the GGUF.
        base: the checkpoint that the training began with, whose shape and tokenizer it has.
        folder: where to write.

    Raises:
        ValueError: the file is of another architecture or shape, or has no topics.
    """
    reader = GGUFReader(path)
    values = {name: field.contents() for name, field in reader.fields.items()}
    weights = load_file(base / "model.safetensors")
    if values.get("general.architecture") != "bert" or _TOPICS not in values:
        raise ValueError("it was not trained by training.mini")
    missing = {name for name in weights if name.startswith(_READ)}
    for tensor in reader.tensors:
        name = _checkpoint_name(tensor.name)
        found = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if name not in weights or found.numel() != weights[name].numel():
            raise ValueError(f"its tensor {tensor.name} is none of the base's; the base or its vocabulary is another one")
        weights[name] = found.float().reshape(weights[name].shape)
        missing.discard(name)
    if missing:
        raise ValueError(f"it lacks {len(missing)} tensors of the base, such as {min(missing)}")
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    answers = Answers(width).state_dict() | {"topics": torch.tensor(values[_TOPICS]).reshape(-1, width)}
    with replaced_when_whole(folder) as partial:
        shutil.copytree(base, partial, dirs_exist_ok=True)
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        torch.save(answers, partial / ANSWERS)


def _checkpoint_name(name: str) -> str:
    name, _, kind = name.rpartition(".")
    if name.startswith("blk."):
        _, number, part = name.split(".")
        return f"encoder.layer.{number}.{_LAYER_NAMES.get(part, part)}.{kind}"
    return f"{_NAMES.get(name, name)}.{kind}"
