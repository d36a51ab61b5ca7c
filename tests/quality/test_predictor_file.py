"""Files of predictors: what is written is read back to the last bit, and damage is told."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality import (
    MOST_BYTES,
    Heads,
    Novelty,
    PromptFeatures,
    load_predictor,
    read_about,
    save_predictor,
    train_heads,
)
from archroute_edge.quality._ridges import USUAL_RIDGES
from tests.quality.difficulty import ENCODER, make

FLIPS = 2000


@pytest.fixture(scope="module")
def heads() -> Heads:
    made_up = make(40)
    found = train_heads(made_up.outcomes, made_up.features, encoder=ENCODER, ridges=USUAL_RIDGES, word_bits=5).predictor
    found.novelty = Novelty.of(made_up.features)
    return found


@pytest.fixture
def saved(heads: Heads, tmp_path: Path) -> Path:
    path = tmp_path / "p.safetensors"
    save_predictor(heads, path, trained_on="made up (40 prompts)", licence="CC0")
    return path


@pytest.fixture(scope="module")
def prompts() -> PromptFeatures:
    return make(10, seed=5).features


def parts(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors."""
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def joined(header: Any, rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def test_it_comes_back_to_the_last_bit(heads: Heads, saved: Path, prompts: PromptFeatures) -> None:
    found = load_predictor(saved)
    assert isinstance(found, Heads)
    assert (found.models, found.encoder, found.policy) == (heads.models, ENCODER, "heads")
    assert (found.expected(prompts) == heads.expected(prompts)).all()
    assert (found.sample == heads.sample).all()
    assert found.sample_tokens is not None and (found.sample_tokens == heads.sample_tokens).all()
    assert found.novelty is not None and heads.novelty is not None
    assert (found.novelty.unlike(prompts) == heads.novelty.unlike(prompts)).all()
    assert read_about(saved)["trained_on"] == "made up (40 prompts)" and read_about(saved)["licence"] == "CC0"
    again = saved.with_name("again.safetensors")
    save_predictor(found, again, trained_on="made up (40 prompts)", licence="CC0")
    assert again.read_bytes() == saved.read_bytes()


def test_a_grown_one_and_one_without_vectors_come_back(tmp_path: Path, prompts: PromptFeatures) -> None:
    made_up = make(30)
    plain = train_heads(
        made_up.outcomes, PromptFeatures(made_up.features.texts, None), word_bits=5, ridges=USUAL_RIDGES
    ).predictor
    graded = make(12, skills=(0.0,), missing=0.0)
    grown = plain.with_model("ünï", replace(graded.outcomes, models=("ünï",)), PromptFeatures(graded.features.texts, None))
    for number, each in enumerate((plain, grown)):
        path = tmp_path / f"{number}.safetensors"
        save_predictor(each, path)
        found = load_predictor(path)
        texts = PromptFeatures(prompts.texts, None)
        assert found.models == each.models and found.encoder is None
        assert (found.expected(texts) == each.expected(texts)).all()


def test_other_programs_can_read_it(heads: Heads, saved: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    found = safetensors.load_file(saved)
    assert (found["intercept"] == heads.weights.intercept).all()
    assert found["word_weights"].dtype == np.float16


def test_a_usual_predictor_is_small(tmp_path: Path) -> None:
    """Three tiers, vectors of 384 numbers and 2,000 prompts in the sample: far below 2 MB."""
    made_up = make(50)
    vectors = np.zeros((50, 384), np.float32)
    vectors[np.arange(50), np.arange(50)] = 1.0
    features = PromptFeatures(made_up.features.texts, vectors)
    found = train_heads(made_up.outcomes, features, encoder=ENCODER, ridges=USUAL_RIDGES).predictor
    found.sample = np.tile(found.sample, (40, 1))
    found.sample_tokens = np.ones(2000)
    save_predictor(found, tmp_path / "p")
    assert (tmp_path / "p").stat().st_size < 400_000


def test_every_truncation_is_told(saved: Path) -> None:
    raw = saved.read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    # Every place in the header, and every seventh in the tensors.
    for length in (*range(header), *range(header, len(raw), 7)):
        saved.write_bytes(raw[:length])
        with pytest.raises(QualityError, match=rf"^{saved}: \S"):
            load_predictor(saved)
    saved.write_bytes(raw + b"\0")
    with pytest.raises(QualityError, match="bytes behind its tensors"):
        load_predictor(saved)


def test_flipped_bytes_are_told_or_do_no_harm(saved: Path, prompts: PromptFeatures) -> None:
    """A number among the weights may change unseen; then the scores are still finite. Nothing else is raised."""
    raw = saved.read_bytes()
    draw = np.random.default_rng(8)
    header = 8 + int.from_bytes(raw[:8], "little")
    few = prompts.rows(np.array([0, 1]))
    n_read = 0
    for flip in range(FLIPS):
        damaged = bytearray(raw)
        place = int(draw.integers(header if flip % 2 else len(raw)))
        damaged[place] ^= 1 << int(draw.integers(8))
        saved.write_bytes(damaged)
        try:
            found = load_predictor(saved)
        except QualityError as exc:
            assert "\n" not in str(exc)
            continue
        n_read += 1
        expected = found.expected(few)
        assert np.isfinite(expected).all() and (expected >= 0).all() and (expected <= 1).all()
        assert np.isfinite(found.sample).all()
    assert 0 < n_read < FLIPS


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: header["intercept"].update(dtype="F8"), "tensor 'intercept' has no usable dtype"),
        (lambda header: header["intercept"].update(shape=[-1]), "tensor 'intercept' has no usable dtype"),
        (lambda header: header["intercept"].update(shape=[True]), "tensor 'intercept' has no usable dtype"),
        (lambda header: header["intercept"].update(shape=[1 << 40]), "tensor 'intercept' has no usable dtype"),
        (lambda header: header["intercept"].update(shape=[4]), "does not lie where its shape says"),
        (lambda header: header["intercept"].update(data_offsets=[0, 1, 2]), "tensor 'intercept' has no usable dtype"),
        (lambda header: header["intercept"].update(data_offsets=[8, 32]), "does not lie where its shape says"),
        (lambda header: header["intercept"].update(more=1), "tensor 'intercept' has no usable dtype"),
        (lambda header: header.update(intercept=3), "tensor 'intercept' has no usable dtype"),
        (lambda header: header.update(extra=header["intercept"]), "does not lie where its shape says"),
        (lambda header: header.pop("__metadata__"), "holds no predictor of quality"),
        (lambda header: header["__metadata__"].update(format="pt"), "holds no predictor of quality"),
        (lambda header: header["__metadata__"].update(version="2"), "has version '2' of the format"),
        (lambda header: header["__metadata__"].update(policy="oracle"), "the policy 'oracle', which this"),
        (lambda header: header["__metadata__"].update(policy=1), "its header lacks one of"),
        (lambda header: header["__metadata__"].update(models="["), "its models"),
        (lambda header: header["__metadata__"].update(models="[]"), "must name 1 to 1000 models"),
        (lambda header: header["__metadata__"].update(models='["a", "a", "b"]'), "each once"),
        (lambda header: header["__metadata__"].update(models='["a", "b", " "]'), "a model's name must be a text"),
        (lambda header: header["__metadata__"].update(models='["a", "b"]'), "its sample has no column for each of 2 models"),
        (lambda header: header["__metadata__"].update(encoder="abc"), "its encoder is no SHA-256"),
        (lambda header: header["__metadata__"].update(encoder=""), "its vectors have no usable width"),
        (lambda header: header["__metadata__"].update(settings="[]"), "its settings are no object"),
        (lambda header: header["__metadata__"].update(settings="{}"), "trained on texts as another archroute-edge reads them"),
        (lambda header: header.update(oddly_named=header.pop("intercept")), "lacks a tensor intercept of 3 floats"),
    ],
)
def test_a_header_that_is_wrong_is_told(saved: Path, change: Change, said: str) -> None:
    header, rest = parts(saved.read_bytes())
    change(header)
    saved.write_bytes(joined(header, rest))
    with pytest.raises(QualityError) as caught:
        load_predictor(saved)
    assert str(caught.value).startswith(f"{saved}: ") and said in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_weights_that_are_no_numbers_or_too_large_are_told(saved: Path, value: float) -> None:
    header, rest = parts(saved.read_bytes())
    begin = header["text_weights"]["data_offsets"][0]
    saved.write_bytes(joined(header, rest[:begin] + np.float32(value).tobytes() + rest[begin + 4 :]))
    with pytest.raises(QualityError, match=r"not finite|beyond 10000"):
        load_predictor(saved)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    for raw, said in (
        (b"", "is no predictor, or cut off"),
        (b"GGUF" + bytes(600), "GGUF version 0 is not supported"),
        (b"\x1f\x8b" + bytes(600), "packed with gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (bytes(700), "zeros only"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "is no predictor"),
    ):
        path.write_bytes(raw)
        with pytest.raises(QualityError, match=said):
            load_predictor(path)
    with pytest.raises(QualityError, match=r"none\.safetensors: cannot be read"):
        load_predictor(tmp_path / "none.safetensors")
    with pytest.raises(QualityError, match="a folder, and no predictor"):
        load_predictor(tmp_path)


def test_a_large_file_is_refused_without_reading_it_whole(tmp_path: Path, heads: Heads) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + (1 << 30))
    tracemalloc.start()
    with pytest.raises(QualityError, match="has more than 67,108,864 bytes"):
        load_predictor(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 3 * MOST_BYTES


def test_one_that_cannot_be_written_leaves_the_old_file(saved: Path, heads: Heads, tmp_path: Path) -> None:
    before = saved.read_bytes()
    large = Heads(heads.models, heads.encoder, np.zeros((6_000_000, 3)), heads.scaling, heads.weights)
    with pytest.raises(QualityError, match=r"more than the 67,108,864 that a predictor may have"):
        save_predictor(large, saved)
    assert saved.read_bytes() == before and [*tmp_path.iterdir()] == [saved]
    with pytest.raises(QualityError, match="cannot be written"):
        save_predictor(heads, tmp_path / "no folder" / "p")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the name of the model '' is blank"),
        ("x" * 201, "has 201 characters; 200 are the most"),
        ("model 1", "two models are called 'model 1'"),
    ],
)
def test_names_that_could_not_be_read_again_are_refused(heads: Heads, tmp_path: Path, name: str, said: str) -> None:
    named = Heads((name, *heads.models[1:]), heads.encoder, heads.sample, heads.scaling, heads.weights)
    with pytest.raises(QualityError, match=said):
        save_predictor(named, tmp_path / "p")
    assert not [*tmp_path.iterdir()]


def test_half_characters_are_replaced(heads: Heads, tmp_path: Path) -> None:
    """They come from names of files and arguments that are not UTF-8, and cannot be written."""
    path = tmp_path / "p"
    named = Heads(("\ud800", *heads.models[1:]), heads.encoder, heads.sample, heads.scaling, heads.weights)
    save_predictor(named, path, trained_on="caf\udce9 (40 prompts)", licence="\udce9")
    assert load_predictor(path).models[0] == "\ufffd"
    assert (read_about(path)["trained_on"], read_about(path)["licence"]) == ("caf\ufffd (40 prompts)", "\ufffd")


def test_one_trained_on_vectors_that_are_nearly_alike_comes_back(tmp_path: Path) -> None:
    """Scales are bounded in a file; what training makes must keep the bound."""
    made_up = make(30)
    vectors = np.ones((30, 16), np.float32)
    vectors[:, 0] += np.linspace(0, 1e-5, 30, dtype=np.float32)
    features = PromptFeatures(made_up.features.texts, (vectors / 4).astype(np.float32))
    found = train_heads(made_up.outcomes, features, encoder=ENCODER, ridges=USUAL_RIDGES, word_bits=5).predictor
    save_predictor(found, tmp_path / "p")
    assert (load_predictor(tmp_path / "p").expected(features) == found.expected(features)).all()
