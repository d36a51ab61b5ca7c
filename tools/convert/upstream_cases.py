"""The cases of ``compare_upstream``: checkpoints with every combination that takes another path, and their tokenizers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers

from tools.convert.checkpoint import open_checkpoint
from tools.convert.conversion import OutType
from tools.fixtures.bert_checkpoints import BertShape
from tools.fixtures.checkpoints import Shape, Words, change_json, write_tensors
from tools.fixtures.qwen_tokenizer import add_qwen_tokens, qwen_tokenizer

FIRST_ADDED = "<|endoftext|>"


@dataclass(frozen=True)
class Case:
    """A checkpoint to convert both ways; ``settings`` are changes to its tokenizer_config.json.

    ``shape`` is that of random weights, or the folder of a checkpoint that is compared as it is.
    """

    name: str
    shape: Shape | BertShape | Path
    outtype: OutType
    settings: dict[str, Any] = field(default_factory=dict)
    vocabulary_only: bool = False


def cases() -> Iterator[Case]:
    """Checkpoints with every combination that takes another path: architecture, head, files, source and target type."""
    types = ("float16", "bfloat16", "float32")
    outtypes: tuple[OutType, ...] = ("f32", "f16", "bf16")
    for model_type, head_dim in (("qwen2", None), ("qwen3", 64)):
        for tied, n_shards in ((True, 1), (True, 3), (False, 1), (False, 3)):
            for dtype, outtype in product(types, outtypes):
                if dtype != types[n_shards % 3] and model_type != "qwen2":
                    continue
                shape = Shape(
                    model_type=model_type, hidden_size=64, intermediate_size=128, head_dim=head_dim,
                    tie_word_embeddings=tied, n_shards=n_shards, dtype=dtype, vocab_padding=271,
                )  # fmt: skip
                yield Case(f"{model_type}, {'tied' if tied else 'untied'}, {n_shards} file(s), {dtype}", shape, outtype)
    plain = Shape(dtype="float16", vocab_padding=271)
    yarn = {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_slow": 2.0}}
    linear = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    new_style = {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}
    for name, shape in (
        ("no tokenizer.json", replace(plain, tokenizer_files="vocab.json")),
        ("chat_template.jinja", replace(plain, chat_template_in="chat_template.jinja")),
        ("chat_template.json", replace(plain, chat_template_in="chat_template.json")),
        ("no vocabulary padding", replace(plain, vocab_padding=0)),
        ("yarn", replace(plain, extra_config=yarn)),
        ("linear rotary scaling", replace(plain, extra_config=linear)),
        ("rope_parameters", replace(plain, extra_config=new_style)),
        ("head_dim in Qwen2", replace(plain, head_dim=32)),
    ):
        yield Case(name, shape, "f16")
    templates = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    for name, settings in (
        ("several templates", {"chat_template": templates}),
        ("no template", {"chat_template": None}),
        ("an ordinary token as the end of text", {"eos_token": "<tool_call>"}),
        ("more special tokens", {"additional_special_tokens": ["<tool_call>"]}),
        ("end of text in config.json only", {"eos_token": None}),
        ("bos to be added", {"bos_token": "<|endoftext|>", "add_bos_token": True}),
        ("an unknown token", {"unk_token": "<|endoftext|>"}),
        ("no list of added tokens", {"added_tokens_decoder": None}),
    ):
        yield Case(name, plain, "f16", settings)
    for shape in (plain, replace(plain, model_type="qwen3", head_dim=64), replace(plain, vocab_padding=0)):
        yield Case(f"{shape.model_type}, vocabulary only", shape, "bf16", vocabulary_only=True)


def encoder_cases(folder: Path) -> Iterator[Case]:
    """An encoder as it is, and random ones with its vocabulary: source and target types, pooling, files, padding."""
    outtypes: tuple[OutType, ...] = ("f32", "f16", "bf16")
    for outtype in outtypes:
        yield Case("the encoder", folder, outtype)
    for dtype, pooling in zip(("float32", "float16", "bfloat16"), ("mean", "cls", "lasttoken"), strict=True):
        for outtype in outtypes:
            yield Case(f"bert, {pooling}, {dtype}", BertShape(dtype=dtype, pooling=pooling), outtype)
    for name, shape in (
        ("no pooling", BertShape(pooling=None)),
        ("3 files", BertShape(n_shards=3)),
        ("vocabulary padding", BertShape(vocab_padding=6)),
        ("another epsilon", BertShape(extra_config={"layer_norm_eps": 1e-5})),
    ):
        yield Case(f"bert, {name}", shape, "f16")


def as_xlm_roberta(folder: Path, target: Path) -> Path:
    """The BERT with XLM-R's tokenizer in ``folder`` as the XLM-RoBERTa that computes the same, written to ``target``.

    Upstream reads this tokenizer for XLM-RoBERTa only; for a BERT it writes WordPiece's keys, whatever the tokenizer. In an
    XLM-RoBERTa positions are counted from behind that of the padding token, and upstream leaves the rows before out.
    """
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors*"))
    checkpoint = open_checkpoint(folder)
    offset = 1 + checkpoint.config.integer("pad_token_id")
    n_positions = checkpoint.config.integer("max_position_embeddings")
    change_json(
        target / "config.json",
        architectures=["XLMRobertaModel"],
        model_type="xlm-roberta",
        max_position_embeddings=n_positions + offset,
    )
    tensors: dict[str, Words] = {}
    for name, stored in checkpoint.tensors.items():
        words = np.frombuffer(b"".join(stored.read()), f"<u{stored.n_bytes // stored.n_elements}").reshape(stored.shape)
        if name == "embeddings.position_embeddings.weight":
            words = np.concatenate([np.zeros((offset, stored.shape[1]), words.dtype), words])
        tensors[name] = words
    dtypes = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    write_tensors(target, tensors, dtypes[next(iter(checkpoint.tensors.values())).dtype])
    return target


def qwen2_tokenizer(vocabulary: Path) -> tokenizers.Tokenizer:
    """Rebuild Qwen2.5's tokenizer from a GGUF: its ordinary tokens and merges, and the 22 added ones."""
    fields = gguf.GGUFReader(vocabulary).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    ordinary = {token: token_id for token_id, token in enumerate(tokens[: tokens.index(FIRST_ADDED)])}
    return add_qwen_tokens(qwen_tokenizer(tokenizers.models.BPE(ordinary, merges)))
