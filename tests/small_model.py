"""A Qwen2-shaped model with random weights and a vocabulary of some 1,500 tokens, written in a blink.

The vocabulary has what is hard about real ones: every byte, tokens that begin one another, control tokens, end-of-
generation tokens, and user-defined ones.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from archroute_edge.engine import Vocabulary
from archroute_edge.prompts import PROMPT_FORMATS
from tools.measure.random_model import Shape, VocabularyEntries, write_random_model

SHAPE = Shape(n_embd=64, n_ff=128, n_layers=2, n_heads=2, n_kv_heads=1, n_ctx_train=16384)

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "</s>")
USER_DEFINED = ("<tool_call>", "</tool_call>")

_WORDS = (
    *('{"', '":', '"}', ' "', ' ["', '"]}', "\n\n", "route", "routes", "user", "assistant", "content", "role", "name"),
    *("code", "bug", "fix", "ing", "api", "help", "other", "program", "_fixing", " the", " is", " a", " you", " code"),
    # The words of the prompts, so that they take hundreds of tokens and not thousands.
    *dict.fromkeys(
        word for text in PROMPT_FORMATS.values() for word in re.findall(r" ?[A-Za-z]+", text.opening + text.closing)
    ),
)


def byte_characters() -> list[str]:
    """The character that byte-level BPE writes for each byte (GPT-2's mapping)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(shifted)) for byte in range(256)]


def small_vocabulary() -> VocabularyEntries:
    """All bytes, each word of a short list with all its beginnings, and the special tokens."""
    characters = byte_characters()
    tokens = list(characters)
    merges = []
    for word in _WORDS:
        spelled = [characters[byte] for byte in word.encode()]
        for end in range(2, len(spelled) + 1):
            token = "".join(spelled[:end])
            if token not in tokens:
                tokens.append(token)
                merges.append(f"{token[:-1]} {token[-1]}")
    types = [int(gguf.TokenType.NORMAL)] * len(tokens)
    tokens += [*CONTROL, *USER_DEFINED]
    types += [int(gguf.TokenType.CONTROL)] * len(CONTROL) + [int(gguf.TokenType.USER_DEFINED)] * len(USER_DEFINED)
    return VocabularyEntries([token.encode() for token in tokens], types, merges)


def write_small_model(path: Path, *, seed: int = 0, n_heads: int = SHAPE.n_heads) -> Path:
    """Write the model (F32) to ``path``."""
    # Larger weights than a real model's, so that its choices are far apart beside rounding.
    shape = dataclasses.replace(SHAPE, n_heads=n_heads)
    write_random_model(path, shape, small_vocabulary(), seed=seed, deviation=0.05, dtype=np.float32)
    return path


def is_control(vocabulary: Vocabulary, token: int) -> bool:
    """Whether ``token`` is a control token, which no message may bring in."""
    return bool(llama_cpp.llama_vocab_is_control(vocabulary.handle, token))
