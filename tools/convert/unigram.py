"""XLM-RoBERTa's tokenizer, Unigram, as llama.cpp has it: pieces with scores, and SentencePiece's table of replacements.

The Unigram module of ``archroute_edge.engine`` says how llama.cpp's own tokenizer differs from XLM-RoBERTa's, and how text is
split for an encoder here.
"""

from __future__ import annotations

import base64
from collections.abc import Set
from typing import Final

import tokenizers

from archroute_edge.engine import CharsMap, UnigramTokenizer, is_charsmap
from archroute_edge.errors import CheckpointError
from tools.convert.json_files import Settings
from tools.convert.tokenizer_files import Definition

PADDING_SCORE: Final = -10000.0
"""Of rows of the embedding that no token has."""
# What a piece may be cut of, and where text may be normalised: letters of several scripts and widths, marks, white space.
_PROBES: Final = (
    "please translate this text, it's 12345 o'clock: naïve cafe\u0301 ﬁ ½ Ｆｕｌｌ　width ｶﾞ",
    "\tline\nline\r\n  many   spaces \u00a0nbsp \u200bzero ▁mark a▁b ▁▁c",
    "यह एक परीक्षण है 日本語のテスト 我想在这里工作 안녕하세요 مرحبا بالعالم שלום สวัสดี 👍🏽 👨‍👩‍👧 \u0001 \ufffd ꙮꙮꙮ",
)


def read_unigram_keys(
    definition: Definition, settings: Settings, tokenizer: tokenizers.Tokenizer, charsmap: bytes, never: Set[int]
) -> dict[str, bool | bytes]:
    """How spaces and other characters are normalised, as keys of a GGUF.

    Args:
        settings: tokenizer_config.json.
        tokenizer: the tokenizer itself.
        charsmap: its table of replacements.
        never: the tokens that no text becomes.

    Raises:
        CheckpointError: text is normalised or cut in another way than XLM-RoBERTa's.
    """
    ours = UnigramTokenizer(
        {piece: number for piece, number in definition.vocabulary.items() if number not in never},
        [0.0 if number in never else score for number, score in enumerate(definition.scores)],
        unknown=unknown_id(definition),
        charsmap=CharsMap(charsmap),
    )
    for text in _PROBES:
        if list(ours.tokenize(text)) != tokenizer.encode(text, add_special_tokens=False).ids:
            raise CheckpointError(
                f"{definition.path}: does not normalise and cut text as XLM-RoBERTa does, as in {text[:20]!r} ...; "
                "it cannot be converted"
            )
    return {
        # As llama.cpp's converter takes them from transformers; they change nothing but its own tokenizer.
        "tokenizer.ggml.add_space_prefix": settings.get("add_prefix_space", True) is True,
        "tokenizer.ggml.remove_extra_whitespaces": settings.get("clean_up_tokenization_spaces") is True,
        "tokenizer.ggml.precompiled_charsmap": charsmap,
    }


def unknown_id(definition: Definition) -> int:
    """The token of characters without a piece.

    Raises:
        CheckpointError: there is none.
    """
    found = definition.content["model"].get("unk_id")
    if type(found) is not int or not 0 <= found < len(definition.scores):
        raise CheckpointError(f"{definition.path}: model.unk_id is {found!r}, none of the {len(definition.scores)} pieces")
    return found


def read_charsmap_of(definition: Definition) -> bytes:
    """The one table of replacements among the steps of the normaliser.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    whole = definition.content.get("normalizer")
    listed = whole.get("normalizers") if isinstance(whole, dict) and whole.get("type") == "Sequence" else [whole]
    steps = [step for step in listed if isinstance(step, dict)] if isinstance(listed, list) else []
    tables = [step.get("precompiled_charsmap") for step in steps if step.get("type") == "Precompiled"]
    table = tables[0] if len(tables) == 1 else None
    try:
        raw = base64.b64decode(table if isinstance(table, str) else "?", validate=True)
    except ValueError:
        raise CheckpointError(f"{definition.path}: has no usable precompiled_charsmap; it cannot be converted") from None
    if not is_charsmap(raw):
        raise CheckpointError(f"{definition.path}: its precompiled_charsmap is no table of replacements; the file is damaged")
    return raw
