"""A sentence encoder with XLM-RoBERTa's tokenizer arrives whole: vocabulary, normalisation, ids, and the vectors of texts."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizers import normalizers, pre_tokenizers

from archroute_edge.engine import EmbeddingEngine, LoadedModel, read_header
from archroute_edge.engine._tokenizer import read_tokenizer
from archroute_edge.errors import CheckpointError, QuantizationError
from archroute_edge.quantize import quantize
from tests.convert import gguf_contents, numpy_bert
from tests.convert.test_bert import change, converted, unpadded
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.bert_checkpoints import BERT, write_bert
from tools.fixtures.texts import is_settled, texts
from tools.fixtures.unigram_tokenizer import XLMR_SPECIAL_TOKENS, build_unigram, small_charsmap

TEXT = "please help me to translate a text, 日本語 нещо café is closed"


def test_metadata(tmp_path: Path) -> None:
    """Under the keys and with the values that llama.cpp's converter writes."""
    checkpoint = write_bert(tmp_path / "m", replace(BERT, vocab_padding=3), tokenizer=build_unigram(300))
    metadata = converted(checkpoint.folder)
    source = [checkpoint.tokenizer.id_to_token(number) for number in range(checkpoint.tokenizer.get_vocab_size())]
    n_tokens = len(source)
    assert metadata["tokenizer.ggml.tokens"] == [*source, *(f"[PAD{n_tokens + place}]" for place in range(3))]
    vocabulary = json.loads(checkpoint.tokenizer.to_str())["model"]["vocab"]
    assert metadata["tokenizer.ggml.scores"] == [score for _, score in vocabulary] + [-10000.0] * 3
    control, unknown, normal, unused = (getattr(gguf.TokenType, name) for name in ("CONTROL", "UNKNOWN", "NORMAL", "UNUSED"))
    n_pieces = n_tokens - 5
    kinds = [control] * 3 + [unknown] + [normal] * n_pieces + [control] + [unused] * 3
    assert metadata["tokenizer.ggml.token_type"] == kinds
    special = {"bos": 0, "eos": 2, "unknown": 3, "seperator": 2, "padding": 1, "mask": n_tokens - 1}
    assert {role: metadata[f"tokenizer.ggml.{role}_token_id"] for role in special} == special
    assert [metadata[f"tokenizer.ggml.add_{role}_token"] for role in ("bos", "eos", "sep")] == [True, True, True]
    assert (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]) == ("t5", "default")
    assert metadata["tokenizer.ggml.token_type_count"] == 2
    assert bytes(metadata["tokenizer.ggml.precompiled_charsmap"]) == small_charsmap()
    assert metadata["tokenizer.ggml.add_space_prefix"] is True
    assert metadata["tokenizer.ggml.remove_extra_whitespaces"] is True
    assert metadata["bert.pooling_type"] == gguf.PoolingType.MEAN


@pytest.mark.parametrize("n_pieces", [300, 1500])
def test_ids_equal_the_checkpoints(tmp_path: Path, n_pieces: int) -> None:
    """On 5,000 texts of all scripts; the fewer pieces, the more characters are unknown."""
    checkpoint = write_bert(tmp_path / "m", tokenizer=build_unigram(n_pieces))
    convert_checkpoint(checkpoint.folder, tmp_path / "m.gguf")
    ours = read_tokenizer(read_header(tmp_path / "m.gguf"))
    # Its own tokenizer makes control tokens of these.
    asked = [
        text for text in filter(is_settled, texts(5000)) if not any(token in text for token in XLMR_SPECIAL_TOKENS.values())
    ]
    differing = [text for text in asked if list(ours.tokenize(text)) != unpadded(checkpoint, text)[1:-1]]
    assert differing == []
    assert len(asked) > 2000


def test_vectors_equal_the_formulas(tmp_path: Path) -> None:
    """From the text to its vector."""
    checkpoint = write_bert(tmp_path / "checkpoint", tokenizer=build_unigram())
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32")
    with LoadedModel(tmp_path / "model.gguf", wanted="encoder") as model:
        engine = EmbeddingEngine(model, 1)
        encoded = engine.encode(TEXT)
        (found,) = engine.embed([encoded])
        engine.close()
    assert list(encoded.tokens) == unpadded(checkpoint, TEXT)
    expected = numpy_bert.sentence_vector(checkpoint.config, checkpoint.weights, list(encoded.tokens))
    assert np.abs(found - expected).max() < 1e-3


def test_the_token_embedding_at_a_type_of_its_own(tmp_path: Path) -> None:
    """It is most of a multilingual encoder; everything else has the level's type."""
    checkpoint = write_bert(tmp_path / "checkpoint", tokenizer=build_unigram(300))
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32")
    quantize(tmp_path / "model.gguf", tmp_path / "small.gguf", "Q8_0", token_embedding_type="q4_0", threads=1)
    types = gguf_contents.read(tmp_path / "small.gguf").types
    assert types.pop("token_embd.weight") == "Q4_0"
    assert set(types.values()) == {"F32", "Q8_0"}
    assert types["blk.0.attn_q.weight"] == "Q8_0"
    with pytest.raises(QuantizationError, match=r"no type 'q9' for the token embedding; there are Q4_0, "):
        quantize(tmp_path / "model.gguf", tmp_path / "none.gguf", "Q8_0", token_embedding_type="q9")


def test_tables_beside_other_steps(tmp_path: Path) -> None:
    """Some files fold spaces in the normaliser, too, which changes nothing."""
    tokenizer = build_unigram(300)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(small_charsmap()), normalizers.Replace("  ", " ")])
    metadata = converted(write_bert(tmp_path / "m", tokenizer=tokenizer).folder)
    assert bytes(metadata["tokenizer.ggml.precompiled_charsmap"]) == small_charsmap()


def _add_token(content: dict[str, Any]) -> None:
    content["added_tokens"].append(
        {**content["added_tokens"][0], "id": 4, "content": content["model"]["vocab"][4][0], "special": False}
    )


def _charsmap(content: dict[str, Any], raw: bytes) -> None:
    content["normalizer"]["precompiled_charsmap"] = base64.b64encode(raw).decode()


REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "another normaliser": (lambda c: c.update(normalizer={"type": "NFKC"}), "has no usable precompiled_charsmap"),
    "a normaliser that is a text": (lambda c: c.update(normalizer="NFKC"), "has no usable precompiled_charsmap"),
    "a step that is a text": (
        lambda c: c.update(normalizer={"type": "Sequence", "normalizers": ["NFKC"]}),
        "has no usable precompiled_charsmap",
    ),
    "steps that are none": (
        lambda c: c.update(normalizer={"type": "Sequence", "normalizers": 3}),
        "has no usable precompiled_charsmap",
    ),
    "a table that is no base64": (
        lambda c: c["normalizer"].update(precompiled_charsmap="§"),
        "has no usable precompiled_charsmap",
    ),
    "a table that ends early": (
        lambda c: _charsmap(c, struct.pack("<I", 1 << 20) + bytes(64)),
        "is no table of replacements; the file is damaged",
    ),
    "another step that changes text": (
        lambda c: c.update(normalizer={"type": "Sequence", "normalizers": [c["normalizer"], {"type": "Lowercase"}]}),
        "does not normalise and cut text as XLM-RoBERTa does",
    ),
    "words that are not cut": (
        lambda c: c.update(pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True}),
        "does not normalise and cut text as XLM-RoBERTa does",
    ),
    "bytes for unknown characters": (lambda c: c["model"].update(byte_fallback=True), "model.byte_fallback is True"),
    "no token for unknown characters": (lambda c: c["model"].update(unk_id=None), "model.unk_id is None"),
    "a piece twice": (lambda c: c["model"]["vocab"].append(["▁", -3.0]), "model.vocab holds '▁' twice"),
    "a piece without a score": (
        lambda c: c["model"]["vocab"].append(["▁new"]),
        "holds ['▁new'], which is no piece with its score",
    ),
    "a score beyond all floats": (
        lambda c: c["model"]["vocab"].append(["▁new", -(10**400)]),
        "which is no piece with its score",
    ),
    "a token that is matched before others": (_add_token, "is cut out of texts before others"),
    "no token behind the text": (lambda c: c["post_processor"]["single"].pop(), "puts ['<s>'] around a text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """What the engine would tokenize differently, and what is no sound tokenizer."""
    damage, message = REFUSED[name]
    folder = write_bert(tmp_path / "m", replace(BERT, vocab_padding=1), tokenizer=build_unigram(300)).folder
    change("tokenizer.json", damage)(folder)
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(folder, tmp_path / "m.gguf")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_pre_tokenizer_that_cuts_alike(tmp_path: Path) -> None:
    """Without a step of its own for white space."""
    tokenizer = build_unigram(300)
    fold = normalizers.Replace("  ", " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(small_charsmap()), fold, fold, fold])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    assert "tokenizer.ggml.scores" in converted(write_bert(tmp_path / "m", tokenizer=tokenizer).folder)
