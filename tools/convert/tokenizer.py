"""The tokenizer of a checkpoint as a GGUF stores it: byte-level BPE from tokenizer.json, or vocab.json and merges.txt.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import gguf

from archroute_edge.errors import CheckpointError
from tools.convert.added_tokens import AddedToken, read_added_tokens
from tools.convert.chat_templates import ChatTemplate, read_chat_template
from tools.convert.checkpoint import Checkpoint
from tools.convert.json_files import Settings, read_settings
from tools.convert.pre_tokenizers import recognise, recognise_normalizer
from tools.convert.tokenizer_files import Definition, load, read_definition

_SPECIAL_ROLES: Final = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_TREATED_AS_SPECIAL: Final = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


@dataclass(frozen=True)
class Vocabulary:
    """Everything that goes under ``tokenizer.*``.

    ``tokens`` and ``types`` have one entry for each row of the embedding. ``special_ids`` maps a role ("eos") to an id,
    ``added_automatically`` a role to whether the tokenizer puts that token around every text.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre_tokenizer: str
    normalizer: str
    special_ids: dict[str, int]
    added_automatically: dict[str, bool]
    chat_template: ChatTemplate

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Write the keys."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre_tokenizer)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        for role, token_id in self.special_ids.items():
            getattr(writer, f"add_{role}_token_id")(token_id)
        for role, added in self.added_automatically.items():
            getattr(writer, f"add_add_{role}_token")(added)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)
        # llama.cpp does not normalise, so whoever tokenizes has to know.
        writer.add_string("archroute.normalizer", self.normalizer)


def read_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """Read and check the tokenizer of ``checkpoint``; its vocabulary is padded to the embedding's rows.

    Raises:
        CheckpointError: files are missing or malformed, or the tokenizer does what llama.cpp would not.
    """
    settings = read_settings(checkpoint.folder / "tokenizer_config.json", required=False)
    definition = read_definition(checkpoint.folder, settings)
    tokenizer = load(definition)
    pre_tokenizer = recognise(tokenizer)
    if pre_tokenizer is None:
        raise CheckpointError(
            f"{definition.path}: its pre-tokenizer cuts text in none of the ways known here (qwen2), "
            "so llama.cpp would give other token ids; it cannot be converted"
        )
    normalizer = recognise_normalizer(tokenizer)
    if normalizer is None:
        raise CheckpointError(f"{definition.path}: its normaliser changes text in another way than NFC; it cannot be converted")
    added = read_added_tokens(definition, settings)
    tokens, types = _tokens(checkpoint, definition.vocabulary, added)
    special_ids = _special_ids(checkpoint, settings, definition, added)
    return Vocabulary(
        tokens=tokens,
        types=types,
        merges=[" ".join(part.replace(" ", "Ġ") for part in pair) for pair in definition.merges],
        pre_tokenizer=pre_tokenizer,
        normalizer=normalizer,
        special_ids=special_ids,
        added_automatically=_added_automatically(definition, settings),
        chat_template=read_chat_template(checkpoint.folder, settings),
    )


def _tokens(checkpoint: Checkpoint, vocabulary: dict[str, int], added: dict[int, AddedToken]) -> tuple[list[str], list[int]]:
    size = checkpoint.config.integer("vocab_size")
    by_id: dict[int, tuple[str, int]] = {}
    for text, token_id in vocabulary.items():
        if token_id in by_id:
            raise CheckpointError(f"{checkpoint.folder}: tokens {by_id[token_id][0]!r} and {text!r} share the id {token_id}")
        by_id[token_id] = (text, gguf.TokenType.NORMAL)
    for token_id, token in added.items():
        if token_id in by_id and by_id[token_id][0] != token.text:
            raise CheckpointError(
                f"{checkpoint.folder}: added token {token.text!r} has the id {token_id} of {by_id[token_id][0]!r}"
            )
        by_id[token_id] = _added_entry(token)
    last = max(by_id, default=-1)
    if last >= size:
        raise CheckpointError(
            f"{checkpoint.config.path}: vocab_size is {size}, but the tokenizer has the token {by_id[last][0]!r} at {last}"
        )
    entries = [by_id.get(token_id) or (f"[PAD{token_id}]", gguf.TokenType.UNUSED) for token_id in range(size)]
    tokens = [text for text, _ in entries]
    if len(set(tokens)) != size:
        raise CheckpointError(f"{checkpoint.folder}: two ids have the same token text, which llama.cpp cannot load")
    return tokens, [int(kind) for _, kind in entries]


def _added_entry(token: AddedToken) -> tuple[str, int]:
    # Some models list control tokens as ordinary ones; their look tells, as in llama.cpp's converter.
    looks_special = (
        token.text in _TREATED_AS_SPECIAL
        or (token.text.startswith(("<|", "<｜")) and token.text.endswith(("|>", "｜>")))
        or (token.text.startswith("<unused") and token.text.endswith(">"))
    )
    if token.special or looks_special:
        return token.text, gguf.TokenType.CONTROL
    return token.text.replace("▁", " "), gguf.TokenType.USER_DEFINED


def _special_ids(
    checkpoint: Checkpoint, settings: Settings, definition: Definition, added: dict[int, AddedToken]
) -> dict[str, int]:
    # As llama.cpp's converter looks: by text among the added tokens of tokenizer.json, then by id in config.json.
    ids_by_text = {added[token_id].text: token_id for token_id in reversed(definition.listed_ids)}
    found: dict[str, int] = {}
    for role in _SPECIAL_ROLES:
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
    entry = settings.get(f"{role}_token")
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


def _added_automatically(definition: Definition, settings: Settings) -> dict[str, bool]:
    """Whether bos and eos are put around every text, from the post-processor and then tokenizer_config.json."""
    flags: dict[str, bool] = {}
    for step in definition.post_processors:
        if step != "ByteLevel":
            raise CheckpointError(f"{definition.path}: the post-processor {step!r} cannot be converted, ByteLevel can")
        flags = {"bos": False, "eos": False}
    for role in _SPECIAL_ROLES:
        value = settings.get(f"add_{role}_token")
        if isinstance(value, bool) and hasattr(gguf.GGUFWriter, f"add_add_{role}_token"):
            flags.setdefault(role, value)
    return flags
