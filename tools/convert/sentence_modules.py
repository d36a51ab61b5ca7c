"""The files beside a sentence encoder's checkpoint: how its vectors are made, and how to route by them.

sentence-transformers' ``modules.json`` lists the steps from the tokens' states to a vector; the pooling step has a
``config.json`` in its own folder. Older files have a flag for each way of pooling, newer ones its name. Our own
``archroute.json``, written by ``training/mini``, has the calibration of an encoder that was trained to route, and
``archroute-references.safetensors`` the messages from which hubness is computed, the topics of ``other``, and what a
catch-all is near to.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Final

import gguf
import numpy as np

from archroute_edge.deciders import (
    CATCH_ALL_BOUND_KEY,
    CATCH_ALL_KEY,
    HUBNESS_NEIGHBOURS_KEY,
    HUBNESS_WEIGHT_KEY,
    OTHER_COSINE_KEY,
    OTHER_KNOWN_KEY,
    OTHER_NEARNESS_KEY,
    OTHER_ROUTES_KEY,
    REFERENCES_KEY,
    SCALE_KEY,
    SWITCH_OVER_KEY,
    TEXT_FORMAT_KEY,
    TOPIC_SHIFT_KEY,
    TOPICS_KEY,
)
from archroute_edge.errors import CheckpointError
from tools.convert.json_files import Settings, as_number, read_settings, read_text
from tools.convert.safetensors_files import read_index

_POOLING: Final = {
    "mean": gguf.PoolingType.MEAN,
    "cls": gguf.PoolingType.CLS,
    "lasttoken": gguf.PoolingType.LAST,
}
_FLAGS: Final = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}
ROUTING_FILE: Final = "archroute.json"
REFERENCES_FILE: Final = "archroute-references.safetensors"
REFERENCES: Final = "references"
"""A tensor in there: (messages, width), 8-bit whole numbers; a row is a vector's direction."""
TOPICS: Final = "topics"
"""Another one: (topics, width), float32; what belongs to no route."""
CATCH_ALL: Final = "catch_all"
"""A third: (1, width), float32; what a catch-all is near to, a route for whatever fits no other."""
_ROUTING_KEYS: Final = {"scale": SCALE_KEY, "other_cosine": OTHER_COSINE_KEY}
_FURTHER_KEYS: Final = {
    "switch_over": SWITCH_OVER_KEY,
    "other_routes": OTHER_ROUTES_KEY,
    "other_nearness": OTHER_NEARNESS_KEY,
    "other_known": OTHER_KNOWN_KEY,
    "topic_shift": TOPIC_SHIFT_KEY,
    "catch_all_bound": CATCH_ALL_BOUND_KEY,
}
_STEPS: Final = ("Transformer", "Pooling", "Normalize")
"""The steps that a GGUF can express; code that compares vectors by angle normalises them anyway."""


def read_pooling(folder: Path) -> gguf.PoolingType | None:
    """How a sentence's vector is made from its tokens', or None if the checkpoint is not a sentence encoder.

    Raises:
        CheckpointError: a file is malformed, or has a step or a way of pooling that llama.cpp does not compute.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return None
    pooling = None
    for step in _read_steps(path):
        kind = str(step.get("type")).rpartition(".")[2]
        if kind not in _STEPS:
            raise CheckpointError(f"{path}: the step {kind!r} cannot be converted; {', '.join(_STEPS)} can")
        if kind == "Pooling":
            pooling = _read_way(folder, path, step.get("path"))
    return pooling


def _read_steps(path: Path) -> list[dict[str, Any]]:
    try:
        steps = json.loads(read_text(path))
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path}: not usable JSON ({exc})") from None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CheckpointError(f"{path}: not a list of modules; the file is damaged")
    return steps


def _read_way(folder: Path, path: Path, name: Any) -> gguf.PoolingType:
    # The list is data: it must not lead out of the folder.
    if not isinstance(name, str) or PurePosixPath(name).name != name or "\\" in name:
        raise CheckpointError(f"{path}: pooling is in {name!r}, which is no folder of this one")
    settings = read_settings(folder / name / "config.json")
    flags = [key for key, value in settings.values.items() if key.startswith("pooling_mode_") and value is True]
    way = settings.get("pooling_mode") if not flags else _FLAGS.get(flags[0]) if len(flags) == 1 else None
    if not isinstance(way, str) or way not in _POOLING:
        asked = ", ".join(flags) or settings.get("pooling_mode")
        raise CheckpointError(f"{settings.path}: pools by {asked!r}; llama.cpp can by one of {', '.join(_POOLING)}")
    return _POOLING[way]


def add_routing(writer: gguf.GGUFWriter, folder: Path) -> None:
    """Write what an encoder that was trained to route knows of it, as keys of our own; nothing for any other encoder.

    Raises:
        CheckpointError: a number is missing or is none, or the references are missing or damaged.
    """
    if not (folder / ROUTING_FILE).is_file():
        return
    settings = read_settings(folder / ROUTING_FILE)
    writer.add_uint32(TEXT_FORMAT_KEY, settings.integer("text_format"))
    for name, key in _ROUTING_KEYS.items():
        writer.add_float32(key, _number(settings, name))
    for name, key in _FURTHER_KEYS.items():
        if settings.get(name) is not None:
            writer.add_float32(key, _number(settings, name))
    if settings.get("hubness_weight") or settings.get("other_known"):
        _add_hubness(writer, folder, settings)
    _add_rows(writer, folder, TOPICS, TOPICS_KEY)
    _add_rows(writer, folder, CATCH_ALL, CATCH_ALL_KEY)


def _number(settings: Settings, name: str) -> float:
    number = as_number(settings.get(name))
    if number is None:
        raise CheckpointError(f"{settings.path}: {name} is {repr(settings.get(name))[:100]}, a number is needed")
    return number


def _add_hubness(writer: gguf.GGUFWriter, folder: Path, settings: Settings) -> None:
    path = folder / REFERENCES_FILE
    if not path.is_file():
        raise CheckpointError(f"{path}: is missing, and {settings.path.name} says that hubness is reckoned by it")
    stored = read_index(path).get(REFERENCES)
    if stored is None or stored.dtype != "I8" or len(stored.shape) != 2 or not stored.n_elements:
        raise CheckpointError(f"{path}: has no tensor {REFERENCES!r} of 8-bit rows; make it again with training/mini")
    numbers = np.frombuffer(b"".join(stored.read()), np.int8)
    # By eights: llama.cpp reads and prints an array number by number at each load.
    packed = (numbers.view("<u8"), gguf.GGUFValueType.UINT64) if numbers.size % 8 == 0 else (numbers, gguf.GGUFValueType.INT8)
    writer.add_float32(HUBNESS_WEIGHT_KEY, _number(settings, "hubness_weight"))
    writer.add_uint32(HUBNESS_NEIGHBOURS_KEY, settings.integer("hubness_neighbours"))
    writer.add_key_value(REFERENCES_KEY, packed[0].tolist(), gguf.GGUFValueType.ARRAY, packed[1])


def _add_rows(writer: gguf.GGUFWriter, folder: Path, name: str, key: str) -> None:
    path = folder / REFERENCES_FILE
    stored = read_index(path).get(name) if path.is_file() else None
    if stored is None:
        return
    if stored.dtype != "F32" or len(stored.shape) != 2 or not stored.n_elements:
        raise CheckpointError(f"{path}: the tensor {name!r} has no rows of float32; make it again with training/mini")
    numbers = np.frombuffer(b"".join(stored.read()), "<f4").tolist()
    writer.add_key_value(key, numbers, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.FLOAT32)
