"""Tokens added to the vocabulary: control tokens such as ``<|im_end|>``, and ordinary ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from archroute_edge.errors import CheckpointError
from tools.convert.json_files import Settings
from tools.convert.tokenizer_files import Definition

_ROLES: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS: Final = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched in the text before merging. ``special`` ones are control tokens."""

    text: str
    special: bool


def read_added_tokens(definition: Definition, settings: Settings) -> dict[int, AddedToken]:
    """All added tokens by id, from tokenizer.json and from tokenizer_config.json (``settings``), the union of both.

    As in transformers, a token is special where tokenizer_config.json says so or gives it a role; tokenizer.json is asked
    about tokens that it alone lists.

    Raises:
        CheckpointError: an entry is malformed, or the files disagree about an id.
    """
    entries = list(_entries(definition, settings))
    roles = set(_texts(settings))
    found: dict[int, AddedToken] = {}
    for token_id, fields in entries:
        text, special = fields.get("content"), bool(fields.get("special"))
        if type(token_id) is not int or token_id < 0 or not isinstance(text, str) or not text:
            raise CheckpointError(f"{definition.path}: an added token is malformed: {fields!r}"[:300])
        known = found.get(token_id)
        if known is not None and known.text != text:
            raise CheckpointError(
                f"{definition.path}: token {token_id} is {known.text!r} there and {text!r} in tokenizer_config.json"
            )
        found[token_id] = AddedToken(text, special or text in roles)
    return found


def _entries(definition: Definition, settings: Settings) -> list[tuple[Any, dict[str, Any]]]:
    listed = definition.content.get("added_tokens") or []
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(listed, list) or not isinstance(decoder, dict):
        raise CheckpointError(f"{definition.path}: its list of added tokens is malformed")
    entries = [(fields.get("id"), fields) if isinstance(fields, dict) else (None, {}) for fields in listed]
    for key, fields in decoder.items():
        token_id = int(key) if key.isascii() and key.isdigit() else None
        entries.append((token_id, fields if isinstance(fields, dict) else {}))
    return entries


def _texts(settings: Settings) -> list[str]:
    values = [settings.get(role) for role in _ROLES]
    for name in _LISTS:
        extra = settings.get(name)
        values += extra if isinstance(extra, list) else list(extra.values()) if isinstance(extra, dict) else []
    texts = [value.get("content") if isinstance(value, dict) else value for value in values]
    return [text for text in texts if isinstance(text, str)]
