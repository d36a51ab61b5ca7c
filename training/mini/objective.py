"""The loss: the right answer among a table's routes and `other`, the right route among a whole batch's, and back."""

# Without PyTorch its classes have no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.mini.batches import Batch
from training.mini.pairs import Pairs

_START_SCALE, _START_OTHER = 20.0, 0.30
_TRANSLATIONS_SCALE = 20.0
_RELATIONS_SCALE = 16.0
# Not minus infinity, whose product with a probability of 0 is no number.
_NEVER = -1e4
N_TOPICS = 4
"""How many things that belong to no route have a vector of their own, such as thanks at the end."""


class Answers(nn.Module):
    """The parameters learned beside the encoder: the scale of the logits, and what `other` scores.

    `other` is as likely as a route of a certain cosine, which grows with the logarithm of the number of routes, or as the
    conversation is near to one of some vectors of its own.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(_START_SCALE).log())
        self.other = nn.Parameter(torch.tensor(_START_OTHER))
        self.other_routes = nn.Parameter(torch.tensor(0.0))
        generator = torch.Generator().manual_seed(5)
        self.topics = nn.Parameter(0.1 * functional.normalize(torch.randn(N_TOPICS, width, generator=generator), dim=-1))


def other_logits(answers: Answers, conversations: Tensor, n_routes: Tensor) -> Tensor:
    """Logits (C) of `other` for unit vectors (C, D) and the number of routes in the table of each (C)."""
    bound = answers.other + answers.other_routes * (n_routes.float() / 8).log()
    own = conversations @ answers.topics.T
    return (answers.log_scale.exp() * torch.cat([bound[:, None], own], dim=1)).logsumexp(1)


def loss_of(conversations: Tensor, routes: Tensor, batch: Batch, answers: Answers) -> tuple[Tensor, float]:
    """The loss of a batch's unit vectors (C, D) and (R, D), and the share of conversations answered rightly."""
    own, foreign = torch.from_numpy(batch.own), torch.from_numpy(batch.foreign)
    target = torch.from_numpy(batch.target)
    n_routes = len(routes)
    cosines = (conversations @ routes.T) * answers.log_scale.exp()
    other = other_logits(answers, conversations, own.sum(1))[:, None]
    logits = torch.cat([cosines, other], dim=1)
    table = logits.masked_fill(functional.pad(~own, (0, 1)), -torch.inf)
    wanted = target.masked_fill(target < 0, n_routes)
    in_table = functional.cross_entropy(table, wanted)
    # Whole other tables as wrong answers teach far more differences than a table alone does.
    asked = target >= 0
    among_all = logits[:, :n_routes].masked_fill(~(own | foreign), -torch.inf)
    in_batch = functional.cross_entropy(among_all[asked], target[asked])
    # A message that belongs nowhere in its table stays below `other` for the routes of other tables too.
    others = functional.cross_entropy(logits.masked_fill(functional.pad(~foreign, (0, 1)), -torch.inf)[~asked], wanted[~asked])
    backwards = _backwards(among_all, target)
    right = float((table.argmax(1) == wanted).float().mean())
    return in_table + 0.5 * in_batch + 0.1 * others.nan_to_num(0.0) + 0.25 * backwards, right


def loss_of_pairs(requests: Tensor, routes: Tensor, pairs: Pairs, answers: Answers) -> Tensor:
    """The loss of unit vectors (N, D) and (N, D): each request's route among all, and each route's request."""
    scores = (requests @ routes.T) * answers.log_scale.exp()
    scores = scores.masked_fill(torch.from_numpy(pairs.open), -torch.inf)
    target = torch.arange(len(scores))
    return functional.cross_entropy(scores, target) + 0.5 * functional.cross_entropy(scores.T, target)


def loss_of_translations(ones: Tensor, others: Tensor) -> Tensor:
    """The loss of unit vectors (N, D) and (N, D) of translations: each one's among all, and that the two are one vector."""
    scores = _TRANSLATIONS_SCALE * ones @ others.T
    target = torch.arange(len(scores))
    apart = (1 - (ones * others).sum(1)).mean()
    return 0.5 * (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) + apart


def loss_of_relations(vectors: Tensor, taught: Tensor) -> Tensor:
    """How far the nearness of unit vectors (N, D) to one another is from that of the teacher's (N, E), in nats.

    Each text has a distribution over the others, by the exponential of its scaled cosines.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool)
    own = (_RELATIONS_SCALE * vectors @ vectors.T).masked_fill(itself, _NEVER).log_softmax(1)
    wanted = (_RELATIONS_SCALE * taught @ taught.T).masked_fill(itself, _NEVER).log_softmax(1)
    return functional.kl_div(own, wanted, reduction="batchmean", log_target=True)


def _backwards(among_all: Tensor, target: Tensor) -> Tensor:
    """For each route the conversations that belong to it, against all that certainly do not."""
    here = target[:, None] == torch.arange(among_all.shape[1])
    asked = here.any(0)
    columns = among_all[:, asked]
    belongs = columns.masked_fill(~here[:, asked], -torch.inf).logsumexp(0)
    return (columns.logsumexp(0) - belongs).mean()
