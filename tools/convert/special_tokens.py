"""Tokens with a role (end of text, padding ...), and those that are put around every text."""

from __future__ import annotations

from typing import Any, Final

import gguf

from archroute_edge.errors import CheckpointError
from tools.convert.added_tokens import AddedToken
from tools.convert.checkpoint import Checkpoint
from tools.convert.json_files import Settings
from tools.convert.tokenizer_files import Definition

_ROLES: Final = ("bos", "eos", "unk", "sep", "pad", "mask")
_STANDS_FOR: Final = {"bos": "cls", "eos": "sep"}


def read_special_ids(
    checkpoint: Checkpoint, settings: Settings, definition: Definition, added: dict[int, AddedToken]
) -> dict[str, int]:
    """The id of each role that is filled, the end of text always among them.

    Raises:
        CheckpointError: no end of text is named, or an id is past the vocabulary.
    """
    # As llama.cpp's converter looks: by text among the added tokens of tokenizer.json, then by id in config.json.
    ids_by_text = {added[token_id].text: token_id for token_id in reversed(definition.listed_ids)}
    found: dict[str, int] = {}
    for role in _ROLES:
        token_id = ids_by_text.get(_text(settings, role), checkpoint.config.get(f"{role}_token_id"))
        if type(token_id) is int:
            found[role] = token_id
    if "eos" not in found:
        found["eos"] = _end_of_text(checkpoint, settings, added)
    n_tokens = checkpoint.config.integer("vocab_size")
    for role, token_id in found.items():
        if not 0 <= token_id < n_tokens:
            raise CheckpointError(f"{checkpoint.config.path}: {role}_token_id {token_id} is none of the {n_tokens} tokens")
    return found


def _text(settings: Settings, role: str) -> str:
    # BERT calls its first token cls and its last one sep.
    entry = settings.get(f"{role}_token") or settings.get(f"{_STANDS_FOR.get(role)}_token")
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else ""


def _end_of_text(checkpoint: Checkpoint, settings: Settings, added: dict[int, AddedToken]) -> int:
    """Where upstream writes none, and llama.cpp would then take some unrelated token: look everywhere."""
    wanted = _text(settings, "eos")
    listed = checkpoint.config.get("eos_token_id")
    candidates = [token_id for token_id, token in added.items() if token.text == wanted]
    candidates += [token_id for token_id in (listed if isinstance(listed, list) else []) if type(token_id) is int]
    if not candidates:
        raise CheckpointError(
            f"{checkpoint.folder}: neither tokenizer_config.json nor config.json names the end-of-text token (eos_token)"
        )
    return candidates[0]


def read_added_automatically(definition: Definition, settings: Settings) -> dict[str, bool]:
    """Whether bos and eos are put around every text, from the post-processor and then tokenizer_config.json.

    Raises:
        CheckpointError: the post-processor does something else.
    """
    flags: dict[str, bool] = {}
    for step in definition.post_processors:
        if definition.kind != "BPE":
            flags = _read_tokens_around(definition, step, _text(settings, "bos"), _text(settings, "eos"))
        elif step.get("type") != "ByteLevel":
            raise CheckpointError(
                f"{definition.path}: the post-processor {step.get('type')!r} cannot be converted, ByteLevel can"
            )
        else:
            flags = {"bos": False, "eos": False}
    for role in _ROLES:
        value = settings.get(f"add_{role}_token")
        if isinstance(value, bool) and hasattr(gguf.GGUFWriter, f"add_add_{role}_token"):
            flags.setdefault(role, value)
    return flags


def _read_tokens_around(definition: Definition, step: dict[str, Any], first: str, last: str) -> dict[str, bool]:
    """Which tokens are put around every text of an encoder: the first and the last one, or it cannot be converted.

    Raises:
        CheckpointError: others are.
    """
    kind = step.get("type")
    if kind == "BertProcessing":
        around, flags = [(step.get(key) or [None])[0] for key in ("cls", "sep")], {}
    elif kind == "TemplateProcessing":
        around = [_special(piece) for piece in step.get("single") or [] if "Sequence" not in piece]
        flags = {"bos": True, "eos": True, **_read_separator(step.get("pair") or [], last)}
    else:
        raise CheckpointError(f"{definition.path}: the post-processor {kind!r} cannot be converted, TemplateProcessing can")
    if around != [first, last]:
        raise CheckpointError(f"{definition.path}: puts {around} around a text; llama.cpp puts {[first, last]} there")
    return flags


def _read_separator(pair: list[dict[str, Any]], last: str) -> dict[str, bool]:
    """Whether a token of its own separates two texts, behind the one that ends the first; nothing if none stands there."""
    between = [_special(piece) for piece in pair[1:-1] if "Sequence" not in piece]
    return {"sep": between == [last, last]} if between else {}


def _special(piece: dict[str, Any]) -> Any:
    return (piece.get("SpecialToken") or {}).get("id")
