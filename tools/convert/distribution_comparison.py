"""Two models on the same routing prompts: the distance of their next-token distributions, and their decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.decoding import AnswerSet, KVCache, SpeculativeDecoder
from archroute_edge.engine import EngineSettings, LoadedModel, open_engine, physical_cores
from archroute_edge.errors import QuantizationError
from archroute_edge.models import AUTO
from tools.convert.routing_prompts import RoutingCase, prompt_builder, tokenize_cases

_CELLS_BESIDE_THE_PROMPTS: Final = 256

Progress = Callable[[int, int], None]
"""Called with prompts done and prompts in all."""


@dataclass(frozen=True)
class Observation:
    """A model's results on a prompt: the route it decides, and the natural logarithms of the next-token probabilities
    after the prompt and after each token of the right answer but its last, (tokens of the answer, vocabulary).
    """

    prompt: tuple[int, ...]
    route: str
    log_probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class DistributionComparison:
    """Kullback-Leibler divergences from the reference's distributions to the model's, in nats, over ``n_positions``."""

    n_prompts: int
    n_positions: int
    mean_kl: float
    kl_99: float
    largest_kl: float
    equal_decisions: float
    right_decisions: float
    reference_right_decisions: float


def observe(
    model: Path | LoadedModel,
    cases: Sequence[RoutingCase],
    *,
    prompt_format: str = AUTO,
    threads: int | None = None,
    on_progress: Progress = lambda done, total: None,
) -> list[Observation]:
    """Run a model, or the one in a file, on ``cases``.

    Raises:
        ModelError: it cannot be loaded.
        PromptFormatError: its chat template cannot carry a routing prompt.
        EngineError: the library that has its weights failed.
    """
    observations = []
    with LoadedModel(model, n_gpu_layers=0) if isinstance(model, Path) else nullcontext(model) as loaded:
        builder = prompt_builder(loaded, prompt_format)
        prompts = tokenize_cases(loaded, builder, list(cases))
        n_ctx = 2 * max(len(each.prompt) + len(each.answer) for each in prompts) + _CELLS_BESIDE_THE_PROMPTS
        with closing(open_engine(loaded, EngineSettings(n_ctx, threads or physical_cores()))) as engine:
            cache = KVCache(engine)
            for done, each in enumerate(prompts, 1):
                answers = AnswerSet(loaded.vocabulary, builder.answers(each.case.table))
                with cache.working(each.prompt, builder.static_parts(each.case.table), keep=False) as (work, _):
                    decoded = SpeculativeDecoder().decode(work, each.prompt[work.n_tokens :], answers)
                    work.truncate(len(each.prompt) - 1)
                    tokens = [each.prompt[-1], *each.answer[:-1]]
                    rows = work.extend(tokens, range(len(tokens)))
                observations.append(Observation(tuple(each.prompt), decoded.route, log_softmax(rows)))
                on_progress(done, len(prompts))
    return observations


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of each row, computed in double precision."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: npt.NDArray[np.float32] = (wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))).astype(np.float32)
    return result


def divergences(reference: npt.NDArray[np.float32], model: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """KL(reference || model) of each row of natural log probabilities, in nats; rounding below 0 is cut off."""
    wide = reference.astype(np.float64)
    found: npt.NDArray[np.float64] = (np.exp(wide) * (wide - model)).sum(axis=-1)
    return np.maximum(found, 0.0)


def compare_distributions(
    model: Sequence[Observation], reference: Sequence[Observation], cases: Sequence[RoutingCase]
) -> DistributionComparison:
    """Compare two models' results on the same cases.

    Raises:
        QuantizationError: their tokenizers or templates give different tokens, so nothing can be compared.
    """
    for one, two in zip(model, reference, strict=True):
        if one.prompt != two.prompt or one.log_probabilities.shape != two.log_probabilities.shape:
            raise QuantizationError("both models write the same prompt in other tokens, so they are not of one origin")
    pairs = list(zip(model, reference, strict=True))
    kl = np.concatenate([divergences(two.log_probabilities, one.log_probabilities) for one, two in pairs])
    return DistributionComparison(
        n_prompts=len(pairs),
        n_positions=len(kl),
        mean_kl=float(kl.mean()),
        kl_99=float(np.quantile(kl, 0.99)),
        largest_kl=float(kl.max()),
        equal_decisions=_share(one.route == two.route for one, two in pairs),
        right_decisions=_share(each.route == case.route for each, case in zip(model, cases, strict=True)),
        reference_right_decisions=_share(each.route == case.route for each, case in zip(reference, cases, strict=True)),
    )


def _share(found: Iterable[bool]) -> float:
    return float(np.mean(list(found)))
