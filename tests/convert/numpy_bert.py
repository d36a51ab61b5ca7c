"""BERT in NumPy, double precision: the formulas of the paper and of transformers' modules, nothing fast."""

from __future__ import annotations

from math import erf
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def sentence_vector(
    config: dict[str, Any], weights: dict[str, npt.NDArray[np.float32]], token_ids: list[int], pooling: str = "mean"
) -> Array:
    """The unit vector (hidden,) of ``token_ids``, [CLS] and [SEP] among them."""
    exact: dict[str, Array] = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    epsilon = config["layer_norm_eps"]
    x = exact["embeddings.word_embeddings.weight"][token_ids] + exact["embeddings.token_type_embeddings.weight"][0]
    x = _norm(x + exact["embeddings.position_embeddings.weight"][: len(token_ids)], exact, "embeddings.LayerNorm", epsilon)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        block = {name.removeprefix(prefix): tensor for name, tensor in exact.items() if name.startswith(prefix)}
        mixed = _linear(_attention(config, block, x), block, "attention.output.dense")
        x = _norm(x + mixed, block, "attention.output.LayerNorm", epsilon)
        inner = _gelu(_linear(x, block, "intermediate.dense"))
        x = _norm(x + _linear(inner, block, "output.dense"), block, "output.LayerNorm", epsilon)
    pooled = {"mean": x.mean(axis=0), "cls": x[0], "lasttoken": x[-1]}[pooling]
    unit: Array = pooled / np.linalg.norm(pooled)
    return unit


def _linear(x: Array, weights: dict[str, Array], name: str) -> Array:
    result: Array = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result


def _norm(x: Array, weights: dict[str, Array], name: str, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled: Array = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(x: Array) -> Array:
    result: Array = 0.5 * x * (1.0 + np.vectorize(erf)(x / np.sqrt(2.0)))
    return result


def _attention(config: dict[str, Any], block: dict[str, Array], x: Array) -> Array:
    n_tokens, heads = len(x), config["num_attention_heads"]
    query, key, value = (
        _linear(x, block, f"attention.self.{part}").reshape(n_tokens, heads, -1) for part in ("query", "key", "value")
    )
    scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(query.shape[-1])
    share = np.exp(scores - scores.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    mixed: Array = np.einsum("hqk,khd->qhd", share, value).reshape(n_tokens, -1)
    return mixed
