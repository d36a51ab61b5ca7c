"""Texts through the published sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

_AT_ONCE = 256


def embed(folder: Path, texts: Sequence[str], max_tokens: int) -> Tensor:
    """Unit vectors (N, 384) of texts: the mean over their tokens, as the checkpoint's pooling says."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = AutoModel.from_pretrained(folder).eval()
    parts = []
    with torch.inference_mode():
        for first in range(0, len(texts), _AT_ONCE):
            chunk = list(texts[first : first + _AT_ONCE])
            inputs = tokenizer(chunk, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
            states, seen = encoder(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
            parts.append(functional.normalize((states * seen).sum(1) / seen.sum(1), dim=-1))
    return torch.cat(parts).clone()
