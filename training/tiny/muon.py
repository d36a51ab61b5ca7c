"""The Muon optimiser (Keller Jordan, 2024, https://kellerjordan.github.io/posts/muon/) in float32, distributed over workers.

PyTorch's own orthogonalises in bfloat16, which a CPU without such instructions emulates at a fraction of the speed, and every
worker repeats it. Here matrices of one shape are orthogonalised in one batch, and each worker does its share.
"""

# Without PyTorch its classes have no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Coefficients of the quintic iteration, from the source above: singular values end between about 0.7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 4
_MOMENTUM = 0.95


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (N, rows, columns) with their singular values brought near 1."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised, for matrices whose gradients are the same in every worker."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float) -> None:
        super().__init__(list(groups), {"lr": lr, "weight_decay": weight_decay})

    def step(self, closure: None = None) -> None:
        """Update every matrix: Nesterov momentum, orthogonalised, scaled by the root of rows over columns where tall."""
        with torch.no_grad():
            for group in self.param_groups:
                by_shape: dict[torch.Size, list[Tensor]] = {}
                for matrix in group["params"]:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
                for matrices in by_shape.values():
                    directions = _shared_out(self._updates(matrices))
                    rows, columns = matrices[0].shape
                    scale = max(1.0, rows / columns) ** 0.5
                    for matrix, direction in zip(matrices, directions, strict=True):
                        matrix.mul_(1.0 - group["lr"] * group["weight_decay"])
                        matrix.add_(direction, alpha=-group["lr"] * scale)

    def _updates(self, matrices: list[Tensor]) -> Tensor:
        updates = []
        for matrix in matrices:
            assert matrix.grad is not None
            state = self.state[matrix]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(matrix)
            state["momentum"].lerp_(matrix.grad, 1.0 - _MOMENTUM)
            updates.append(matrix.grad.lerp(state["momentum"], _MOMENTUM))
        return torch.stack(updates)


def _shared_out(updates: Tensor) -> Tensor:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return orthogonalised(updates)
    workers, rank = dist.get_world_size(), dist.get_rank()
    share = -(-len(updates) // workers)
    padded = torch.zeros(share * workers, *updates.shape[1:])
    padded[: len(updates)] = updates
    done = orthogonalised(padded[rank * share : (rank + 1) * share]).contiguous()
    parts = [torch.empty_like(done) for _ in range(workers)]
    dist.all_gather(parts, done)
    return torch.cat(parts)[: len(updates)]
