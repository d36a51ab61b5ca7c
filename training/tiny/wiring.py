"""Initial weights that already compare and copy, instead of random attention.

Small models spend most of a training finding out that an answer can be looked up: sum up the conversation, compare it with each
route, copy the name of the best one. Rotary attention with biases can be set to do so from the beginning, with the token
vectors of `word_vectors.py`; training then only has to improve it.

The residual stream is divided: the sense of a token and of the one just before it, the sense of the conversation, the identity
of the token (read by the tied output), a hint at the token before, the identity of the route's name. Single numbers mark the
end of a JSON object, the key `name` and the token three after it, where the name itself starts, and whether an object is a
route (has a `description`) or a message (has `content`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.tiny import card_prompt
from training.tiny.model import Attention, Qwen2
from training.tiny.tokenizer import token_id

SENSE = 64
_SENSE, _SAID, _IDENTITY, _BEFORE, _NAMED = (slice(*span) for span in ((0, 64), (64, 128), (128, 176), (176, 203), (204, 252)))
_OPEN, _END, _KEY, _NAME, _SIDE = 203, 252, 253, 254, 255
_CODE = 48
_HINT = 27
# The rotary pairs for marks: the slowest.
_MARK, _OTHER_MARK = 31, 30
_HALF = 32


@dataclass(frozen=True)
class Marks:
    """Token ids that matter in a prompt: those that can end a route's JSON, and the keys `name` and so on.

    `closing` counts the tokens from the end of a conversation to the start of the answer's name.
    """

    ends: list[int]
    key: int
    description: int
    content: int
    closing: int


def marks_of(tokenizer: Tokenizer) -> Marks:
    """Look the marks up in a tokenizer."""
    ends = [number for text, number in tokenizer.get_vocab().items() if '"}' in text]
    closing = card_prompt.TAIL + "<|im_end|>\n<|im_start|>assistant\n" + card_prompt.answer("x").split("x")[0] + "x"
    name, description, content = (token_id(tokenizer, key) for key in ("name", "description", "content"))
    return Marks(ends, name, description, content, len(tokenizer.encode(closing).ids) - 1)


def wire(model: Qwen2, senses: Tensor, marks: Marks, seed: int) -> None:
    """Set a fresh model up with token vectors (V, 64) and the prompt's tokens in `marks`."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(senses.shape[0], 256, generator=generator) * 0.01
    table[:, _SENSE] += senses
    codes = torch.randn(senses.shape[0], _CODE, generator=generator)
    table[:, _IDENTITY] += codes / codes.norm(dim=-1, keepdim=True)
    table[marks.ends, _END] = 1.5
    table[marks.key, _KEY] = 1.5
    table[[marks.description, marks.content], _OPEN] = 1.5
    table[marks.description, _SIDE], table[marks.content, _SIDE] = 1.5, -1.5
    hint = torch.randn(_CODE, _HINT, generator=generator) / math.sqrt(_HINT)
    near, sharp = range(6, 12), range(6)
    still = torch.cat((torch.arange(16, 32), torch.arange(48, 64)))
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(table)
        for layer in model.model.layers:
            for matrix in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                matrix.weight.mul_(0.3)
            layer.self_attn.o_proj.weight.mul_(0.5)
            layer.mlp.down_proj.weight.mul_(0.5)
        first, second, *comparing = [layer.self_attn for layer in model.model.layers[:4]]
        turns = model.frequencies
        _look_back(first, 0, turns, near, 5.0, 10)
        _look_back(first, 1, turns, near, 5.0, marks.closing + 18)
        _look_back(first, 2, turns, sharp, 30.0, 3)
        _look_back(first, 3, turns, sharp, 30.0, 1)
        _carry(first, 0, _SENSE, _SENSE, torch.eye(SENSE), 0.3)
        _carry(first, 1, _SENSE, _SAID, torch.eye(SENSE), 0.6)
        _carry(first, 3, _IDENTITY, _BEFORE, hint, 0.1)
        first.v_proj.weight[64 + _CODE] = 0.0
        first.v_proj.weight[64 + _CODE, _KEY] = 1.0
        first.o_proj.weight[:, 128:192] = 0.0
        first.o_proj.weight[_NAME, 128 + _CODE] = 0.15

        _look_back(second, 0, turns, range(5, 10), 4.0, 8)
        _favour(second, 0, _NAME, 1.5)
        _carry(second, 0, _IDENTITY, _NAMED, torch.eye(_CODE), 0.12)
        _look_back(second, 1, turns, range(10, 14), 20.0, 0)
        _favour(second, 1, _OPEN, 1.5, _OTHER_MARK)
        second.v_proj.weight[_CODE] = 0.0
        second.v_proj.weight[_CODE, _SIDE] = 1.0
        second.o_proj.weight[:, 64:128] = 0.0
        second.o_proj.weight[_KEY, 64 + _CODE] = 0.15
        rows = still[:_HINT]
        second.q_proj.weight[128 + rows, _IDENTITY] = hint.T
        second.k_proj.weight[64 + rows, _BEFORE] = torch.eye(_HINT)
        _carry(second, 2, _IDENTITY, _IDENTITY, torch.eye(_CODE), 0.1)

        for attention, offset in zip(comparing, (0, _HALF), strict=True):
            spread = torch.eye(_HALF) * 1.5
            attention.q_proj.weight[still, _SAID.start + offset : _SAID.start + offset + _HALF] = spread
            attention.k_proj.weight[still, _SENSE.start + offset : _SENSE.start + offset + _HALF] = spread
            _look_back(attention, 0, turns, range(3, 13), -4.0, marks.closing)
            _favour(attention, 0, _END, 1.5)
            attention.k_proj.weight[_MARK, _KEY] = 1.5
            _carry(attention, 0, _NAMED, _IDENTITY, torch.eye(_CODE), 0.15)


def _favour(attention: Attention, head: int, mark: int, strength: float, pair: int = _MARK) -> None:
    """Let a head attend to positions that bear a mark."""
    key_head = head // (attention.heads // attention.kv_heads)
    attention.k_proj.weight[key_head * 64 + pair] = 0.0
    attention.k_proj.weight[key_head * 64 + pair, mark] = strength
    attention.q_proj.weight[head * 64 + pair] = 0.0
    attention.q_proj.bias[head * 64 + pair] = 8.0


def _look_back(attention: Attention, head: int, frequencies: Tensor, pairs: range, height: float, distance: int) -> None:
    """Let a head attend to the token about `distance` tokens back: a sum of cosines, `height` at that distance.

    A negative height makes it look away from there.
    """
    key_head = head // (attention.heads // attention.kv_heads)
    size = math.sqrt(abs(height) * math.sqrt(attention.head) / len(pairs))
    for pair in pairs:
        angle = float(frequencies[pair]) * distance
        attention.k_proj.bias[key_head * 64 + pair] = size
        attention.q_proj.bias[head * 64 + pair] = math.copysign(size, height) * math.cos(angle)
        attention.q_proj.bias[head * 64 + pair + _HALF] = -math.copysign(size, height) * math.sin(angle)


def _carry(attention: Attention, head: int, source: slice, target: slice, through: Tensor, gain: float) -> None:
    """Let a head carry `source` of where it looks through a map (in, out) into `target` of where it stands."""
    key_head = head // (attention.heads // attention.kv_heads)
    width = source.stop - source.start
    values = slice(key_head * 64, key_head * 64 + width)
    attention.v_proj.weight[values] = 0.0
    attention.v_proj.weight[values, source] = torch.eye(width)
    own = slice(head * 64, head * 64 + width)
    attention.o_proj.weight[:, own] = 0.0
    attention.o_proj.weight[target, own] = through.T * gain
