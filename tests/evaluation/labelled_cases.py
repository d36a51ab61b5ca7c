"""Small files of labelled cases, and a model that is broken on purpose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CODING = [
    {"name": "bug_fixing", "description": "Identifying and fixing errors or bugs in the provided code"},
    {"name": "code_generation", "description": "Creating new code from a description"},
    {"name": "performance_optimization", "description": "Making code faster"},
]
HOME = [{"name": "lights", "description": "switching lights"}, {"name": "music", "description": "playing [music] & songs"}]


def case(message: str, route: str, routes: Sequence[dict[str, str]] | None = CODING, **more: Any) -> dict[str, Any]:
    """A case of one message; without ``routes`` it carries none."""
    table = {} if routes is None else {"routes": routes}
    return {"messages": message, **table, "route": route, **more}


def conversation(name: str, *turns: tuple[str, str], routes: Sequence[dict[str, str]] = HOME) -> list[dict[str, Any]]:
    """A case for each turn of a conversation, given as message and route."""
    messages: list[dict[str, str]] = []
    cases = []
    for number, (message, route) in enumerate(turns):
        messages = [*messages, {"role": "user", "content": message}]
        fields = {"messages": messages, "routes": routes, "route": route}
        cases.append({**fields, "conversation_id": name, "turn": number, "tags": ["multi-turn"]})
        messages = [*messages, {"role": "assistant", "content": "done"}]
    return cases


MIXED: list[dict[str, Any]] = [
    case("my test fails with an IndexError", "bug_fixing", tags=["single", "english"]),
    *conversation("evening", ("turn off the lights", "lights"), ("yes please", "lights"), ("play some jazz", "music")),
    case("write a function that sorts a list", "code_generation", tags=["single"]),
    *conversation("morning", ("<script>alert('good morning')</script>", "other"), ("louder", "music")),
    case("this loop is slow, make it faster", "performance_optimization", tags=["single"]),
    case("who won the match yesterday?", "other", tags=["single"]),
]
"""Two route tables in turn, two conversations, tags."""


def write_cases(path: Path, cases: Sequence[dict[str, Any]] = MIXED) -> Path:
    """Write a file of cases, one a line."""
    path.write_text("".join(f"{json.dumps(each)}\n" for each in cases), encoding="utf-8")
    return path


def write_shuffled(source: Path, target: Path) -> Path:
    """A copy of a GGUF in which the rows of the matrices of every layer are shuffled."""
    shutil.copy(source, target)
    reader = gguf.GGUFReader(target, "r+")
    rng = np.random.default_rng(0)
    for tensor in reader.tensors:
        if tensor.name.startswith("blk.") and len(tensor.data.shape) == 2:
            tensor.data[:] = tensor.data[rng.permutation(len(tensor.data))]
    reader.data.flush()
    return target
