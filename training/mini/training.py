"""The fine-tuning: fixed seeds, progress with the time left, resumable at any save."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from training.data_parallel import average_gradients, has_bfloat16, run_workers
from training.learning_rates import warm_cosine
from training.mini.batches import Batch, Shape, batches
from training.mini.embedding import Encoder
from training.mini.languages import LanguageSampler
from training.mini.objective import Answers, loss_of, loss_of_pairs, loss_of_relations, loss_of_translations
from training.mini.pairs import Pairs
from training.mini.tables import TableSampler
from training.mini.teacher import Teacher
from training.tiny.checkpoint import save_state

CONVERSATION_TOKENS = 128
ROUTE_TOKENS = 48
FROZEN_LAYERS = 3
ANSWERS = "answers.pt"
"""Beside a checkpoint: the parameters learned beside the encoder."""
_SHAPE: Final = Shape(tables=2, conversations=9, foreign_tables=1, foreign_conversations=12, pairs=64, translations=8)


@dataclass(frozen=True)
class Recipe:
    """Everything beside the data that determines a training's result; `minutes`, if given, determine the steps."""

    steps: int = 1400
    minutes: float | None = None
    workers: int = 2
    shape: Shape = _SHAPE
    pairs_weight: float = 1.0
    foreign_weight: float = 0.7
    translations_weight: float = 0.5
    relations_weight: float = 1.5
    seed: int = 23
    rate: float = 1.5e-4
    answer_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.06
    save_every: int = 50


ADDED = Recipe(steps=275, rate=8e-5, seed=29)
"""What follows on a training that held things out: everything, in fewer and smaller steps."""


@dataclass(frozen=True)
class Job:
    """A training from the encoder in `start` to a checkpoint in `out`."""

    sampler: TableSampler
    languages: LanguageSampler
    start: Path
    out: Path
    recipe: Recipe
    resume: bool

    @property
    def state_file(self) -> Path:
        """Where the state stands from which an interrupted training goes on."""
        return self.out.with_name(self.out.name + ".state.pt")


def train(job: Job) -> None:
    """Train and write the checkpoint, one process a core: each takes its share of every batch."""
    run_workers(_work, job, job.recipe.workers)


def _trainable(encoder: Encoder) -> list[torch.nn.Parameter]:
    """The upper layers.

    The token vectors stay: most tokens are in none of the data, and as published they fit Q4_0 exactly. The lowest layers stay,
    too: there words of different languages meet, and a step takes a sixth less time without them.
    """
    encoder.model.requires_grad_(False)
    for layer in encoder.model.encoder.layer[FROZEN_LAYERS:]:
        layer.requires_grad_(True)
    return [p for p in encoder.model.parameters() if p.requires_grad]


def _work(rank: int, job: Job) -> None:
    recipe = job.recipe
    torch.manual_seed(recipe.seed)
    encoder = Encoder(job.start)
    answers = Answers(encoder.width)
    if (job.start / ANSWERS).is_file():
        answers.load_state_dict(torch.load(job.start / ANSWERS, weights_only=True))
    teacher = Teacher(max_tokens=CONVERSATION_TOKENS) if recipe.relations_weight else None
    layers = _trainable(encoder)
    groups = [
        {"params": [p for p in layers if p.ndim > 1], "rate": recipe.rate, "weight_decay": recipe.weight_decay},
        {"params": [p for p in layers if p.ndim == 1], "rate": recipe.rate, "weight_decay": 0.0},
        {"params": list(answers.parameters()), "rate": recipe.answer_rate, "weight_decay": 0.0},
    ]
    stepper = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)
    first, before = 0, 0.0
    if job.resume:
        state = torch.load(job.state_file, weights_only=True)
        encoder.model.load_state_dict(state["encoder"])
        answers.load_state_dict(state["answers"])
        stepper.load_state_dict(state["optimizer"])
        first, before = state["step"], state["seconds"]
    watch = _Watch(recipe, first, before)
    trained = [*layers, *answers.parameters()]
    span = (first, recipe.steps if recipe.minutes is None else sys.maxsize)
    for step, drawn in enumerate(batches(job.sampler, job.languages, recipe.shape, recipe.seed, span, rank), first):
        progress = watch.progress(step)
        for group in stepper.param_groups:
            group["lr"] = group["rate"] * warm_cosine(progress, recipe.warmup)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            # Each part's graph is freed before the next one is computed.
            loss, taught, right = _loss(encoder, answers, drawn.tables, teacher)
            (loss + recipe.relations_weight * taught).backward()
            for batch in drawn.foreign:
                foreign, _, _ = _loss(encoder, answers, batch, None)
                (recipe.foreign_weight / len(drawn.foreign) * foreign).backward()
            pairs, taught = _loss_of_pairs(encoder, answers, drawn.pairs, teacher if drawn.pairs_are_english else None)
            (recipe.pairs_weight * pairs + recipe.relations_weight * taught).backward()
            (recipe.translations_weight * _loss_of_translations(encoder, drawn.translations)).backward()
        average_gradients(trained, recipe.workers)
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        finished = step + 1 == recipe.steps if recipe.minutes is None else watch.progress(step + 1) >= 1.0
        if rank == 0:
            watch.report(step + 1, float(loss.detach()), right, answers)
            if finished or (step + 1) % recipe.save_every == 0:
                _save(job, encoder, answers, stepper, step + 1, watch.seconds())
        if finished:
            break


def _loss(encoder: Encoder, answers: Answers, batch: Batch, teacher: Teacher | None) -> tuple[Tensor, Tensor, float]:
    """Of one table: the loss, how far from the teacher it is, and the share of conversations answered rightly."""
    conversations = encoder.vectors(batch.conversations, CONVERSATION_TOKENS)
    routes = encoder.vectors(batch.routes, ROUTE_TOKENS)
    with torch.autocast("cpu", enabled=False):
        loss, right = loss_of(conversations.float(), routes.float(), batch, answers)
        return loss, _taught(teacher, [*batch.conversations, *batch.routes], torch.cat([conversations, routes])), right


def _loss_of_pairs(encoder: Encoder, answers: Answers, pairs: Pairs, teacher: Teacher | None) -> tuple[Tensor, Tensor]:
    requests = encoder.vectors(pairs.requests, ROUTE_TOKENS)
    routes = encoder.vectors(pairs.routes, ROUTE_TOKENS)
    with torch.autocast("cpu", enabled=False):
        loss = loss_of_pairs(requests.float(), routes.float(), pairs, answers)
        return loss, _taught(teacher, [*pairs.requests, *pairs.routes], torch.cat([requests, routes]))


def _taught(teacher: Teacher | None, texts: list[str], vectors: Tensor) -> Tensor:
    """How far from the teacher's the nearness of texts is; each text once, since two of one text would be nearest by far."""
    if teacher is None:
        return torch.zeros(())
    place = {text: row for row, text in reversed(list(enumerate(texts)))}
    rows = sorted(place.values())
    return loss_of_relations(vectors[rows].float(), teacher.vectors([texts[row] for row in rows]))


def _loss_of_translations(encoder: Encoder, texts: tuple[list[str], list[str]]) -> Tensor:
    ones, others = (encoder.vectors(side, ROUTE_TOKENS) for side in texts)
    with torch.autocast("cpu", enabled=False):
        return loss_of_translations(ones.float(), others.float())


def _save(job: Job, encoder: Encoder, answers: Answers, stepper: torch.optim.Optimizer, step: int, seconds: float) -> None:
    state: dict[str, Any] = {
        "encoder": encoder.model.state_dict(),
        "answers": answers.state_dict(),
        "optimizer": stepper.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    save_state(job.state_file, state)
    encoder.write(job.out, lambda folder: torch.save(answers.state_dict(), folder / ANSWERS))


class _Watch:
    """Where a training stands: by steps, or by the clock of the first worker, which all share."""

    def __init__(self, recipe: Recipe, first: int, before: float) -> None:
        self.recipe, self.first, self.before = recipe, first, before
        self.started = time.monotonic()
        self.loss = self.right = math.nan

    def seconds(self) -> float:
        """The time spent in training, earlier runs included."""
        return self.before + time.monotonic() - self.started

    def progress(self, step: int) -> float:
        """The part of the training that is done before `step`."""
        if self.recipe.minutes is None:
            return step / self.recipe.steps
        part = torch.tensor(self.seconds() / 60 / self.recipe.minutes)
        dist.broadcast(part, 0)
        return float(part)

    def report(self, step: int, loss: float, right: float, answers: Answers) -> None:
        """A line on stderr, every tenth step."""
        for name, value in (("loss", loss), ("right", right)):
            old = getattr(self, name)
            setattr(self, name, value if math.isnan(old) else 0.97 * old + 0.03 * value)
        if step % 10:
            return
        pace = (time.monotonic() - self.started) / (step - self.first)
        if self.recipe.minutes is None:
            left = pace * (self.recipe.steps - step) / 60
        else:
            left = self.recipe.minutes - self.seconds() / 60
        scale, other = float(answers.log_scale.detach().exp()), float(answers.other.detach())
        print(
            f"\rstep {step}  loss {self.loss:.3f}  right {self.right:.1%}  scale {scale:.1f}, other {other:.3f}"
            f"  {pace:.2f} s a step, {max(0.0, left):.0f} min left ",
            end="",
            file=sys.stderr,
            flush=True,
        )
