"""Shared by the trainings on a CPU: a process a core, and whether to compute in bfloat16."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16; one that does not would emulate it, slower than float32."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16"))


def run_workers(work: Callable[..., None], job: Any, workers: int) -> None:
    """Call `work(rank, job)` in processes of one thread each that can average gradients.

    They wait for one another once a step instead of once an operation, which is faster, the more so on a machine that
    has other work.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        mp.start_processes(_join, args=(work, job, workers, meeting), nprocs=workers, start_method="fork")


def _join(rank: int, work: Callable[..., None], job: Any, workers: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    work(rank, job)
    dist.destroy_process_group()


def average_gradients(parameters: Iterable[torch.nn.Parameter], workers: int, longest: float = 1.0) -> None:
    """Replace every worker's gradients by their mean, clipped to the norm `longest`."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(old) for part, old in zip(parts, gradients, strict=True)])
    norm = flat.norm() / workers
    torch._foreach_mul_(gradients, float(min(1.0, longest / (norm + 1e-6))) / workers)
