"""A checkpoint folder as Hugging Face writes it: config.json and the tensors, in one safetensors file or in shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from archroute_edge.errors import CheckpointError
from archroute_edge.system import kind_of_file, kind_of_folder
from tools.convert.json_files import Settings, read_object, read_settings
from tools.convert.safetensors_files import StoredTensor, read_index

SINGLE_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint. Of the tensors only their places are known; nothing of their data has been read."""

    folder: Path
    config: Settings
    tensors: dict[str, StoredTensor]


def open_checkpoint(folder: Path, *, needs_weights: bool = True) -> Checkpoint:
    """Read config.json and the headers of all safetensors files, which may be missing if ``needs_weights`` is False.

    Raises:
        CheckpointError: a file is missing, damaged, or disagrees with the index.
    """
    if not folder.is_dir():
        what = f"is {kind_of_file(folder) or 'a file'}" if folder.exists() else "no such folder"
        raise CheckpointError(f"{folder}: {what}; name the folder that holds config.json and {SINGLE_FILE}")
    if kind := kind_of_folder(folder):
        raise CheckpointError(f"{folder}: {kind}")
    config = read_settings(folder / "config.json")
    if (folder / INDEX_FILE).is_file():
        tensors = _read_shards(folder)
    elif (folder / SINGLE_FILE).is_file():
        tensors = read_index(folder / SINGLE_FILE)
    elif needs_weights:
        raise CheckpointError(f"{folder}: {_why_no_weights(folder)}")
    else:
        tensors = {}
    return Checkpoint(folder, config, tensors)


def _why_no_weights(folder: Path) -> str:
    if any(folder.glob("model-*.safetensors")):
        return f"has shards but no {INDEX_FILE}, so that nobody can tell whether they are all there; get it too"
    if any(folder.glob("pytorch_model*.bin")) or any(folder.glob("*.pt")):
        return (
            "holds pickled weights only, which can run code when read; save the model again with "
            "save_pretrained(..., safe_serialization=True)"
        )
    return f"has neither {SINGLE_FILE} nor {INDEX_FILE}"


def _read_shards(folder: Path) -> dict[str, StoredTensor]:
    path = folder / INDEX_FILE
    weight_map = read_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: has no weight_map; the file is damaged")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted({str(name) for name in weight_map.values()}):
        # The index is data: it must not lead out of the folder.
        if PurePosixPath(shard).name != shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise CheckpointError(f"{path}: names the shard {shard!r}, which is no safetensors file of this folder")
        for name, tensor in read_index(folder / shard).items():
            if weight_map.get(name) != shard:
                raise CheckpointError(f"{folder / shard}: holds tensor {name!r}, which {INDEX_FILE} does not place there")
            tensors[name] = tensor
    missing = sorted(set(weight_map) - set(tensors))
    if missing:
        shard = weight_map[missing[0]]
        raise CheckpointError(f"{folder / shard}: lacks tensor {missing[0]!r} ({len(missing)} are missing); get it again")
    return tensors
