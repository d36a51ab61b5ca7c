"""Damaged and forged variants of a model file."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable
from typing import Any

from archroute_edge.engine import TENSOR_TYPES
from tests.engine.gguf_file import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT32, GGUFFile, Tensor

_NUMBERS = (0, 1, 2, 3, 5, 7, 8, 31, 32, 33, 64, 65, 127, 256, 511, 512, 513, 4096, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_FLOATS = (0.0, -1.0, 1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"))
_TEXTS = (b"", b" ", b"\x00", b"qwen2", b"qwen3", b"llama", b"gpt2", b"bert", b"t5", b"none", b"default", b"linear", b"yarn",
          b"\xff\xfe", b"a b c", b"{{", "\U0001f600".encode(), b"x" * 300)  # fmt: skip
_KNOWN_KEYS = (
    *("attention.key_length", "attention.value_length", "rope.dimension_count", "expert_count", "expert_used_count"),
    *("nextn_predict_layers", "pooling_type", "rope.scaling.factor", "rope.scaling.original_context_length"),
    *("attention.sliding_window", "vocab_size", "attention.causal", "rope.scaling.type", "attention.clamp_kqv"),
    *("expert_group_count", "embedding_length_out", "attention.max_alibi_bias", "logit_scale", "rope.scaling.attn_factor"),
    *("moe_every_n_layers", "attention.value_length_swa", "classifier.pooling_type", "attention.layer_norm_epsilon"),
    *("attention.key_length_swa", "rope.dimension_sections", "expert_group_used_count", "rope.scaling.alpha"),
)
_TOKENIZER_KEYS = (
    *("unknown_token_id", "eot_token_id", "seperator_token_id", "cls_token_id", "mask_token_id", "fim_pre_token_id"),
    *("scores", "token_type_count", "precompiled_charsmap", "add_space_prefix", "add_eos_token", "remove_extra_whitespaces"),
    *("suppress_tokens", "add_sep_token", "normalizer.lowercase"),
)
_NOT_POSSIBLE = (LookupError, TypeError, ValueError, struct.error)
_TOKENIZERS = (
    b"llama",
    b"bert",
    b"t5",
    b"rwkv",
    b"plamo2",
    b"gemma4",
    b"hybriddna",
    b"whitespace",
    b"test",
    b"no_vocab",
    b"no",
)
_PRE_TOKENIZERS = (
    *(b"llama-bpe", b"deepseek-llm", b"falcon", b"gpt-2", b"gemma4", b"sarvam-moe", b"whitespace", b"roberta-bpe", b"tekken"),
    *(b"kimi-k2", b"afmoe", b"laguna", b"chatglm-bpe", b"bloom", b"exaone", b"minicpm5", b"dbrx", b"tiny_aya"),
    *(b"viking", b"jina-v1-en", b"gpt-4o", b"hunyuan", b"qwen35", b"superbpe", b"default", b"unheard-of"),
)
_TENSOR_NAMES = (b"output.weight", b"output.bias", b"rope_freqs.weight", b"blk.0.attn_q_norm.weight", b"blk.0.attn_qkv.weight",
                 b"blk.0.attn_qkv.bias", b"blk.0.attn_output.bias", b"blk.2.attn_q.weight", b"blk.0.ffn_gate_inp.weight", b"x",
                 b"blk.0.attn_q.scale", b"blk.0.rope_freqs.weight", b"token_embd.weight", b"cls.output.weight",
                 b"output.scale", b"blk.0.attn_q.input_scale", b"cls.weight", b"cls.output.bias", b"position_embd.weight",
                 b"token_types.weight", b"blk.0.attn_norm_2.weight", b"cls.norm.weight")  # fmt: skip


def _architecture(file: GGUFFile) -> str:
    entry = next((entry for entry in file.entries if entry.key == b"general.architecture"), None)
    return entry.value.decode("ascii", "replace") if entry and isinstance(entry.value, bytes) else "qwen2"


def _swap_value(file: GGUFFile, draw: random.Random) -> None:
    entry = draw.choice(file.entries)
    if entry.kind == ARRAY:
        _damage_array(entry.value, entry.element, draw)
    elif entry.kind == STRING:
        entry.value = draw.choice(_TEXTS)
    elif entry.kind in (FLOAT32, 12):
        entry.value = draw.choice(_FLOATS)
    elif entry.kind == BOOL:
        entry.value = not entry.value
    else:
        entry.value = draw.choice(_NUMBERS)


def _damage_array(values: list[Any], element: int, draw: random.Random) -> None:
    index = draw.randrange(len(values))
    how = draw.randrange(4)
    if how == 0:
        del values[index:]
    elif how == 1:
        values[index] = values[draw.randrange(len(values))]
    elif how == 2:
        values.insert(index, values[index])
    else:
        for place in range(index, min(index + draw.choice((1, 1, 3, 100)), len(values))):
            values[place] = draw.choice(_TEXTS) if element == STRING else draw.choice(_NUMBERS[:-3])


def _retype_value(file: GGUFFile, draw: random.Random) -> None:
    entry = draw.choice(file.entries)
    if entry.kind == ARRAY:
        element = draw.choice((UINT32, INT32, FLOAT32, STRING))
        filler: Any = b"t" if element == STRING else 1
        file.set(entry.key.decode(), ARRAY, [filler] * len(entry.value), element)
        return
    number = entry.value if isinstance(entry.value, int) else 1
    forms: list[tuple[int, Any, int]] = [
        (UINT32, number % 2**32, 0),
        (INT32, number % 2**31, 0),
        (FLOAT32, float(number), 0),
        (STRING, b"1", 0),
        (BOOL, True, 0),
        (10, number, 0),
        (ARRAY, [number % 2**31] * draw.choice((0, 1, 2, 3, 600)), draw.choice((UINT32, INT32))),
        (ARRAY, [1, 2], INT32),
    ]
    kind, value, element = draw.choice(forms)
    file.set(entry.key.decode(), kind, value, element)


def _add_key(file: GGUFFile, draw: random.Random) -> None:
    if draw.random() < 0.7:
        key = f"{_architecture(file)}.{draw.choice(_KNOWN_KEYS)}"
    else:
        key = "tokenizer.ggml." + draw.choice(_TOKENIZER_KEYS)
    forms: list[tuple[int, Any, int]] = [
        (UINT32, draw.choice(_NUMBERS), 0),
        (UINT32, draw.choice(_NUMBERS), 0),
        (UINT32, draw.choice(_NUMBERS), 0),
        (FLOAT32, draw.choice(_FLOATS), 0),
        (STRING, draw.choice(_TEXTS), 0),
        (BOOL, draw.random() < 0.5, 0),
        (ARRAY, [draw.choice(_NUMBERS[:-3])] * draw.choice((1, 2, 4)), draw.choice((UINT32, INT32))),
    ]
    kind, value, element = draw.choice(forms)
    file.set(key, kind, value, element)


def _remove_key(file: GGUFFile, draw: random.Random) -> None:
    file.entries.remove(draw.choice(file.entries))


def _reshape(file: GGUFFile, draw: random.Random) -> None:
    tensor = draw.choice(file.tensors)
    how = draw.randrange(4)
    if how == 0:
        tensor.shape[draw.randrange(len(tensor.shape))] = draw.choice(_NUMBERS)
    elif how == 1:
        tensor.shape.reverse()
    elif how == 2:
        tensor.shape.append(draw.choice((1, 1, 2)))
    else:
        tensor.shape = [tensor.shape[0] * (tensor.shape[1] if len(tensor.shape) > 1 else 1)]


def _retype_tensor(file: GGUFFile, draw: random.Random) -> None:
    """Another type; the offsets behind it follow, so that the table stays consistent."""
    tensors = file.tensors if draw.random() < 0.3 else [draw.choice(file.tensors)]
    kind = draw.choice((*TENSOR_TYPES, *TENSOR_TYPES, 9, 15, 31, 100))
    for tensor in tensors:
        tensor.type_number = kind
    lay_out(file)


def lay_out(file: GGUFFile) -> None:
    """Place the tensors one behind another, as llama.cpp demands, and fit the data to them."""

    offset = 0
    for tensor in file.tensors:
        tensor.offset = offset
        _, block, n_bytes = TENSOR_TYPES.get(tensor.type_number, ("", 1, 4))
        count = 1
        for length in tensor.shape:
            count *= length
        offset = -(-(offset + count // block * n_bytes) // 32) * 32
    if offset < 2**24:
        file.data = file.data[:offset].ljust(offset, b"\0")


def _rename_tensor(file: GGUFFile, draw: random.Random) -> None:
    tensor = draw.choice(file.tensors)
    tensor.name = draw.choice((*_TENSOR_NAMES, draw.choice(file.tensors).name))


def _add_tensor(file: GGUFFile, draw: random.Random) -> None:
    n_vocab = file.tensor("token_embd.weight").shape[-1]
    shape = draw.choice(([1], [2], [16], [32], [64], [n_vocab], [64, 64], [64, n_vocab], [32, 64], [64, 128]))
    file.tensors.append(Tensor(draw.choice(_TENSOR_NAMES), list(shape), draw.choice((0, 0, 0, 1, 30, 26)), 0))
    lay_out(file)


def _remove_tensor(file: GGUFFile, draw: random.Random) -> None:
    file.tensors.remove(draw.choice(file.tensors))
    lay_out(file)


def _move_tensor(file: GGUFFile, draw: random.Random) -> None:
    one, two = draw.sample(file.tensors, 2)
    one.offset, two.offset = draw.choice(((two.offset, one.offset), (two.offset, two.offset), (one.offset + 32, two.offset)))


def _scale_heads(file: GGUFFile, draw: random.Random) -> None:
    """Hyperparameters that agree with one another in part."""
    prefix = _architecture(file)
    heads = draw.choice((1, 2, 3, 4, 8, 16, 32, 64))
    file.set(f"{prefix}.attention.head_count", UINT32, heads)
    if draw.random() < 0.7:
        file.set(f"{prefix}.attention.head_count_kv", UINT32, draw.choice((1, 2, heads, max(1, heads // 2))))
    if draw.random() < 0.5:
        file.set(f"{prefix}.attention.key_length", UINT32, draw.choice((1, 2, 16, 32, 64)))
    if draw.random() < 0.5:
        file.set(f"{prefix}.attention.value_length", UINT32, draw.choice((1, 2, 16, 32, 64)))
    if draw.random() < 0.5:
        file.set(f"{prefix}.rope.dimension_count", UINT32, draw.choice((0, 1, 2, 16, 32, 64)))


def _per_layer_array(file: GGUFFile, draw: random.Random) -> None:
    name, number = draw.choice((("attention.head_count", 2), ("attention.head_count_kv", 1), ("feed_forward_length", 128)))
    key = f"{_architecture(file)}.{name}"
    values = draw.choice(([number, number], [number, 2 * number], [number, 0], [0, number], [number, 1], [2 * number, number]))
    file.set(key, ARRAY, values, draw.choice((UINT32, INT32)))


def _change_tokenizer(file: GGUFFile, draw: random.Random) -> None:
    if draw.random() < 0.5:
        file["tokenizer.ggml.model"].value = draw.choice(_TOKENIZERS)
    if draw.random() < 0.7:
        file["tokenizer.ggml.pre"].value = draw.choice(_PRE_TOKENIZERS)
    if draw.random() < 0.3:
        tokens = file["tokenizer.ggml.tokens"].value
        tokens[draw.randrange(256)] = draw.choice((b"<0x41>", b"<0x", b"\xe2\x96\x81", b"<unused>", b"[PAD]", b"\n", b" "))
    if draw.random() < 0.3:
        types = file["tokenizer.ggml.token_type"].value
        start = draw.randrange(len(types))
        for place in range(start, min(len(types), start + draw.choice((1, 1, 50)))):
            types[place] = draw.randrange(8)


_CHANGES: tuple[Callable[[GGUFFile, random.Random], None], ...] = (
    *(_swap_value, _swap_value, _swap_value, _retype_value, _add_key, _add_key, _remove_key, _reshape, _retype_tensor),
    *(_retype_tensor, _rename_tensor, _add_tensor, _remove_tensor, _move_tensor, _scale_heads, _scale_heads, _per_layer_array),
    *(_change_tokenizer, _change_tokenizer),
)


def as_architecture(file: GGUFFile, name: str) -> GGUFFile:
    """The Qwen2 model in ``file`` as a Qwen3 or Llama model of the same size."""
    changed = file.copy()
    if name == "qwen2":
        return changed
    for entry in changed.entries:
        entry.key = entry.key.replace(b"qwen2.", name.encode() + b".")
    changed["general.architecture"].value = name.encode()
    changed.tensors = [tensor for tensor in changed.tensors if not tensor.name.endswith(b".bias")]
    if name == "qwen3":
        for layer in range(changed["qwen3.block_count"].value):
            changed.tensors += [Tensor(b"blk.%d.attn_%c_norm.weight" % (layer, which), [32], 0, 0) for which in b"qk"]
    lay_out(changed)
    return changed


def mutant(file: GGUFFile, number: int) -> bytes:
    """Mutant ``number`` of the Qwen2 or BERT model in ``file``: the same bytes every time."""
    draw = random.Random(number)
    if _architecture(file) == "bert":
        changed = file.copy()
    else:
        changed = as_architecture(file, draw.choice(("qwen2", "qwen2", "qwen3", "llama")))
    if draw.random() < 0.2:
        raw = bytearray(changed.to_bytes())
        n_header = len(changed.header())
        for _ in range(draw.choice((1, 1, 2, 8))):
            # Most of the header is vocabulary and template; the rest is what counts.
            place = draw.choice((draw.randrange(n_header), draw.randrange(600), n_header - 1 - draw.randrange(1800)))
            raw[place] = raw[place] ^ (1 << draw.randrange(8)) if draw.random() < 0.7 else draw.randrange(256)
        return bytes(raw)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        # A change may find no more what an earlier one took away or turned into something else.
        with contextlib.suppress(*_NOT_POSSIBLE):
            draw.choice(_CHANGES)(changed, draw)
    try:
        return changed.to_bytes()
    except _NOT_POSSIBLE:
        return b"GGUF"
