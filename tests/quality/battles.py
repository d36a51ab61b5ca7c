"""Battles and prompts made up for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._outcomes import Battles, Outcomes, Prompt
from archroute_edge.quality._predictor import PromptFeatures

MODELS = ("small", "middle", "large")


def prompts(n: int) -> tuple[Prompt, ...]:
    return tuple(Prompt(f"p{number}", f"prompt number {number}") for number in range(n))


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    scaled: npt.NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def features(n: int, d: int = 16, seed: int = 0) -> PromptFeatures:
    vectors = unit(np.random.default_rng(seed).standard_normal((n, d)))
    return PromptFeatures(tuple(prompt.messages for prompt in prompts(n) if isinstance(prompt.messages, str)), vectors)


def of_vectors(vectors: npt.NDArray[np.floating]) -> PromptFeatures:
    return PromptFeatures(tuple(str(number) for number in range(len(vectors))), vectors.astype(np.float32))


def battles(n: int, per_prompt: int = 4, models: tuple[str, ...] = MODELS, seed: int = 1, d: int = 16) -> Battles:
    """Later models are stronger, and more so on prompts whose vector by :func:`features` begins with a large number."""
    draw = np.random.default_rng(seed)
    k = len(models)
    vectors = features(n, d).vectors
    assert vectors is not None
    prompt = np.repeat(np.arange(n), per_prompt)
    first = draw.integers(0, k, len(prompt))
    second = (first + draw.integers(1, k, len(prompt))) % k
    ahead = (first - second) * (1.0 + 6.0 * vectors[prompt, 0])
    won = (draw.random(len(prompt)) < 1 / (1 + np.exp(-ahead))).astype(float)
    won[draw.random(len(prompt)) < 0.2] = 0.5
    return Battles(prompts(n), models, prompt, first, second, won)


def few(rows: list[tuple[int, int, int, float]], models: tuple[str, ...], n: int) -> Battles:
    """Battles written out: prompt, first, second, won."""
    prompt, first, second, won = (np.array(column) for column in zip(*rows, strict=True))
    return Battles(prompts(n), models, prompt, first, second, won.astype(float))


def rows(battles: Battles, which: npt.NDArray[Any]) -> Battles:
    """Some of them, by number or by a mask."""
    first, second, won = battles.first[which], battles.second[which], battles.won[which]
    return Battles(battles.prompts, battles.models, battles.prompt[which], first, second, won)


def exchanged(battles: Battles, seed: int = 5) -> Battles:
    """Every battle the other way round, and in another order."""
    order = np.random.default_rng(seed).permutation(len(battles.prompt))
    turned = Battles(battles.prompts, battles.models, battles.prompt, battles.second, battles.first, 1 - battles.won)
    return rows(turned, order)


def some_exchanged(battles: Battles, seed: int = 6) -> Battles:
    """Half of the battles the other way round."""
    turned = np.random.default_rng(seed).random(len(battles.prompt)) < 0.5
    return Battles(
        battles.prompts,
        battles.models,
        battles.prompt,
        np.where(turned, battles.second, battles.first),
        np.where(turned, battles.first, battles.second),
        np.where(turned, 1 - battles.won, battles.won),
    )


def repeated(battles: Battles, times: int) -> Battles:
    return rows(battles, np.tile(np.arange(len(battles.prompt)), times))


def outcomes(n: int, models: tuple[str, ...] = MODELS, seed: int = 2, d: int = 16) -> Outcomes:
    """Later models are right more often, the first ones only on prompts whose vector does not begin with a large number."""
    vectors = features(n, d).vectors
    assert vectors is not None
    level = np.arange(len(models)) - 0.5 - 4.0 * vectors[:, :1] * (len(models) - 1 - np.arange(len(models)))
    scores = (np.random.default_rng(seed).random(level.shape) < 1 / (1 + np.exp(-level))).astype(float)
    return Outcomes(prompts(n), models, scores)
