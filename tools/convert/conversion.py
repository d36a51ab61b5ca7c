"""From a checkpoint folder to a GGUF file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import gguf

from archroute_edge.errors import CheckpointError
from archroute_edge.system import replaced_when_whole
from tools.convert.architectures import architecture_of, place_tensors
from tools.convert.checkpoint import Checkpoint, open_checkpoint
from tools.convert.gguf_output import Progress, write_gguf
from tools.convert.hyperparameters import add_hyperparameters
from tools.convert.model_card import add_general
from tools.convert.number_types import NumberType
from tools.convert.sentence_modules import add_routing
from tools.convert.tokenizer import read_vocabulary

OutType = Literal["auto", "f32", "f16", "bf16"]

_FILE_TYPE: Final[dict[NumberType, int]] = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
}


@dataclass(frozen=True)
class Conversion:
    """The result. ``n_parameters`` counts numbers, ``n_bytes`` is the size of the file."""

    path: Path
    architecture: str
    outtype: str
    n_tensors: int
    n_parameters: int
    n_tokens: int
    pre_tokenizer: str
    chat_template: bool
    n_bytes: int


def convert_checkpoint(
    folder: Path,
    target: Path,
    outtype: OutType = "auto",
    *,
    name: str | None = None,
    licence: str | None = None,
    prompt_format: str | None = None,
    vocabulary_only: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> Conversion:
    """Convert the checkpoint in ``folder`` to the GGUF ``target``, which appears when it is whole and replaces an old one.

    Args:
        outtype: the type of matrices; ``auto`` is that of most of the checkpoint's own.
        name: ``general.name``, by default the folder's.
        licence: ``general.license``, by default the model card's.
        prompt_format: written as ``archroute.prompt_format``, for models trained on a certain router prompt.
        vocabulary_only: leave out the tensors, which may be missing from the checkpoint. ``auto`` is F16 then.

    Raises:
        CheckpointError: the checkpoint cannot be converted, or ``target`` cannot be written.
    """
    if not target.parent.is_dir():
        raise CheckpointError(f"{target.parent}: no such folder, so {target.name} cannot be written there")
    if target.is_dir():
        raise CheckpointError(f"{target}: is a folder; name the file to write")
    checkpoint = open_checkpoint(folder, needs_weights=not vocabulary_only)
    architecture = architecture_of(checkpoint)
    if vocabulary_only and architecture.encodes:
        raise CheckpointError(f"{folder}: an encoder, which is never remote; its vocabulary alone is of no use")
    tensors = [] if vocabulary_only else place_tensors(checkpoint, architecture)
    vocabulary = read_vocabulary(checkpoint, architecture)
    number_type = _number_type(checkpoint, outtype)
    n_parameters = sum(tensor.source.n_elements for tensor in tensors)
    writer = gguf.GGUFWriter(None, architecture.name)
    add_general(writer, checkpoint, n_parameters, name=name, licence=licence)
    add_hyperparameters(writer, checkpoint, architecture)
    writer.add_file_type(_FILE_TYPE[number_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    vocabulary.add_to(writer)
    if architecture.encodes:
        add_routing(writer, checkpoint.folder)
    if prompt_format:
        writer.add_string("archroute.prompt_format", prompt_format)
    try:
        with replaced_when_whole(target) as partial:
            header = write_gguf(partial, writer, tensors, number_type, on_progress)
    except UnicodeEncodeError as exc:
        text = ascii(exc.object[max(0, exc.start - 20) : exc.end])
        raise CheckpointError(f"{folder}: a text in its tokenizer or model card is not valid Unicode ({text})") from exc
    except OSError as exc:
        raise CheckpointError(f"{target}: cannot be written ({exc.strerror or exc})") from exc
    return Conversion(
        path=target,
        architecture=architecture.name,
        outtype=number_type.lower(),
        n_tensors=len(tensors),
        n_parameters=n_parameters,
        n_tokens=len(vocabulary.tokens),
        pre_tokenizer=vocabulary.pre_tokenizer,
        chat_template=vocabulary.chat_template is not None,
        n_bytes=header.file_size,
    )


def _number_type(checkpoint: Checkpoint, outtype: OutType) -> NumberType:
    if outtype == "f32":
        return "F32"
    if outtype == "f16" or (outtype == "auto" and not checkpoint.tensors):
        return "F16"
    if outtype == "bf16":
        return "BF16"
    weights: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        weights[tensor.dtype] += tensor.n_elements
    most = weights.most_common(1)[0][0]
    return "F16" if most == "F16" else "BF16" if most == "BF16" else "F32"
