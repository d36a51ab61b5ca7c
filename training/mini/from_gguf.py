"""A checkpoint from a GGUF that was made of one, so that the numbers of a decision can be chosen anew without a training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import torch
from gguf import GGUFReader
from safetensors.torch import save_file

from training.folders import replaced_when_whole
from training.mini.gguf_weights import read_weights
from training.mini.objective import Answers
from training.mini.training import ANSWERS

_TOPICS: Final = "archroute.encoder.other_topics"


def checkpoint_from_gguf(path: Path, base: Path, folder: Path) -> None:
    """Write the checkpoint of an encoder that ``training.mini`` trained; quantized weights are what they stand for.

    The scale and the bounds of `other` are those of a new training: a calibration replaces them.

    Args:
        path: the GGUF.
        base: the checkpoint that the training began with, whose shape and tokenizer it has.
        folder: where to write.

    Raises:
        ValueError: the file is of another architecture or shape, or has no topics.
    """
    reader = GGUFReader(path)
    values = {name: field.contents() for name, field in reader.fields.items()}
    if values.get("general.architecture") != "bert" or _TOPICS not in values:
        raise ValueError("it was not trained by training.mini")
    weights = read_weights(reader, base)
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    answers = Answers(width).state_dict() | {"topics": torch.tensor(values[_TOPICS]).reshape(-1, width)}
    with replaced_when_whole(folder) as partial:
        shutil.copytree(base, partial, dirs_exist_ok=True)
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        torch.save(answers, partial / ANSWERS)
