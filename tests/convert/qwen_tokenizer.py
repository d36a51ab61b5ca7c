"""A small tokenizer that does what Qwen2.5's does, and its files as ``save_pretrained`` writes them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

QWEN_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTROL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Qwen2.5's, listed as special."""
ORDINARY_ADDED_TOKENS = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
    "<|file_sep|>",
)  # fmt: skip
"""Qwen2.5's, listed as not special."""
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CORPUS = (
    "fix this module: torch has no attribute, the function returns None instead of a list of indices\n"
    'def route(messages):\n    return {"route": "bug_fixing"}\n\n\twhile (x != 10) { y += 0x1F; }\r\n',
    "The quick brown fox jumps over the lazy dog; it's 12345 o'clock, they've said we'll see what I'd do.",
    "Größe naïve café résumé Ångström façade Übung straße, нещо на Български, 我想在这里工作, 안녕하세요, مرحبا بالعالم",
    "one one one two two three routing routes router route  model   models tokens token tokenizer tokenize",
)


def build_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level BPE of a few hundred tokens that normalises, cuts and marks control tokens as Qwen2.5's does."""
    return tokenizers.Tokenizer.from_str(_trained())


@functools.cache
def _trained() -> str:
    tokenizer = qwen_tokenizer(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return str(add_qwen_tokens(tokenizer).to_str())


def qwen_tokenizer(model: models.BPE) -> tokenizers.Tokenizer:
    """``model`` between Qwen2's normaliser, pre-tokenizer, post-processor and decoder."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated", invert=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def add_qwen_tokens(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Add Qwen2.5's 22 tokens behind the vocabulary, in its order."""
    tokenizer.add_special_tokens([tokenizers.AddedToken(text, special=True, normalized=False) for text in CONTROL_TOKENS])
    tokenizer.add_tokens([tokenizers.AddedToken(text, special=False, normalized=False) for text in ORDINARY_ADDED_TOKENS])
    return tokenizer


def write_tokenizer(
    folder: Path, tokenizer: tokenizers.Tokenizer, *, tokenizer_json: bool = True, template_in: str = "tokenizer_config.json"
) -> None:
    """Write the tokenizer's files; without ``tokenizer_json`` only vocab.json and merges.txt hold it."""
    content = json.loads(tokenizer.to_str())
    if tokenizer_json:
        write_json(folder / "tokenizer.json", content)
    model = content["model"]
    write_json(folder / "vocab.json", model["vocab"])
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    decoder = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in content["added_tokens"]
    }
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": list(CONTROL_TOKENS[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 512,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    if template_in == "tokenizer_config.json":
        settings["chat_template"] = CHAT_TEMPLATE
    elif template_in == "chat_template.jinja":
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    elif template_in == "chat_template.json":
        write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    write_json(folder / "tokenizer_config.json", settings)


def write_json(path: Path, content: Any) -> None:
    """As Hugging Face writes its JSON files."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
