"""A first guess of the token embeddings: bags of tokens in which messages lie near what their kind is called.

The texts are as they stand in a prompt; tokens of its markup mean nothing. This costs a minute and saves the
transformer from finding out what words mean while it learns how to compare.
"""

# Without PyTorch its classes have no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from tools.tiny import card_prompt
from tools.tiny.conversations import of_kind
from tools.tiny.kinds_bank import Kind
from tools.tiny.noise import STYLES, restyle


class _Bags(nn.Module):
    """Weighted means of token vectors."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.EmbeddingBag(entries, width, mode="sum")
        self.weights = nn.Embedding(entries, 1)
        nn.init.normal_(self.vectors.weight, std=0.05)
        nn.init.zeros_(self.weights.weight)

    def forward(self, bags: Sequence[Sequence[int]]) -> Tensor:
        """Vectors (N, D) of N bags, each half of which is a unit vector."""
        flat = torch.tensor([token for bag in bags for token in bag])
        offsets = torch.tensor([0, *(len(bag) for bag in bags[:-1])]).cumsum(0)
        weights = functional.softplus(self.weights(flat)).squeeze(-1)
        sums = self.vectors(flat, offsets, per_sample_weights=weights)
        return functional.normalize(sums.unflatten(-1, (2, -1)), dim=-1)


def _apart(first: Tensor, second: Tensor, target: Tensor) -> Tensor:
    scores = functional.normalize(first, dim=-1) @ functional.normalize(second, dim=-1).T
    return functional.cross_entropy(scores * 14.0, target, label_smoothing=0.05)


def _message(kind: Kind, rng: random.Random) -> str:
    return card_prompt.conversation(of_kind(kind, None, rng, held=False))


def _label(kind: Kind, rng: random.Random) -> str:
    name, description = restyle(rng.choice(kind.names), rng.choice(STYLES)), rng.choice(kind.descriptions)
    return json.dumps({"name": name, "description": rng.choice([description, description, ""])}) + ","


def markup_tokens(tokenizer: Tokenizer) -> set[int]:
    """Ids of the tokens that hold a prompt's JSON together."""
    routes = [{"name": "", "description": "1"}, {"name": "1", "description": "1."}, {"name": "1", "description": "1?"}]
    turns = [{"role": role, "content": end} for role in ("user", "assistant") for end in ("1", "1.", "1?", "1!")]
    texts = [card_prompt.head(routes[:2])[0], card_prompt.head(routes)[0]]
    texts += [card_prompt.conversation(turns[: n + 1]) for n in range(len(turns))]
    ones = set(tokenizer.encode("1 1").ids)
    return {token for text in texts for token in tokenizer.encode(text).ids} - ones


def learn_vectors(kinds: Sequence[Kind], tokenizer: Tokenizer, width: int, steps: int, seed: int) -> Tensor:
    """Token vectors (V, D), each the more salient the longer it is; the mean length is 1.

    Either half of the numbers tells kinds apart on its own.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    markup = markup_tokens(tokenizer)
    bags = _Bags(tokenizer.get_vocab_size(), width)
    optimizer = torch.optim.AdamW(bags.parameters(), lr=0.01, weight_decay=0.01)
    right = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - 0.9 * step / steps)
        chosen = rng.sample(kinds, min(160, len(kinds)))
        texts = [_message(k, rng) for k in chosen] + [_message(k, rng) for k in chosen] + [_label(k, rng) for k in chosen]
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
        vectors = bags([[token for token in e.ids if token not in markup] or [0] for e in encoded])
        first, second, labels = vectors.split(len(chosen))
        target = torch.arange(len(chosen))
        pairs = [(first, labels), (labels, first), (second, labels), (first, second)]
        losses = [_apart(a[:, half], b[:, half], target) for a, b in pairs for half in (0, 1)]
        losses += [_apart(a.flatten(1), b.flatten(1), target) for a, b in pairs]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        right = 0.98 * right + 0.02 * float(((second.flatten(1) @ labels.flatten(1).T).argmax(-1) == target).float().mean())
        if step % 50 == 49:
            print(f"\rword vectors: step {step + 1}/{steps}, right {right:.1%} ", end="", file=sys.stderr, flush=True)
    with torch.no_grad():
        salient = bags.vectors.weight * functional.softplus(bags.weights.weight)
        salient[sorted(markup)] = 0.0
        return salient / salient.norm(dim=-1).mean()
