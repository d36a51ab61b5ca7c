"""A sentence encoder arrives whole: tensors, vocabulary, pooling, and the vectors that come of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import normalizers

from archroute_edge.deciders import REFERENCES_KEY, TEXT_FORMAT
from archroute_edge.deciders._encoder_scale import EncoderScale, read_encoder_scale, read_hubness
from archroute_edge.engine import read_header
from archroute_edge.engine._wordpiece import read_wordpiece
from archroute_edge.errors import CheckpointError
from archroute_edge.models import level_named
from archroute_edge.quantize import quantize
from tests.convert import gguf_contents, llama, numpy_bert
from tests.convert.test_tensors import words_of
from tools.convert.conversion import OutType, convert_checkpoint
from tools.fixtures.bert_checkpoints import BERT, BertShape, build_wordpiece, write_bert
from tools.fixtures.checkpoints import WrittenCheckpoint
from tools.fixtures.qwen_tokenizer import build_tokenizer, write_json, write_tokenizer
from tools.fixtures.texts import is_settled, texts

HUBNESS = {"scale": 12.5, "other_cosine": 0, "text_format": 1, "hubness_weight": 0.25, "hubness_neighbours": 2}
TEXT = "please help me to translate a text, it's 12345 o'clock and the café is closed"
GGUF_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def gguf_name(name: str) -> str:
    stem, part = name.rsplit(".", 1)
    if stem in GGUF_NAMES:
        return f"{GGUF_NAMES[stem]}.{part}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.{part}"


def converted(folder: Path) -> dict[str, Any]:
    target = folder.with_suffix(".gguf")
    convert_checkpoint(folder, target)
    return gguf_contents.read(target).metadata


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize(("dtype", "n_shards"), [("float32", 1), ("float16", 3), ("bfloat16", 1)])
def test_tensors_bit_for_bit(tmp_path: Path, dtype: str, n_shards: int, outtype: OutType) -> None:
    """Names, shapes, types and bits; what is added to activations stays f32, the pooler is left out."""
    checkpoint = write_bert(tmp_path / "checkpoint", replace(BERT, dtype=dtype, n_shards=n_shards))
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", outtype)
    contents = gguf_contents.read(tmp_path / "model.gguf")
    weights = {gguf_name(name): values for name, values in checkpoint.weights.items() if not name.startswith("pooler.")}
    assert contents.tensors.keys() == weights.keys()
    for name, values in weights.items():
        kept = "f32" if values.ndim == 1 or name in ("token_types.weight", "position_embd.weight") else outtype
        assert contents.types[name] == kept.upper(), name
        np.testing.assert_array_equal(contents.tensors[name], words_of(values, kept), err_msg=name)


def test_metadata(tmp_path: Path) -> None:
    """Under the keys and with the values that llama.cpp loads; a head count for keys is none of them."""
    checkpoint = write_bert(tmp_path / "m", replace(BERT, vocab_padding=3))
    metadata = converted(checkpoint.folder)
    assert {key: value for key, value in metadata.items() if key.startswith("bert.")} == {
        "bert.block_count": 2,
        "bert.context_length": 64,
        "bert.embedding_length": 64,
        "bert.feed_forward_length": 96,
        "bert.attention.head_count": 4,
        "bert.attention.layer_norm_epsilon": pytest.approx(1e-12),
        "bert.attention.causal": False,
        "bert.pooling_type": gguf.PoolingType.MEAN,
    }
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    source = [checkpoint.tokenizer.id_to_token(token_id) for token_id in range(len(tokens) - 3)]
    assert [token if kind == gguf.TokenType.CONTROL else token.replace("▁", "", 1) if token[:1] == "▁" else f"##{token}"
            for token, kind in zip(tokens[:-3], types, strict=False)] == source  # fmt: skip
    assert (tokens[-1], types[-1]) == (f"▁[PAD{len(tokens) - 1}]", gguf.TokenType.UNUSED)
    assert [token for token, kind in zip(tokens, types, strict=True) if kind == gguf.TokenType.CONTROL] == source[:5]
    special = {"bos": 2, "eos": 3, "unknown": 1, "seperator": 3, "padding": 0, "mask": 4}
    assert {role: metadata[f"tokenizer.ggml.{role}_token_id"] for role in special} == special
    assert metadata["tokenizer.ggml.model"] == "bert"
    assert metadata["tokenizer.ggml.token_type_count"] == 2
    assert metadata["tokenizer.ggml.normalizer.lowercase"] is True
    assert not any(key.startswith("archroute.") for key in metadata)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(BERT, id="mean"),
        pytest.param(replace(BERT, pooling="cls"), id="cls"),
        pytest.param(replace(BERT, pooling="lasttoken", num_attention_heads=2), id="last token"),
        pytest.param(replace(BERT, dtype="bfloat16", num_hidden_layers=3), id="bf16"),
    ],
)
def test_vectors_equal_the_formulas(tmp_path: Path, shape: BertShape) -> None:
    """A wrong norm, bias, position or pooling turns the vector by far more."""
    checkpoint = write_bert(tmp_path / "checkpoint", shape)
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32")
    token_ids = unpadded(checkpoint, TEXT)
    with llama.loaded(tmp_path / "model.gguf") as model:
        theirs = llama.sentence_vector(model, token_ids)
    ours = numpy_bert.sentence_vector(checkpoint.config, checkpoint.weights, token_ids, shape.pooling or "")
    # llama.cpp looks GELU up in a table of half precision.
    assert np.abs(theirs - ours).max() < 1e-3


def test_the_comparison_would_notice_a_lost_bias(tmp_path: Path) -> None:
    """Guards the test above: one small tensor left out must show, and so must another way of pooling."""
    checkpoint = write_bert(tmp_path / "checkpoint")
    token_ids = unpadded(checkpoint, TEXT)
    whole = numpy_bert.sentence_vector(checkpoint.config, checkpoint.weights, token_ids)
    for lost in ("encoder.layer.1.attention.self.value.bias", "embeddings.LayerNorm.bias", "encoder.layer.0.output.dense.bias"):
        part = checkpoint.weights | {lost: np.zeros_like(checkpoint.weights[lost])}
        assert np.abs(numpy_bert.sentence_vector(checkpoint.config, part, token_ids) - whole).max() > 1e-2
    assert np.abs(numpy_bert.sentence_vector(checkpoint.config, checkpoint.weights, token_ids, "cls") - whole).max() > 1e-2


def unpadded(checkpoint: WrittenCheckpoint, text: str) -> list[int]:
    checkpoint.tokenizer.no_padding()
    checkpoint.tokenizer.no_truncation()
    return list(checkpoint.tokenizer.encode(text).ids)


def test_quantized_by_the_existing_path(tmp_path: Path) -> None:
    """Q8_0 keeps the vector's direction."""
    checkpoint = write_bert(tmp_path / "checkpoint")
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32")
    quantize(tmp_path / "model.gguf", tmp_path / "small.gguf", "Q8_0", threads=1)
    token_ids = unpadded(checkpoint, TEXT)
    vectors = []
    for name in ("model.gguf", "small.gguf"):
        with llama.loaded(tmp_path / name) as model:
            vectors.append(llama.sentence_vector(model, token_ids))
    assert 0.998 < float(vectors[0] @ vectors[1]) < 0.999999


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_equal_the_checkpoints(tmp_path: Path, lowercase: bool) -> None:
    """On 4,000 texts by the engine's tokenizer, and by llama.cpp's own where these are of Latin letters."""
    tokenizer = build_wordpiece()
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    checkpoint = write_bert(tmp_path / "m", tokenizer=tokenizer)
    convert_checkpoint(checkpoint.folder, tmp_path / "m.gguf")
    ours = read_wordpiece(read_header(tmp_path / "m.gguf"))
    n_latin, differing = 0, []
    with llama.loaded(tmp_path / "m.gguf", vocabulary_only=True) as model:
        for text in filter(is_settled, texts(4000)):
            expected = unpadded(checkpoint, text)[1:-1]
            found = [list(ours.tokenize(text))]
            if all(character < "\u0300" and character not in "\v\f\x85" for character in text) and len(text) < 100:
                found.append(llama.tokenize(model, text, special=False))
                n_latin += 1
            if found != [expected] * len(found):
                differing.append(text)
    assert differing == []
    assert n_latin > 500


def test_pooling_by_name_and_none(tmp_path: Path) -> None:
    """Newer files name the way of pooling; a plain BERT says none, and then neither does the GGUF."""
    folder = write_bert(tmp_path / "m").folder
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    assert converted(folder)["bert.pooling_type"] == gguf.PoolingType.CLS
    (folder / "modules.json").unlink()
    assert "bert.pooling_type" not in converted(folder)


def test_the_calibration_of_a_router(tmp_path: Path) -> None:
    """From the file that training leaves beside the checkpoint, as the decider reads it."""
    folder = write_bert(tmp_path / "m").folder
    write_json(folder / "archroute.json", {"share": 0.7, "scale": 12.5, "other_cosine": -0.25, "text_format": TEXT_FORMAT})
    converted(folder)
    assert read_encoder_scale(read_header(tmp_path / "m.gguf")) == EncoderScale(12.5, -0.25, EncoderScale().switch_over)
    write_json(folder / "archroute.json", {"scale": 12.5, "other_cosine": 0, "text_format": 1, "switch_over": 0.5})
    converted(folder)
    assert read_encoder_scale(read_header(tmp_path / "m.gguf")) == EncoderScale(12.5, 0.0, 0.5)


def test_what_other_scores(tmp_path: Path) -> None:
    """All of it from the files that training leaves beside the checkpoint, as the decider reads it."""
    folder = write_bert(tmp_path / "m").folder
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    numbers = {"other_routes": 0.5, "other_nearness": -0.25, "other_known": 0.125, "topic_shift": -0.0625}
    numbers |= {"catch_all_bound": 0.5}
    write_json(folder / "archroute.json", HUBNESS | {"hubness_weight": 0} | numbers)
    topics = np.random.default_rng(6).normal(size=(2, width)).astype(np.float32)
    rows = np.ones((3, width), np.int8)
    direction = np.full((1, width), width**-0.5, np.float32)
    tensors = {"references": rows, "topics": topics, "catch_all": direction}
    save_file(tensors, folder / "archroute-references.safetensors")
    converted(folder)
    scale = read_encoder_scale(read_header(tmp_path / "m.gguf"))
    assert scale.catch_all is not None and (scale.catch_all == direction).all()
    assert {name: getattr(scale, name) for name in numbers} == numbers
    assert scale.topics is not None and (scale.topics == topics).all()
    assert read_hubness(read_header(tmp_path / "m.gguf")) is not None


def test_what_hubness_is_reckoned_by(tmp_path: Path) -> None:
    """As training leaves it beside the checkpoint, through quantization too, as the decider reads it."""
    folder = write_bert(tmp_path / "m").folder
    write_json(folder / "archroute.json", HUBNESS)
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    rows = np.random.default_rng(5).integers(-127, 128, (3, width)).astype(np.int8)
    save_file({"references": rows}, folder / "archroute-references.safetensors")
    converted(folder)
    quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", level_named("Q8_0"))
    for path in (tmp_path / "m.gguf", tmp_path / "q.gguf"):
        header = read_header(path)
        # Numbers of 8 bits, by eights.
        assert header.length(REFERENCES_KEY) == rows.size / 8
        hubness = read_hubness(header)
        assert hubness is not None and (hubness.weight, hubness.neighbours) == (0.25, 2)
        assert hubness.references == pytest.approx(rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True))


def change(name: str, edit: Callable[[Any], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        edit(content)
        write_json(folder / name, content)

    return damage


def topics_in_one_row(folder: Path) -> None:
    write_json(folder / "archroute.json", HUBNESS | {"hubness_weight": 0})
    save_file({"topics": np.ones(4, np.float32)}, folder / "archroute-references.safetensors")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "two ways of pooling": (
        change("1_Pooling/config.json", lambda c: c.update(pooling_mode_cls_token=True)),
        "pools by 'pooling_mode_cls_token, pooling_mode_mean_tokens'",
    ),
    "an unknown way of pooling": (
        change("1_Pooling/config.json", lambda c: (c.clear(), c.update(pooling_mode="weightedmean"))),
        "pools by 'weightedmean'; llama.cpp can by one of mean, cls, lasttoken",
    ),
    "a dense layer behind the pooling": (
        change("modules.json", lambda c: c.append({"path": "3_Dense", "type": "sentence_transformers.models.Dense"})),
        "the step 'Dense' cannot be converted",
    ),
    "pooling outside of the folder": (change("modules.json", lambda c: c[1].update(path="../x")), "no folder of this one"),
    "a calibration without numbers": (
        lambda f: write_json(f / "archroute.json", {"scale": "12", "other_cosine": 0.1, "text_format": 1}),
        "scale is '12', a number is needed",
    ),
    "topics that are no rows": (
        topics_in_one_row,
        "the tensor 'topics' has no rows of float32",
    ),
    "hubness without references": (
        lambda f: write_json(f / "archroute.json", HUBNESS),
        "archroute-references.safetensors: is missing",
    ),
    "modules that are no list": (lambda f: write_json(f / "modules.json", {}), "not a list of modules"),
    "positions that turn": (
        change("config.json", lambda c: c.update(position_embedding_type="relative_key")),
        "position_embedding_type is 'relative_key'",
    ),
    "another activation": (change("config.json", lambda c: c.update(hidden_act="relu")), "hidden_act is 'relu'"),
    "fewer positions than stored": (change("config.json", lambda c: c.update(max_position_embeddings=32)), "implies [32, 64]"),
    "another normaliser": (
        change("tokenizer.json", lambda c: c.update(normalizer={"type": "Lowercase"})),
        "does not normalise and cut text as BERT does",
    ),
    "ideographs that are no words": (
        change("tokenizer.json", lambda c: c["normalizer"].update(handle_chinese_chars=False)),
        "does not normalise and cut text as BERT does",
    ),
    "words of another length": (
        change("tokenizer.json", lambda c: c["model"].update(max_input_chars_per_word=20)),
        "max_input_chars_per_word is 20",
    ),
    "no token behind the text": (
        change("tokenizer.json", lambda c: c["post_processor"]["single"].pop()),
        "puts ['[CLS]'] around a text",
    ),
    "tokens that become one": (
        change("tokenizer.json", lambda c: c["model"]["vocab"].update({"##▁the": len(c["model"]["vocab"])})),
        "two tokens are one for llama.cpp",
    ),
    "a tokenizer of another kind": (
        lambda f: write_tokenizer(f, build_tokenizer()),
        "a BPE tokenizer, which bert is not converted with",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """What llama.cpp would compute differently, and what is no sound checkpoint."""
    damage, message = REFUSED[name]
    folder = write_bert(tmp_path / "m", replace(BERT, vocab_padding=1)).folder
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(folder, tmp_path / "m.gguf")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.gguf").exists()
