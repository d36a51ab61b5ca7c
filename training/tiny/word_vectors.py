"""Initial token embeddings: bags of tokens in which messages lie close to the names of their kinds.

A token's vector is a map of the published sentence encoder's vector of the token's text, the same map for all, plus a small
part of its own. So words that hardly occur in training lie close to their neighbours in meaning. Texts are taken as they stand
in a prompt; tokens of its markup mean nothing. This costs two minutes and saves the transformer from finding out the meaning of
words while it learns to compare.
"""

# Without PyTorch its classes have no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from training.mini.embedding import embed
from training.tiny import card_prompt
from training.tiny.conversations import of_kind
from training.tiny.kinds_bank import Kind
from training.tiny.noise import STYLES, restyle

_TOKEN_LENGTH = 16


class _Bags(nn.Module):
    """Weighted means of token vectors, made of the tokens' meanings (V, M)."""

    def __init__(self, meanings: Tensor, width: int) -> None:
        super().__init__()
        self.meanings = meanings
        _, _, directions = torch.linalg.svd(meanings, full_matrices=False)
        self.map = nn.Parameter(2.0 * directions[:width].T.clone())
        self.own = nn.Parameter(0.02 * torch.randn(len(meanings), width))
        self.weight_map = nn.Parameter(torch.zeros(meanings.shape[1], 1))
        self.own_weight = nn.Parameter(torch.zeros(len(meanings), 1))

    def table(self) -> Tensor:
        """Every token's vector (V, D), as long as it is salient."""
        weights = functional.softplus(self.meanings @ self.weight_map + self.own_weight)
        return (self.meanings @ self.map + self.own) * weights

    def forward(self, bags: Sequence[Sequence[int]]) -> Tensor:
        """Vectors (N, 2, D / 2) of N bags: unit vectors, two for each."""
        flat = torch.tensor([token for bag in bags for token in bag])
        offsets = torch.tensor([0, *(len(bag) for bag in bags[:-1])]).cumsum(0)
        sums = functional.embedding_bag(flat, self.table(), offsets, mode="sum")
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


def meanings_of(tokenizer: Tokenizer, encoder: Path) -> Tensor:
    """The encoder's vectors of every token's text (V, 384), around their mean."""
    texts = [tokenizer.decode([token]).strip() or "." for token in range(tokenizer.get_vocab_size())]
    vectors = embed(encoder, texts, _TOKEN_LENGTH)
    return vectors - vectors.mean(0)


def learn_vectors(kinds: Sequence[Kind], tokenizer: Tokenizer, meanings: Tensor, width: int, steps: int, seed: int) -> Tensor:
    """Token vectors (V, D), each the more salient the longer it is; the mean length is 1.

    Either half of the numbers tells kinds apart on its own.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    markup = markup_tokens(tokenizer)
    bags = _Bags(meanings, width)
    shared, own = [bags.map, bags.weight_map], [bags.own, bags.own_weight]
    optimizer = torch.optim.AdamW(
        [{"params": shared, "rate": 0.003, "weight_decay": 0.01}, {"params": own, "rate": 0.01, "weight_decay": 0.3}]
    )
    right = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * (1 - 0.9 * step / steps)
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
        salient = bags.table()
        salient[sorted(markup)] = 0.0
        return salient / salient.norm(dim=-1).mean()
