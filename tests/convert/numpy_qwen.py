"""Qwen2 and Qwen3 in NumPy, double precision: the formulas of the papers and of transformers' modules, nothing fast."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def logits(
    config: dict[str, Any],
    weights: dict[str, npt.NDArray[np.float32]],
    token_ids: list[int],
    inputs: dict[str, Array] | None = None,
) -> Array:
    """The next-token logits after each of ``token_ids``: (tokens, vocabulary).

    ``inputs`` is filled with what flows into each matrix of the layers, (tokens, channels) by the matrix's name.
    """
    seen: dict[str, Array] = {}
    exact: dict[str, Array] = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    epsilon = config["rms_norm_eps"]
    x = exact["model.embed_tokens.weight"][token_ids]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        block = {name.removeprefix(prefix): tensor for name, tensor in exact.items() if name.startswith(prefix)}
        normed = _rms_norm(x, block["input_layernorm.weight"], epsilon)
        mixed = _attention(config, block, normed)
        x = x + mixed @ block["self_attn.o_proj.weight"].T
        y = _rms_norm(x, block["post_attention_layernorm.weight"], epsilon)
        gate = y @ block["mlp.gate_proj.weight"].T
        gated = gate / (1.0 + np.exp(-gate)) * (y @ block["mlp.up_proj.weight"].T)
        x = x + gated @ block["mlp.down_proj.weight"].T
        seen |= {f"{prefix}self_attn.{part}_proj.weight": normed for part in "qkv"}
        seen |= {f"{prefix}self_attn.o_proj.weight": mixed, f"{prefix}mlp.down_proj.weight": gated}
        seen |= {f"{prefix}mlp.{part}_proj.weight": y for part in ("gate", "up")}
    if inputs is not None:
        inputs.update(seen)
    head = exact.get("lm_head.weight", exact["model.embed_tokens.weight"])
    result: Array = _rms_norm(x, exact["model.norm.weight"], epsilon) @ head.T
    return result


def _rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    scaled: Array = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight
    return scaled


def _attention(config: dict[str, Any], block: dict[str, Array], x: Array) -> Array:
    """What the heads put out, before the output projection."""
    n_tokens, heads, kv_heads = len(x), config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    query, key, value = (_project(block, part, x).reshape(n_tokens, -1, width) for part in "qkv")
    if "self_attn.q_norm.weight" in block:
        query = _rms_norm(query, block["self_attn.q_norm.weight"], config["rms_norm_eps"])
        key = _rms_norm(key, block["self_attn.k_norm.weight"], config["rms_norm_eps"])
    query, key = (_rotate(part, config["rope_theta"]) for part in (query, key))
    # Query heads share key/value heads in consecutive groups.
    key, value = (np.repeat(part, heads // kv_heads, axis=1) for part in (key, value))
    scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(width)
    scores = np.where(np.tril(np.ones((n_tokens, n_tokens), dtype=bool)), scores, -np.inf)
    share = np.exp(scores - scores.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    mixed: Array = np.einsum("hqk,khd->qhd", share, value).reshape(n_tokens, heads * width)
    return mixed


def _project(block: dict[str, Array], part: str, x: Array) -> Array:
    product: Array = x @ block[f"self_attn.{part}_proj.weight"].T
    return product + block.get(f"self_attn.{part}_proj.bias", np.zeros(1))


def _rotate(x: Array, theta: float) -> Array:
    """Rotary positions: the first half of each head is rotated against the second."""
    n_tokens, _, width = x.shape
    frequency = theta ** -(np.arange(0, width, 2) / width)
    angle = (np.arange(n_tokens)[:, None] * frequency)[:, None, :]
    first, second = x[..., : width // 2], x[..., width // 2 :]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)
