"""Checkpoints of sentence encoders in the real layout, small enough to write in milliseconds.

:func:`write_bert` makes a folder as sentence-transformers leaves it: a ``BertModel`` with random weights, a WordPiece
tokenizer, and the files that say how its tokens' vectors are pooled.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.convert.checkpoints import WrittenCheckpoint, store, write_tensors
from tests.convert.qwen_tokenizer import CORPUS, write_json

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_MORE_WORDS = (
    "please help me to translate a text into another language, plan a trip, cook a dinner, write code and fix bugs; "
    "what is the weather like today? thanks, yes, no, okay. book a table, pay an invoice, cancel my order"
)


@dataclass(frozen=True)
class BertShape:
    """The sizes of a checkpoint, and what else of its layout a test may want to vary. ``pooling`` None leaves its files out."""

    hidden_size: int = 64
    intermediate_size: int = 96
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    max_position_embeddings: int = 64
    vocab_padding: int = 0
    dtype: str = "float32"
    weight_scale: float = 0.1
    n_shards: int = 1
    pooling: str | None = "mean"
    extra_config: dict[str, Any] = field(default_factory=dict)


BERT = BertShape()


def write_bert(
    folder: Path, shape: BertShape = BERT, *, seed: int = 0, tokenizer: tokenizers.Tokenizer | None = None
) -> WrittenCheckpoint:
    """Write a checkpoint of ``shape`` with weights from ``seed``, and with a small tokenizer unless one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer or build_wordpiece()
    config = _config(shape, tokenizer.get_vocab_size(with_added_tokens=True) + shape.vocab_padding)
    write_json(folder / "config.json", config)
    _write_tokenizer(folder, tokenizer)
    if shape.pooling is not None:
        _write_modules(folder, shape)
    stored = {name: store(values, shape.dtype) for name, values in _random_weights(shape, config, seed).items()}
    write_tensors(folder, {name: words for name, (words, _) in stored.items()}, shape.dtype, shape.n_shards)
    return WrittenCheckpoint(folder, config, {name: exact for name, (_, exact) in stored.items()}, tokenizer)


def build_wordpiece() -> tokenizers.Tokenizer:
    """A WordPiece tokenizer of a few hundred pieces that normalises and cuts as uncased BERT does."""
    return tokenizers.Tokenizer.from_str(_trained())


@functools.cache
def _trained() -> str:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=900,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=[chr(code) for code in range(0x21, 0x7F)],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, _MORE_WORDS] * 3, trainer)
    first, last = (("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]")))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[first, last]
    )
    # Such files keep the lengths of their training.
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(length=32)
    return str(tokenizer.to_str())


def _config(shape: BertShape, vocab_size: int) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": shape.max_position_embeddings,
        "model_type": "bert",
        "num_attention_heads": shape.num_attention_heads,
        "num_hidden_layers": shape.num_hidden_layers,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "transformers_version": "4.57.6",
        "type_vocab_size": 2,
        "vocab_size": vocab_size,
    } | shape.extra_config


def _write_tokenizer(folder: Path, tokenizer: tokenizers.Tokenizer) -> None:
    content = json.loads(tokenizer.to_str())
    write_json(folder / "tokenizer.json", content)
    roles = {f"{role}_token": text for role, text in SPECIAL_TOKENS.items()}
    settings = {
        "do_lower_case": content["normalizer"]["lowercase"],
        "model_max_length": 512,
        "strip_accents": content["normalizer"]["strip_accents"],
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
    }
    write_json(folder / "tokenizer_config.json", settings | roles)


def _write_modules(folder: Path, shape: BertShape) -> None:
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(
        folder / "modules.json",
        [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (path, kind) in enumerate(steps)
        ],
    )
    flags = {f"pooling_mode_{name}": name.startswith(f"{shape.pooling}") for name in ("cls_token", "mean_tokens", "lasttoken")}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": shape.hidden_size, **flags})


def _random_weights(shape: BertShape, config: dict[str, Any], seed: int) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    hidden, ffn = shape.hidden_size, shape.intermediate_size
    linear: dict[str, tuple[int, int]] = {"pooler.dense": (hidden, hidden)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(shape.num_hidden_layers):
        prefix = f"encoder.layer.{layer}."
        linear |= {f"{prefix}attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        linear |= {f"{prefix}attention.output.dense": (hidden, hidden)}
        linear |= {f"{prefix}intermediate.dense": (ffn, hidden), f"{prefix}output.dense": (hidden, ffn)}
        norms += [f"{prefix}attention.output.LayerNorm", f"{prefix}output.LayerNorm"]
    tables = {"word": config["vocab_size"], "token_type": config["type_vocab_size"], "position": shape.max_position_embeddings}

    def draw(size: tuple[int, ...], scale: float, offset: float = 0.0) -> npt.NDArray[np.float32]:
        return (offset + scale * random.standard_normal(size)).astype(np.float32)

    weights = {f"embeddings.{name}_embeddings.weight": draw((rows, hidden), 0.5) for name, rows in tables.items()}
    for name, size in linear.items():
        # Biases are large enough to be missed if they were dropped.
        weights |= {f"{name}.weight": draw(size, shape.weight_scale), f"{name}.bias": draw(size[:1], 0.3)}
    for name in norms:
        weights |= {f"{name}.weight": draw((hidden,), 0.3, 1.0), f"{name}.bias": draw((hidden,), 0.3)}
    return weights
