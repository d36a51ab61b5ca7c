"""What a checkpoint calls the tensors of a GGUF."""

from __future__ import annotations

from collections.abc import Mapping


def checkpoint_name(name: str, names: Mapping[str, str], layers: str, layer_names: Mapping[str, str]) -> str:
    """The checkpoint's name of the tensor that a GGUF calls ``name``; parts that have no other name stay.

    Args:
        names: tensors outside the layers, GGUF's name to the checkpoint's, both without ``.weight`` or ``.bias``.
        layers: what stands before the number of a layer, such as ``model.layers``.
        layer_names: tensors of a layer, without what stands before them: GGUF's name to the checkpoint's.
    """
    name, _, kind = name.rpartition(".")
    if name.startswith("blk."):
        _, number, part = name.split(".")
        return f"{layers}.{number}.{layer_names.get(part, part)}.{kind}"
    return f"{names.get(name, name)}.{kind}"
