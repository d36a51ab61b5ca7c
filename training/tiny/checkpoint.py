"""Checkpoints: the finished model in Hugging Face's Qwen2 layout, and the state from which a training resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from training.folders import replaced_when_whole
from training.tiny.model import Qwen2, Shape
from training.tiny.tokenizer import save_tokenizer, token_id


def write_checkpoint(folder: Path, model: Qwen2, tokenizer: Tokenizer) -> None:
    """Write config, weights (float32) and tokenizer; a folder of that name is replaced once the new one is whole."""
    end = token_id(tokenizer, "<|im_end|>")
    start = token_id(tokenizer, "<|endoftext|>")
    config: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **model.shape.to_dict(),
        "attention_dropout": 0.0,
        "bos_token_id": start,
        "eos_token_id": end,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_sliding_window": False,
    }
    generation = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": start, "do_sample": False}
    weights = {name: tensor.detach().float().contiguous() for name, tensor in model.state_dict().items()}
    with replaced_when_whole(folder) as partial:
        for name, content in (("config.json", config), ("generation_config.json", generation)):
            (partial / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        save_tokenizer(tokenizer, partial, model.shape.max_position_embeddings)


def read_checkpoint(folder: Path) -> tuple[Qwen2, Tokenizer]:
    """The model and tokenizer of a checkpoint written here; FileNotFoundError if a file is missing."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
    model = Qwen2(shape)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state beside its name and move it there."""
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)
