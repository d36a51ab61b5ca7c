"""The training loop: fixed seeds, progress with the time left, resumable at any step."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.data_parallel import average_gradients, has_bfloat16, run_workers
from training.tiny.checkpoint import save_state, write_checkpoint
from training.tiny.losses import Forward, Losses, SenseReader, losses_of
from training.tiny.model import Qwen2, Shape
from training.tiny.muon import Muon
from training.tiny.packing import Batch, Packer
from training.tiny.sampling import Sampler
from training.tiny.stream import batches
from training.tiny.teacher import Lessons
from training.tiny.wiring import marks_of, wire


@dataclass(frozen=True)
class Recipe:
    """Everything beside the data that determines a training's result."""

    steps: int = 4000
    workers: int = 2
    packs: int = 12
    length: int = 512
    seed: int = 20
    matrix_rate: float = 0.01
    embedding_rate: float = 0.001
    other_rate: float = 0.002
    weight_decay: float = 0.02
    warmup: int = 30
    full_from: float = 0.75
    pointer_layers: tuple[int, ...] = (2, 3)
    pointer_heads: int = 1
    pointer_weight: float = 0.6
    sense_layer: int = 2
    sense_weight: float = 0.6
    save_every: int = 150


def optimizers(model: Qwen2, reader: SenseReader, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest; a group's `rate` is its highest."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    others = [
        {"params": [model.model.embed_tokens.weight], "rate": recipe.embedding_rate},
        {"params": vectors, "rate": recipe.other_rate},
        {"params": list(reader.parameters()), "rate": recipe.other_rate},
    ]
    return [
        Muon([{"params": matrices, "rate": recipe.matrix_rate}], lr=recipe.matrix_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.other_rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def rate(step: int, recipe: Recipe) -> float:
    """Factor of the learning rates: a linear warm-up, a plateau, and a linear way down over the last 45 %."""
    progress = step / recipe.steps
    return min(1.0, (step + 1) / recipe.warmup) * (1.0 if progress < 0.55 else max(0.02, (1.0 - progress) / 0.45))


@dataclass
class Averages:
    """Running means for the progress line."""

    answer: float = math.nan
    pointer: float = math.nan
    sense: float = math.nan
    right: float = math.nan

    def add(self, losses: Losses) -> None:
        """Fold one step's figures in."""
        figures = {name: float(getattr(losses, name).detach()) for name in ("answer", "pointer", "sense")}
        figures["right"] = float(losses.right) / max(1, int(losses.branches))
        for name, value in figures.items():
            old = getattr(self, name)
            setattr(self, name, value if math.isnan(old) else 0.97 * old + 0.03 * value)


@dataclass(frozen=True)
class Job:
    """A training: data, tokenizer, the checkpoint's folder, and how its quality is watched (on stderr)."""

    sampler: Sampler
    tokenizer: Tokenizer
    out: Path
    recipe: Recipe
    resume: bool
    validate: Callable[[Qwen2], str]
    lessons: Lessons
    vectors: Tensor | None = None

    @property
    def state_file(self) -> Path:
        """Where the state stands from which an interrupted training goes on."""
        return self.out.with_name(self.out.name + ".state.pt")


def train(job: Job) -> None:
    """Train and write the checkpoint, one process a core: each takes its share of every batch."""
    run_workers(_work, job, job.recipe.workers)


def _work(rank: int, job: Job) -> None:
    recipe = job.recipe
    torch.manual_seed(recipe.seed)
    model = Qwen2(Shape(vocab_size=job.tokenizer.get_vocab_size()), recipe.pointer_layers, recipe.sense_layer)
    reader = SenseReader(model.shape.hidden_size, job.lessons.vectors)
    if job.vectors is not None:
        wire(model, job.vectors, marks_of(job.tokenizer), recipe.seed)
    steppers = optimizers(model, reader, recipe)
    first = 0
    if job.resume:
        state = torch.load(job.state_file, weights_only=True)
        model.load_state_dict(state["model"])
        reader.load_state_dict(state["reader"])
        for stepper, saved in zip(steppers, state["optimizers"], strict=True):
            stepper.load_state_dict(saved)
        first = state["step"]
    forward = torch.compile(model, dynamic=False)
    packer, means, started = Packer(job.tokenizer, job.lessons.rows), Averages(), time.monotonic()
    shape = (recipe.packs // recipe.workers, recipe.length)
    span = (first, recipe.steps)
    for step, batch in batches(job.sampler, packer, shape, recipe.seed, span, recipe.full_from, rank):
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = group["rate"] * rate(step, recipe)
        losses = _step(model, reader, forward, batch, steppers, recipe)
        if rank:
            continue
        means.add(losses)
        _report(step + 1, first, started, means, recipe)
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            _save(job, model, reader, steppers, step + 1)


def _save(job: Job, model: Qwen2, reader: SenseReader, steppers: list[torch.optim.Optimizer], step: int) -> None:
    state = {
        "model": model.state_dict(),
        "reader": reader.state_dict(),
        "optimizers": [stepper.state_dict() for stepper in steppers],
        "step": step,
    }
    save_state(job.state_file, state)
    write_checkpoint(job.out, model, job.tokenizer)
    print(f"\n  saved {job.out} after step {step}: {job.validate(model)}", file=sys.stderr, flush=True)


def _step(
    model: Qwen2,
    reader: SenseReader,
    forward: Forward,
    batch: Batch,
    steppers: list[torch.optim.Optimizer],
    recipe: Recipe,
) -> Losses:
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
        losses = losses_of(model, forward, batch, recipe.pointer_heads, reader)
    (losses.answer + recipe.pointer_weight * losses.pointer + recipe.sense_weight * losses.sense).backward()
    average_gradients([*model.parameters(), *reader.parameters()], recipe.workers)
    for stepper in steppers:
        stepper.step()
        stepper.zero_grad(set_to_none=True)
    return losses


def _report(step: int, first: int, started: float, means: Averages, recipe: Recipe) -> None:
    if step % 10 and step != recipe.steps:
        return
    pace = (time.monotonic() - started) / (step - first)
    left = pace * (recipe.steps - step) / 60
    print(
        f"\rstep {step}/{recipe.steps}  answer {means.answer:.3f}  pointer {means.pointer:.3f}  sense {means.sense:.3f}"
        f"  branch tokens right {means.right:.1%}  {pace:.2f} s a step, {left:.0f} min left ",
        end="",
        file=sys.stderr,
        flush=True,
    )
