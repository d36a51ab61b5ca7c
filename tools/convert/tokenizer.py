"""The tokenizer of a checkpoint as a GGUF stores it: byte-level BPE, WordPiece, or Unigram.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import gguf
import tokenizers

from archroute_edge.errors import CheckpointError
from tools.convert.added_tokens import AddedToken, read_added_tokens
from tools.convert.architectures import Architecture
from tools.convert.chat_templates import ChatTemplate, read_chat_template
from tools.convert.checkpoint import Checkpoint
from tools.convert.json_files import read_settings
from tools.convert.pre_tokenizers import recognise, recognise_normalizer, recognise_vocabulary
from tools.convert.special_tokens import read_added_automatically, read_special_ids
from tools.convert.tokenizer_files import Definition, load, read_definition
from tools.convert.unigram import PADDING_SCORE, read_charsmap_of, read_unigram_keys, unknown_id
from tools.convert.wordpiece import UNKNOWN_WORDPIECE, read_normalizer, with_word_beginnings

_ENCODERS: Final = {"WordPiece": "bert", "Unigram": "t5"}
"""llama.cpp's names of the kinds that encoders have."""
_TYPE_COUNT_KEY: Final = "tokenizer.ggml.token_type_count"
_TREATED_AS_SPECIAL: Final = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


Key = str | bool | int | bytes
"""A value of a GGUF."""


@dataclass(frozen=True)
class Vocabulary:
    """Everything that goes under ``tokenizer.*``.

    ``model`` is llama.cpp's name for the kind. ``tokens`` and ``types`` have one entry for each row of the embedding.
    ``special_ids`` maps a role ("eos") to an id, ``added_automatically`` a role to whether the tokenizer puts that token
    around every text. ``further`` are keys that only one kind has. Only Unigram has ``scores``.
    """

    model: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    pre_tokenizer: str
    special_ids: dict[str, int]
    added_automatically: dict[str, bool]
    chat_template: ChatTemplate
    further: dict[str, Key]

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Write the keys."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre_tokenizer)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.scores:
            writer.add_token_scores(self.scores)
        for role, token_id in self.special_ids.items():
            getattr(writer, f"add_{role}_token_id")(token_id)
        for role, added in self.added_automatically.items():
            getattr(writer, f"add_add_{role}_token")(added)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)
        for key, value in self.further.items():
            if isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, bool):
                writer.add_bool(key, value)
            elif isinstance(value, int):
                writer.add_uint32(key, value)
            else:
                writer.add_array(key, value)


def read_vocabulary(checkpoint: Checkpoint, architecture: Architecture) -> Vocabulary:
    """Read and check the tokenizer of ``checkpoint``; its vocabulary is padded to the embedding's rows.

    Raises:
        CheckpointError: files are missing or malformed, or the tokenizer does what llama.cpp would not.
    """
    settings = read_settings(checkpoint.folder / "tokenizer_config.json", required=False)
    definition = read_definition(checkpoint.folder, settings)
    if (definition.kind in _ENCODERS) != architecture.encodes:
        raise CheckpointError(
            f"{definition.path}: a {definition.kind} tokenizer, which {architecture.name} is not converted with"
        )
    # Before the tokenizers package sees it, which ends with a panic on some.
    charsmap = read_charsmap_of(definition) if definition.kind == "Unigram" else b""
    tokenizer = load(definition)
    added = read_added_tokens(definition, settings)
    tokens, types = _tokens(checkpoint, definition.vocabulary, added)
    further: dict[str, Key] = {}
    if architecture.encodes:
        further[_TYPE_COUNT_KEY] = checkpoint.config.integer("type_vocab_size")
    scores: list[float] = []
    if definition.kind == "BPE":
        # llama.cpp does not normalise, so the caller must.
        pre_tokenizer, further["archroute.normalizer"] = _recognise_byte_level(definition, tokenizer)
    elif definition.kind == "WordPiece":
        pre_tokenizer = recognise_vocabulary(tokenizer) or UNKNOWN_WORDPIECE
        further |= read_normalizer(definition)
        tokens = with_word_beginnings(tokens, types, definition)
    else:
        if gguf.TokenType.USER_DEFINED in types:
            token = tokens[types.index(gguf.TokenType.USER_DEFINED)]
            raise CheckpointError(f"{definition.path}: {token!r} is cut out of texts before others; it cannot be converted")
        unknown = unknown_id(definition)
        pre_tokenizer = "default"
        further |= read_unigram_keys(definition, settings, tokenizer, charsmap, {unknown, *added})
        scores = [*definition.scores, *[PADDING_SCORE] * (len(tokens) - len(definition.scores))]
        types[unknown] = gguf.TokenType.UNKNOWN
    return Vocabulary(
        model=_ENCODERS.get(definition.kind, "gpt2"),
        tokens=tokens,
        types=types,
        merges=[" ".join(part.replace(" ", "Ġ") for part in pair) for pair in definition.merges],
        scores=scores,
        pre_tokenizer=pre_tokenizer,
        special_ids=read_special_ids(checkpoint, settings, definition, added),
        added_automatically=read_added_automatically(definition, settings),
        chat_template=read_chat_template(checkpoint.folder, settings),
        further=further,
    )


def _recognise_byte_level(definition: Definition, tokenizer: tokenizers.Tokenizer) -> tuple[str, str]:
    pre_tokenizer = recognise(tokenizer)
    if pre_tokenizer is None:
        raise CheckpointError(
            f"{definition.path}: its pre-tokenizer cuts text in none of the ways known here (qwen2), "
            "so llama.cpp would give other token ids; it cannot be converted"
        )
    normalizer = recognise_normalizer(tokenizer)
    if normalizer is None:
        raise CheckpointError(f"{definition.path}: its normaliser changes text in another way than NFC; it cannot be converted")
    return pre_tokenizer, normalizer


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
