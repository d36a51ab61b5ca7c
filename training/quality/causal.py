"""Training of a language model to say marks: from any checkpoint in Qwen2's layout, with tied token vectors."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from training.data_parallel import has_bfloat16
from training.learning_rates import warm_cosine
from training.quality.questions import Question, batches
from training.tiny.checkpoint import read_checkpoint, save_state, write_checkpoint
from training.tiny.model import Qwen2


@dataclass(frozen=True)
class Recipe:
    """Everything beside the data that determines a training's result."""

    steps: int = 1500
    batch_tokens: int = 4096
    seed: int = 31
    rate: float = 3e-4
    weight_decay: float = 0.01
    warmup: float = 0.05
    save_every: int = 100


def train(start: Path, questions: Sequence[Question], out: Path, recipe: Recipe, resume: bool) -> None:
    """Train from the checkpoint `start` into `out`; the state beside `out` is what an interrupted training goes on from."""
    torch.manual_seed(recipe.seed)
    model, tokenizer = read_checkpoint(start)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    stepper = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
    state_file = out.with_name(out.name + ".state.pt")
    first = 0
    if resume:
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        stepper.load_state_dict(state["optimizer"])
        first = state["step"]
    started, mean = time.monotonic(), math.nan
    for step, batch in enumerate(batches(questions, recipe.batch_tokens, recipe.seed, first), first):
        if step >= recipe.steps:
            break
        for group in stepper.param_groups:
            group["lr"] = recipe.rate * warm_cosine(step / recipe.steps, recipe.warmup)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        value = float(loss.detach())
        mean = value if math.isnan(mean) else 0.95 * mean + 0.05 * value
        done = step + 1
        if done % 10 == 0 or done == recipe.steps:
            left = (time.monotonic() - started) / (done - first) * (recipe.steps - done) / 60
            print(f"\rstep {done}/{recipe.steps}  loss {mean:.3f}  {left:.0f} min left ", end="", file=sys.stderr, flush=True)
        if done % recipe.save_every == 0 or done == recipe.steps:
            save_state(state_file, {"model": model.state_dict(), "optimizer": stepper.state_dict(), "step": done})
            write_checkpoint(out, model, tokenizer)
    print(file=sys.stderr)


def loss_of(model: Qwen2, batch: Sequence[Question]) -> Tensor:
    """Mean cross entropy of the answers' tokens, over the whole vocabulary: so that the mark is also what is said first."""
    tokens, positions, mask = padded(batch)
    states, _, _ = model(tokens, positions, mask)
    rows, places, targets = [], [], []
    for row, question in enumerate(batch):
        end = len(question.tokens)
        for place in range(end - question.n_answer, end):
            rows.append(row)
            places.append(place - 1)
            targets.append(question.tokens[place])
    logits = model.logits(states[torch.tensor(rows), torch.tensor(places)])
    return functional.cross_entropy(logits.float(), torch.tensor(targets))


def padded(batch: Sequence[Question]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (B, T), positions (B, T) and the causal mask (1, 1, T, T) of questions, padded behind."""
    longest = max(len(question.tokens) for question in batch)
    tokens = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, question in enumerate(batch):
        tokens[row, : len(question.tokens)] = torch.tensor(question.tokens)
    positions = torch.arange(longest).expand(len(batch), longest)
    mask = torch.full((longest, longest), -math.inf).triu(1)[None, None]
    return tokens, positions, mask
