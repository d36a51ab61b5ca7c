"""Texts through a sentence encoder of the BERT architecture, and its checkpoint in sentence-transformers layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel
from transformers.utils import logging

_TOKENS_AT_ONCE = 768
# Beside the weights; config.json among them, since the shape stays as published.
_COPIED = [
    "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json",
]  # fmt: skip


class Encoder:
    """A checkpoint in PyTorch: texts in, unit vectors out."""

    def __init__(self, folder: Path) -> None:
        # The published file has a pooler that nothing here uses, which is told at every start.
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.folder = folder
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        # Dropout would only blur a fine-tuning of so few steps, so the model stays in evaluation mode throughout.
        self.model: Any = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
        self.width: int = self.model.config.hidden_size

    def vectors(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """Unit vectors (N, width) of texts, with gradients if enabled: the mean over a text's tokens.

        Texts of similar length are computed together, to save padding; the same text once.
        """
        unique = list(dict.fromkeys(texts))
        encoded = [_cut(one.ids, max_tokens) for one in self.tokenizer.encode_batch_fast(unique)]
        order = sorted(range(len(unique)), key=lambda n: len(encoded[n]))
        parts = []
        for chunk in _chunks(order, encoded):
            longest = len(encoded[chunk[-1]])
            ids = torch.full((len(chunk), longest), self.model.config.pad_token_id)
            seen = torch.zeros((len(chunk), longest), dtype=torch.long)
            for row, number in enumerate(chunk):
                ids[row, : len(encoded[number])] = torch.tensor(encoded[number])
                seen[row, : len(encoded[number])] = 1
            states = self.model(input_ids=ids, attention_mask=seen).last_hidden_state
            parts.append(functional.normalize((states * seen[..., None]).float().sum(1) / seen.sum(1, keepdim=True), dim=-1))
        place = {unique[number]: row for row, number in enumerate(order)}
        return torch.cat(parts)[torch.tensor([place[text] for text in texts])]

    def embed(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """The same without gradients."""
        with torch.no_grad():
            vectors: Tensor = self.vectors(texts, max_tokens)
        return vectors

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
    """Unit vectors (N, width) of texts from the checkpoint in a folder."""
    return Encoder(folder).embed(texts, max_tokens)


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]


def _chunks(order: list[int], encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The texts of ``order`` (shortest first) in parts of about so many tokens, padding included."""
    chunk: list[int] = []
    for number in order:
        if chunk and (len(chunk) + 1) * len(encoded[number]) > _TOKENS_AT_ONCE:
            yield chunk
            chunk = []
        chunk.append(number)
    if chunk:
        yield chunk
