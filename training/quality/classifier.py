"""Training of a whole encoder with a last layer that tells win, tie and loss apart."""

# Without PyTorch its classes have no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional

from archroute_edge.quality import Battles, Labels, LastLayer, labels_of
from training.data_parallel import has_bfloat16
from training.learning_rates import warm_cosine
from training.mini.embedding import Encoder
from training.tiny.checkpoint import save_state

LAST_LAYER = "last_layer.safetensors"
"""Beside a checkpoint: weights, bias and threshold."""
_MODELS = "models.json"


@dataclass(frozen=True)
class Recipe:
    """Everything beside the data that determines a training's result."""

    steps: int = 1000
    prompts: int = 24
    max_tokens: int = 256
    frozen_layers: int = 3
    seed: int = 37
    rate: float = 5e-5
    last_rate: float = 3e-3
    weight_decay: float = 0.01
    last_decay: float = 0.1
    warmup: float = 0.06
    save_every: int = 100


class Head(torch.nn.Module):
    """Strengths of k models from unit vectors, and the width of ties."""

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(width, k)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)
        self.log_threshold = torch.nn.Parameter(torch.zeros(()))

    def loss(self, vectors: Tensor, place: Tensor, labels: Labels) -> Tensor:
        """Mean negative log likelihood of battles on prompts, whose vectors stand at ``place``."""
        strengths = self.linear(vectors.float())
        rows = torch.arange(len(labels))
        of_battle = strengths[place]
        low, high = torch.from_numpy(labels.low), torch.from_numpy(labels.high)
        ahead = of_battle[rows, low] - of_battle[rows, high]
        threshold = self.log_threshold.exp()
        wins, ties, losses = torch.from_numpy(labels.shares).float().T
        tie = functional.logsigmoid(ahead + threshold) + functional.logsigmoid(threshold - ahead)
        tie = tie + torch.log(-torch.expm1(-2 * threshold))
        said = wins * functional.logsigmoid(ahead - threshold) + losses * functional.logsigmoid(-ahead - threshold)
        return -(said + ties * tie).sum() / torch.from_numpy(labels.shares).float().sum()

    def layer(self) -> LastLayer:
        """As a predictor has it."""
        threshold = float(np.clip(math.exp(float(self.log_threshold.detach())), 1e-3, 20.0))
        bias = self.linear.bias.detach().double().numpy().copy()
        return LastLayer(self.linear.weight.detach().float().numpy().copy(), bias, threshold)


def train(start: Path, texts: Sequence[str], battles: Battles, out: Path, recipe: Recipe, resume: bool) -> None:
    """Train from the checkpoint `start` into `out`.

    Args:
        start: in sentence-transformers' layout, as training.mini writes it.
        texts: of the battles' prompts, as the encoder is given them.
        battles: what to learn from.
        out: the folder of the checkpoint and its last layer; the state beside it is what a training goes on from.
        recipe: see there.
        resume: go on from that state.
    """
    torch.manual_seed(recipe.seed)
    encoder = Encoder(start)
    encoder.model.requires_grad_(False)
    for each in encoder.model.encoder.layer[recipe.frozen_layers :]:
        each.requires_grad_(True)
    head = Head(encoder.width, len(battles.models))
    layers = [parameter for parameter in encoder.model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in layers if each.ndim > 1], "rate": recipe.rate, "weight_decay": recipe.weight_decay},
        {"params": [each for each in layers if each.ndim == 1], "rate": recipe.rate, "weight_decay": 0.0},
        {"params": list(head.parameters()), "rate": recipe.last_rate, "weight_decay": recipe.last_decay},
    ]
    stepper = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
    state_file = out.with_name(out.name + ".state.pt")
    first = 0
    if resume:
        state = torch.load(state_file, weights_only=True)
        encoder.model.load_state_dict(state["encoder"])
        head.load_state_dict(state["head"])
        stepper.load_state_dict(state["optimizer"])
        first = state["step"]
    labels = labels_of(battles)
    # Where each prompt's battles begin: they are sorted by prompt.
    begins = np.searchsorted(labels.prompt, np.arange(len(texts) + 1))
    fought = np.flatnonzero(np.diff(begins) > 0)
    started, mean = time.monotonic(), math.nan
    for step in range(first, recipe.steps):
        drawn = np.random.default_rng((recipe.seed, step)).choice(fought, min(recipe.prompts, len(fought)), replace=False)
        rows = np.concatenate([np.arange(begins[each], begins[each + 1]) for each in drawn])
        place = np.repeat(np.arange(len(drawn)), begins[drawn + 1] - begins[drawn])
        for group in stepper.param_groups:
            group["lr"] = group["rate"] * warm_cosine(step / recipe.steps, recipe.warmup)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            vectors = encoder.vectors([texts[each] for each in drawn], recipe.max_tokens)
        loss = head.loss(vectors, torch.from_numpy(place), labels.rows(rows))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*layers, *head.parameters()], 1.0)
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        value = float(loss.detach())
        mean = value if math.isnan(mean) else 0.95 * mean + 0.05 * value
        done = step + 1
        if done % 10 == 0 or done == recipe.steps:
            left = (time.monotonic() - started) / (done - first) * (recipe.steps - done) / 60
            print(f"\rstep {done}/{recipe.steps}  loss {mean:.3f}  {left:.0f} min left ", end="", file=sys.stderr, flush=True)
        if done % recipe.save_every == 0 or done == recipe.steps:
            state = {"encoder": encoder.model.state_dict(), "head": head.state_dict()}
            save_state(state_file, {**state, "optimizer": stepper.state_dict(), "step": done})
            encoder.write(out)
            write_layer(out, head.layer(), battles.models)
    print(file=sys.stderr)


def write_layer(folder: Path, layer: LastLayer, models: Sequence[str]) -> None:
    """Write a last layer beside its encoder's checkpoint."""
    tensors: dict[str, npt.NDArray[np.float64]] = {
        "weights": layer.weights.astype(np.float64),
        "bias": layer.bias,
        "threshold": np.array([layer.threshold]),
    }
    save_file(tensors, folder / LAST_LAYER)
    (folder / _MODELS).write_text(json.dumps(list(models), ensure_ascii=False) + "\n", encoding="utf-8")


def read_layer(folder: Path) -> tuple[LastLayer, tuple[str, ...]]:
    """The last layer beside a checkpoint, and the models it knows."""
    tensors = load_file(folder / LAST_LAYER)
    models = tuple(json.loads((folder / _MODELS).read_text(encoding="utf-8")))
    return LastLayer(tensors["weights"].astype(np.float32), tensors["bias"], float(tensors["threshold"][0])), models
