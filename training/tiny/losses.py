"""The training's losses: the answer's tokens, attention to the position of the answer, and an encoder's vectors."""

# Without PyTorch its classes have no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.tiny.model import Qwen2, RMSNorm
from training.tiny.packing import Batch

Forward = Callable[..., tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]]


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, and of the answers' branch tokens how many there are and how many were right."""

    answer: Tensor
    pointer: Tensor
    sense: Tensor
    branches: Tensor
    right: Tensor


class SenseReader(nn.Module):
    """Reads an encoder's vectors (N, 384) out of states (N, D); it is left behind when the training is over."""

    def __init__(self, width: int, vectors: Tensor) -> None:
        super().__init__()
        self.norm = RMSNorm(width, 1e-6)
        self.map = nn.Linear(width, vectors.shape[1])
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, states: Tensor, rows: Tensor) -> Tensor:
        """One minus the mean cosine between the predictions and the vectors of these rows."""
        if not len(rows):
            return states.sum() * 0.0
        read: Tensor = self.map(self.norm(states))
        return 1 - functional.cosine_similarity(read.float(), self.vectors[rows], dim=-1).mean()


def attention_mask(segments: Tensor) -> Tensor:
    """Additive mask (B, 1, T, T) of segments (B, T): earlier tokens of the table or of the own conversation."""
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    shared = segments[:, None, :] == 0
    same = segments[:, None, :] == segments[:, :, None]
    allowed = earlier & (shared | same)
    mask = torch.zeros(allowed.shape).masked_fill_(~allowed, -1e4)
    return mask[:, None]


def pointer_loss(q: Tensor, k: Tensor, mask: Tensor, index: Tensor, target: Tensor, heads: int) -> Tensor:
    """Mean -log of the attention that the first `heads` heads pay from where a name starts to its route's end.

    q and k are (B, H, T, E); `index` counts through B * T, `target` within a pack.
    """
    length = q.shape[2]
    row, at = index // length, index % length
    scores = torch.einsum("nhe,nhte->nht", q[row, :heads, at], k[row, :heads]).float() * q.shape[-1] ** -0.5
    scores = scores + mask[row, 0, at][:, None]
    return functional.cross_entropy(scores.flatten(0, 1), target.repeat_interleave(heads))


def losses_of(model: Qwen2, forward: Forward, batch: Batch, pointer_heads: int, reader: SenseReader) -> Losses:
    """The losses of a batch; `forward` is the model or its compiled form."""
    segments = torch.from_numpy(batch.segments)
    mask = attention_mask(segments)
    states, pointers, sensed = forward(torch.from_numpy(batch.tokens), torch.from_numpy(batch.positions), mask)
    logits = model.logits(states.flatten(0, 1)[torch.from_numpy(batch.target_index)]).float()
    tokens, weights = torch.from_numpy(batch.target_token), torch.from_numpy(batch.target_weight)
    answer = (functional.cross_entropy(logits, tokens, reduction="none") * weights).sum() / weights.sum()
    index, target = torch.from_numpy(batch.pointer_index), torch.from_numpy(batch.pointer_target)
    pointer = torch.stack([pointer_loss(q, k, mask, index, target, pointer_heads) for q, k in pointers]).mean()
    sense = reader(sensed.flatten(0, 1)[torch.from_numpy(batch.sense_index)], torch.from_numpy(batch.sense_row))
    branch = weights == 1.0
    right = (logits.argmax(-1) == tokens) & branch
    return Losses(answer, pointer, sense, branch.sum(), right.sum())
