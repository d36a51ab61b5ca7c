"""Texts through a sentence encoder of the BERT architecture, and its checkpoint in sentence-transformers layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AutoModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import logging

from training.folders import replaced_when_whole

_TOKENS_AT_ONCE = 1152
# Tokens of a row; of one that is much longer, attention between texts that do not see each other costs as much as the rest.
_ROW = 64
_ATTENTION = "attention in float32"
# Beside the weights; config.json among them, since the shape stays as published.
_COPIED = [
    "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json",
]  # fmt: skip


def _attention(
    _: object, queries: Tensor, keys: Tensor, values: Tensor, attention_mask: Tensor | None, **__: object
) -> tuple[Tensor, None]:
    """In float32 whatever the rest is computed in: PyTorch's gradient of it takes four times as long in bfloat16."""
    with torch.autocast("cpu", enabled=False):
        states = functional.scaled_dot_product_attention(
            queries.float(), keys.float(), values.float(), attn_mask=attention_mask
        )
    return states.to(queries.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(_ATTENTION, _attention)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


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
        self.model: Any = AutoModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation=_ATTENTION).eval()
        self.width: int = self.model.config.hidden_size

    def vectors(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """Unit vectors (N, width) of texts, with gradients if enabled: the mean over a text's tokens.

        The same text is computed once. Several texts share a row, in which no token sees those of another text: padded to the
        longest of a few, two in five of the tokens of a training would be padding.
        """
        unique = list(dict.fromkeys(texts))
        encoded = [_cut(one.ids, max_tokens) for one in self.tokenizer.encode_batch_fast(unique)]
        width = max(_ROW, *(len(ids) for ids in encoded))
        rows = _rows(encoded, width)
        at_once = max(1, _TOKENS_AT_ONCE // width)
        order: list[int] = []
        parts: list[Tensor] = []
        for start in range(0, len(rows), at_once):
            chunk = rows[start : start + at_once]
            parts.append(self._means(chunk, encoded))
            order += [number for row in chunk for number in row]
        place = {unique[number]: row for row, number in enumerate(order)}
        return functional.normalize(torch.cat(parts), dim=-1)[torch.tensor([place[text] for text in texts])]

    def _means(self, rows: Sequence[Sequence[int]], encoded: Sequence[Sequence[int]]) -> Tensor:
        """The mean state of each text of these rows, in their order."""
        longest = max(sum(len(encoded[number]) for number in row) for row in rows)
        ids = torch.full((len(rows), longest), self.model.config.pad_token_id)
        positions = torch.zeros_like(ids)
        owner = torch.full_like(ids, -1)
        lengths: list[int] = []
        for row, members in enumerate(rows):
            start = 0
            for number in members:
                end = start + len(encoded[number])
                ids[row, start:end] = torch.tensor(encoded[number])
                positions[row, start:end] = torch.arange(end - start)
                owner[row, start:end] = len(lengths)
                lengths.append(end - start)
                start = end
        # A token of padding sees the others, since attention to nothing is no number.
        sees = owner[:, None, :, None] == owner[:, None, None, :]
        states = self.model(input_ids=ids, position_ids=positions, attention_mask=sees).last_hidden_state.flatten(0, 1)
        of_text = (owner.flatten()[None] == torch.arange(len(lengths))[:, None]).to(states.dtype)
        means: Tensor = (of_text @ states).float() / torch.tensor(lengths)[:, None]
        return means

    def embed(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """The same without gradients."""
        with torch.no_grad():
            vectors: Tensor = self.vectors(texts, max_tokens)
        return vectors

    def write(self, folder: Path, complete: Callable[[Path], None] | None = None) -> None:
        """Write the checkpoint; a folder of that name is replaced once the new one is whole.

        `complete` writes what else belongs into it, to the folder that it gets.
        """
        weights = {name: tensor.detach().float().contiguous() for name, tensor in self.model.state_dict().items()}
        with replaced_when_whole(folder) as partial:
            for name in _COPIED:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, partial / name)
            save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
            if complete is not None:
                complete(partial)


def embed(folder: Path, texts: Sequence[str], max_tokens: int) -> Tensor:
    """Unit vectors (N, width) of texts from the checkpoint in a folder."""
    return Encoder(folder).embed(texts, max_tokens)


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]


def _rows(encoded: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    """Texts by number, in rows of at most `width` tokens: the longest first, each in the fullest row with room for it."""
    rows: list[list[int]] = []
    by_room: list[list[list[int]]] = [[] for _ in range(width + 1)]
    for number in sorted(range(len(encoded)), key=lambda n: -len(encoded[n])):
        needed = len(encoded[number])
        room = next((free for free in range(needed, width + 1) if by_room[free]), None)
        if room is None:
            row: list[int] = []
            room = width
            rows.append(row)
        else:
            row = by_room[room].pop()
        row.append(number)
        by_room[room - needed].append(row)
    return rows
