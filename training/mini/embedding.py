"""Texts through a sentence encoder of the BERT architecture, and its checkpoint in sentence-transformers layout."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

_AT_ONCE = 16
# Beside the weights; config.json among them, since the shape stays as published.
_COPIED = [
    "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json", "vocab.txt",
]  # fmt: skip


class Encoder:
    """A checkpoint in PyTorch: texts in, unit vectors out."""

    def __init__(self, folder: Path) -> None:
        # The published file has a pooler that nothing here uses, which is told at every start.
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.folder = folder
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # Dropout would only blur a fine-tuning of so few steps, so the model stays in evaluation mode throughout.
        self.model: Any = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()

    def vectors(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """Unit vectors (N, 384) of texts, with gradients if enabled: the mean over a text's tokens.

        Texts of similar length are computed together, to save padding.
        """
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        parts = []
        for first in range(0, len(order), _AT_ONCE):
            chunk = [texts[n] for n in order[first : first + _AT_ONCE]]
            inputs = self.tokenizer(chunk, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
            states, seen = self.model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
            parts.append(functional.normalize((states * seen).float().sum(1) / seen.sum(1), dim=-1))
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def embed(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """The same without gradients."""
        with torch.no_grad():
            vectors: Tensor = self.vectors(texts, max_tokens)
        return vectors

    def mix(self, published: Encoder, share: float) -> None:
        """Replace the weights by `share` of them and the rest of the published ones, which keeps more general sense."""
        theirs = published.model.state_dict()
        mixed = {
            name: torch.lerp(theirs[name].float(), tensor.float(), share) if tensor.is_floating_point() else tensor
            for name, tensor in self.model.state_dict().items()
        }
        self.model.load_state_dict(mixed)

    def write(self, folder: Path) -> None:
        """Write the checkpoint; a folder of that name is replaced once the new one is whole."""
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        for name in _COPIED:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / name, partial / name)
        weights = {name: tensor.detach().float().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def embed(folder: Path, texts: Sequence[str], max_tokens: int) -> Tensor:
    """Unit vectors (N, 384) of texts from the checkpoint in a folder."""
    return Encoder(folder).embed(texts, max_tokens)
