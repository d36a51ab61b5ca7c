"""What a file or folder is that stands where a model is wanted, told by how it begins, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

ENOUGH_BYTES: Final = 512
"""How much of a file's beginning is needed."""

SAFETENSORS: Final = (
    "a safetensors file; a GGUF is made from the folder of its checkpoint: python -m tools.convert FOLDER -o FILE"
)
"""What :func:`other_kind` says of these."""

_ARCHIVES: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}
_OLD_GGML: Final = (b"lmgg", b"fmgg", b"tjgg", b"algg")
_UNPACK: Final = "unpack it, and name the file inside"
_PICKLE: Final = (
    "pickled weights of PyTorch, which can run code when read; save the model again with "
    "save_pretrained(..., safe_serialization=True)"
)


def other_kind(start: bytes) -> str | None:
    """What a file is that begins with ``start``, and what to do; None where it is none of the usual mistakes.

    Args:
        start: its first bytes, :data:`ENOUGH_BYTES` of them if it has as many.
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs.github.com/"):
        return "a Git LFS pointer and not the file itself, which is still to be fetched: git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "a web page and not the file; get it again by its download link (on the hub .../resolve/..., not .../blob/...)"
    if text.startswith(b"{") and b"docker.distribution.manifest" in text:
        return "a manifest of Ollama; name the blob of its model layer (models/blobs/sha256-...)"
    if text.startswith((b'{"error', b'{ "error', b"invalid username", b"access to model", b"entry not found")):
        return "a server's error message and not the file; get it again, with access to it"
    # Before the others: the length that these begin with may have any bytes.
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") < 1 << 30:
        return SAFETENSORS
    for magic, name in _ARCHIVES.items():
        if start.startswith(magic):
            return f"packed with {name}; {_UNPACK}"
    if start.startswith(b"PK\x03\x04"):
        return _PICKLE if b"/data.pkl" in start else f"a zip archive; {_UNPACK}"
    if start[257:262] == b"ustar":
        return f"a tar archive; {_UNPACK}"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and len(start) > 1:
        return _PICKLE
    if start.startswith(_OLD_GGML):
        return "in llama.cpp's format from before GGUF; get the model as GGUF"
    if start.startswith(b"GGUF"):
        return "a GGUF already"
    if len(start) >= ENOUGH_BYTES and not start.strip(b"\0"):
        return "zeros only at its beginning, as an unfinished download leaves it; get it again"
    return None


def kind_of_file(path: Path) -> str | None:
    """As :func:`other_kind`, for the file at ``path``; None also where it cannot be read."""
    try:
        with path.open("rb") as file:
            return other_kind(file.read(ENOUGH_BYTES))
    except OSError:
        return None


def kind_of_folder(folder: Path) -> str | None:
    """What a folder holds in the place of a whole checkpoint, and what to do; None where nothing is known."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return None
    if "adapter_config.json" in names and "config.json" not in names:
        base = _read(folder / "adapter_config.json").get("base_model_name_or_path")
        of = f" of {base[:100]}" if isinstance(base, str) and base else ""
        return f"a LoRA adapter{of}; merge it into its base model first (merge_and_unload() of PEFT, then save_pretrained)"
    quantization = _read(folder / "config.json").get("quantization")
    if isinstance(quantization, dict) and "group_size" in quantization:
        return "a quantized MLX model; take the checkpoint that it was made from"
    if "config.json" not in names and (ggufs := sorted(name for name in names if name.endswith(".gguf"))):
        return f"a folder of GGUF files, which are models already ({', '.join(ggufs[:3])})"
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
