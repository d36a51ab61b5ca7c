"""The base is read out of the published file exactly, and only out of that one."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from training.mini import base, vocabulary
from training.tests.mini.small_base import FEED_FORWARD, LAYERS, PIECES, WIDTH, SmallBase, make_small_base

NO_NORMALIZATION = struct.pack("<I", 1024) + bytes(1024)
"""A table of characters that leaves every text as it is."""


@pytest.fixture(scope="module")
def small() -> SmallBase:
    return make_small_base()


@pytest.fixture
def published(small: SmallBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the small file in the place of the published one."""
    monkeypatch.setattr(base, "_SHA256", hashlib.sha256(small.content).hexdigest())
    monkeypatch.setattr(vocabulary, "normalization", lambda: NO_NORMALIZATION)
    (tmp_path / Path(base._INSIDE).name).write_bytes(small.content)
    return tmp_path


def test_pieces_scores_and_tensors_are_those_of_the_file(small: SmallBase) -> None:
    found = base.parse_base(small.content)
    assert found.pieces == PIECES
    assert (found.scores == small.scores).all()
    assert (found.width, found.layers, found.feed_forward) == (WIDTH, LAYERS, FEED_FORWARD)
    for name, values in small.tensors.items():
        columns = values.shape[1] if values.ndim == 2 else None
        assert np.array_equal(found.tensor(name, None, columns), values)


def test_a_cut_keeps_the_vectors_of_its_pieces(small: SmallBase, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.array([0, 1, 2, 3, 4, 7, 20, len(PIECES) - 1])
    monkeypatch.setattr(base, "kept_pieces", lambda: kept)
    folder = base.fetch(published)
    weights = load_file(folder / "model.safetensors")
    assert np.array_equal(weights["embeddings.word_embeddings.weight"], small.tensors["emb.word"][kept])
    assert np.array_equal(weights["encoder.layer.3.output.dense.weight"], small.tensors["l3.fo.w"])
    assert np.array_equal(weights["encoder.layer.0.attention.output.LayerNorm.bias"], small.tensors["l0.aln.b"])
    assert len(weights) == len(small.tensors)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["vocab_size"], config["num_hidden_layers"], config["pad_token_id"]) == (len(kept), LAYERS, 1)


def test_another_choice_of_pieces_is_another_checkpoint(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training after a change of the vocabulary must not begin with the old cut."""
    folders = set()
    for kept in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 6]):
        monkeypatch.setattr(base, "kept_pieces", lambda kept=kept: np.array(kept))
        folders.add(base.fetch(published))
    assert len(folders) == 2


def test_an_unfinished_checkpoint_is_made_again(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "kept_pieces", lambda: np.arange(len(PIECES)))
    whole = base.fetch(published)
    (whole / "model.safetensors").rename(whole / "model.safetensors.partial")
    assert base.fetch(published) == whole
    assert (whole / "model.safetensors").is_file()


def test_another_file_is_not_used(small: SmallBase, published: Path) -> None:
    file = published / Path(base._INSIDE).name
    file.write_bytes(small.content[:-1] + b"x")
    with pytest.raises(RuntimeError, match="not the published file"):
        base.fetch(published)


def test_a_file_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with b'GGUF'"):
        base.parse_base(b"GGUF" + bytes(100))
