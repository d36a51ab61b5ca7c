"""``general.*`` metadata: the model's name, its licence, its authors' sampling defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import gguf
import yaml

from archroute_edge.errors import CheckpointError
from tools.convert.checkpoint import Checkpoint
from tools.convert.json_files import as_number, read_settings, read_text

_SAMPLING: Final = {
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "temperature": "general.sampling.temp",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
"""generation_config.json -> GGUF. Spelt out, since older versions of the gguf package do not know them."""


def add_general(
    writer: gguf.GGUFWriter, checkpoint: Checkpoint, n_parameters: int, *, name: str | None, licence: str | None
) -> None:
    """Write name, size, licence and sampling defaults. ``name`` and ``licence`` override the checkpoint's."""
    card = read_card(checkpoint.folder)
    writer.add_type(gguf.GGUFType.MODEL)
    # The name of a folder may be bytes that are no text.
    writer.add_name((name or checkpoint.folder.resolve().name).encode("utf-8", "replace").decode())
    if n_parameters:
        writer.add_size_label(gguf.size_label(n_parameters, n_parameters, 0, 0))
    if licence:
        writer.add_license(licence)
    else:
        for key, add in (
            ("license", writer.add_license),
            ("license_name", writer.add_license_name),
            ("license_link", writer.add_license_link),
        ):
            if isinstance(card.get(key), str):
                add(card[key])
    generation = read_settings(checkpoint.folder / "generation_config.json", required=False)
    for name_there, key in _SAMPLING.items():
        value = generation.get(name_there)
        number = as_number(value)
        # They are defaults for programs that generate text: what makes no sense is left out.
        if name_there == "top_k":
            if type(value) is int and -(1 << 31) <= value < 1 << 31:
                writer.add_int32(key, value)
        elif number is not None:
            writer.add_float32(key, number)


def read_card(folder: Path) -> dict[str, Any]:
    """The YAML block at the top of a model card (README.md), or nothing: a card is no reason to refuse a model."""
    if not (folder / "README.md").is_file():
        return {}
    try:
        lines = read_text(folder / "README.md").split("\n")
    except CheckpointError:
        return {}
    if lines[0].strip() != "---" or "---" not in lines[1:]:
        return {}
    try:
        # Texts are all that is wanted of it; dates, numbers and the like can fail to be made.
        card = yaml.load("\n".join(lines[1 : lines.index("---", 1)]), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return {}
    return card if isinstance(card, dict) else {}
