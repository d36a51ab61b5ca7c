"""The small JSON file beside a model that records how it was made."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from archroute_edge import __version__
from archroute_edge.engine import build
from archroute_edge.errors import QuantizationError
from archroute_edge.quantize import read_imatrix
from archroute_edge.system import replaced_when_whole
from tools.convert.hub_checkpoint import CheckpointSource

_BLOCK: Final = 1 << 20


def record_path(model: Path) -> Path:
    """``model.gguf`` has ``model.json`` beside it."""
    return model.with_suffix(".json")


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def describe_source(source: CheckpointSource) -> dict[str, Any]:
    """A model's source: its name, the hub's commit, and the SHA-256 of the weights and of the tokenizer."""
    files = sorted([*source.folder.glob("*.safetensors"), *source.folder.glob("tokenizer.json")])
    return {"checkpoint": source.name, "revision": source.revision, "sha256": {path.name: sha256_of(path) for path in files}}


def describe_imatrix(path: Path | None) -> dict[str, Any] | None:
    """Which importance matrix was used."""
    if path is None:
        return None
    imatrix = read_imatrix(path)
    return {
        "sha256": sha256_of(path),
        "datasets": list(imatrix.datasets),
        "chunk_count": imatrix.chunk_count,
        "chunk_size": imatrix.chunk_size,
    }


def tool_versions() -> dict[str, str]:
    """Of everything that has a hand in the result."""
    return {
        "archroute-edge": __version__,
        "llama-cpp-python": build().binding_version,
        "llama.cpp": build().llama_cpp_version,
        "gguf": version("gguf"),
    }


def write_record(model: Path, content: dict[str, Any]) -> Path:
    """Write ``content`` beside ``model``, whole or not at all, and return where.

    Raises:
        QuantizationError: it cannot be written.
    """
    target = record_path(model)
    try:
        with replaced_when_whole(target) as partial:
            partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as exc:
        raise QuantizationError(f"{target}: cannot be written ({exc.strerror or exc})") from exc
    return target
