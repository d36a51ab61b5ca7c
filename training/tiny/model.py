"""The Qwen2 architecture in plain PyTorch, shaped for training on packed route tables.

Shapes: B packs, T tokens a pack, D hidden, H heads, G key/value heads, E head width. Parameter names are those of a
Hugging Face Qwen2 checkpoint, so that `state_dict()` is the checkpoint.
"""

# Without PyTorch its classes have no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of the model, under the names of a Hugging Face Qwen2 `config.json`."""

    vocab_size: int = 20480
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    max_position_embeddings: int = 8192
    rope_theta: float = 1_000_000.0
    rms_norm_eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    def to_dict(self) -> dict[str, float]:
        """The fields as they stand in `config.json`."""
        return asdict(self)


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., D)."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Grouped-query attention with biases on q, k and v and rotary positions (half rotation)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, head = shape.hidden_size, shape.head_dim
        self.heads, self.kv_heads, self.head = shape.num_attention_heads, shape.num_key_value_heads, head
        self.q_proj = nn.Linear(width, self.heads * head)
        self.k_proj = nn.Linear(width, self.kv_heads * head)
        self.v_proj = nn.Linear(width, self.kv_heads * head)
        self.o_proj = nn.Linear(self.heads * head, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attend; also returns the rotated q (B, H, T, E) and k (B, H, T, E)."""
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.head).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.head).transpose(1, 2)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1)), q, k


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, D) to (B, T, D)."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (B, T, D); also returns the attention's q and k."""
        attended, q, k = self.self_attn(self.input_layernorm(x), cos, sin, mask)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), q, k


class Body(nn.Module):
    """Embeddings, layers and the last norm (`model.` in a checkpoint)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)


class Qwen2(nn.Module):
    """A Qwen2 language model with tied embeddings, read only at asked positions."""

    def __init__(self, shape: Shape, pointer_layers: tuple[int, ...] = (), sense_layer: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.pointer_layers = pointer_layers
        self.sense_layer = sense_layer
        self.model = Body(shape)
        frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.apply(self._initialise)
        for layer in self.model.layers:
            for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
                nn.init.normal_(last.weight, std=0.04 / math.sqrt(2 * shape.num_hidden_layers))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.04)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]:
        """Normalised states (B, T, D) of tokens (B, T), q, k of the pointer layers, and the states behind the sense layer.

        positions (B, T) are rotary positions; mask (B, 1, T, T) is added to the attention scores.
        """
        angle = positions[:, None, :, None].float() * self.frequencies
        x = sensed = self.model.embed_tokens(tokens)
        cos, sin = angle.cos(), angle.sin()
        pointers: list[tuple[Tensor, Tensor]] = []
        for index, layer in enumerate(self.model.layers):
            x, q, k = layer(x, cos, sin, mask)
            if index in self.pointer_layers:
                pointers.append((q, k))
            if index == self.sense_layer:
                sensed = x
        return self.model.norm(x), pointers, sensed

    def logits(self, states: Tensor) -> Tensor:
        """Scores (..., V) of states (..., D)."""
        return functional.linear(states, self.model.embed_tokens.weight)
