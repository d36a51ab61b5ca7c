"""Recognise a pre-tokenizer by its behaviour.

llama.cpp splits text with a pre-tokenizer of its own, chosen by the name in ``tokenizer.ggml.pre``; a wrong name silently gives
wrong token ids. The name is found in two ways:

- by the token ids of a check text, as in llama.cpp's ``convert_hf_to_gguf.py`` (``get_vocab_base_pre``, the source of text and
  digests): this distinguishes known vocabularies, even those that split alike under different names;
- by the pieces into which text is split, compared with a reference for each pre-tokenizer: this needs no known vocabulary.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from collections.abc import Iterator
from itertools import product
from typing import Final

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

_ID_CHECK_TEXT: Final = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ "
    "------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, "
    "'RE you sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
_ID_DIGESTS: Final = {
    "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea": "qwen2",
    "d4540891389ea895b53b399da6ac824becc30f2fba0e9ddbb98f92e55ca0e97c": "qwen2",
    "b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5": "deepseek-r1-qwen",
    "0876d13b50744004aa9aeae05e7b0647eac9d801b5ba4668afc01e709c15e19f": "jina-v2-en",
    "8e62295832751ca1e8f92f2226f403dea30dc5165e448b5bfa05af5340c64ec7": "bert-bge-large",
}
"""SHA-256 of the list of ids: Qwen2, 2.5 and 3; Qwen3-Embedding; DeepSeek-R1-Distill-Qwen; BERT, uncased; Chinese BERT."""

_PIECES_CHECK_TEXT: Final = _ID_CHECK_TEXT + (
    "\r\n\r\nif (x == 1) {\r\n\treturn [\"a\", 'b'];\n//0x1F, 1e-9, 12345678\r\n}\n\n\n  \n/path/to\n"
    "naïve cafe\u0301 re\u0301sume\u0301 Ångström \u2126 ½ ² Ⅷ ٣٤٥ ४५ ５６\u00a0nbsp\u3000ideographic\u200bzero\n"
    "नमस्ते दुनिया, สวัสดีชาวโลก, שלום עולם, مرحبا بالعالم, 안녕하세요, こんにちは。\t\ttabs  double   triple    \n"
    "a_b-c.d@e#f$g%h^i&j*k(l)m+n=o{p}q[r]s|t\\u:v;w\"x'y<z>,./?~` …—–“”‘’ don’t it’s DON'T IT'S \"}]\n\n"
    "a'sand b'tin c'rent d'vet e'man f'llama g'dog h'SAND i'TIN j'RENT k'VET l'MAN m'LLAMA n'DOG o'Rent p'vEt q'lLama\n"
    "<|im_start|>user\nhello<|im_end|>\n  trailing   "
)
_KINDS_OF_CHARACTER: Final = "aZ中\u03011² \t\n\r\u00a0'/🚀"
"""Letters, a mark, numbers, white space, punctuation, others: what patterns tell apart."""
QWEN2_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2's tokenizer.json cuts; llama.cpp's ``LLAMA_VOCAB_PRE_TYPE_QWEN2`` is the same expression."""


def byte_level(pattern: str) -> pre_tokenizers.PreTokenizer:
    """A pre-tokenizer that cuts by ``pattern`` and writes bytes in GPT-2's printable alphabet."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


Pieces = list[tuple[str, tuple[int, int]]]
"""Texts in the byte-level alphabet, each with its begin and end."""
_REFERENCES: Final = {"qwen2": byte_level(QWEN2_PATTERN)}


def recognise_vocabulary(tokenizer: tokenizers.Tokenizer) -> str | None:
    """The name llama.cpp has for a vocabulary that is known by the ids it gives, or None."""
    ids = tokenizer.encode(_ID_CHECK_TEXT).ids
    return _ID_DIGESTS.get(hashlib.sha256(str(ids).encode()).hexdigest())


def recognise(tokenizer: tokenizers.Tokenizer) -> str | None:
    """llama.cpp's name for the pre-tokenizer of ``tokenizer``, or None if no known one matches."""
    known = recognise_vocabulary(tokenizer)
    if known is not None:
        return known
    if tokenizer.pre_tokenizer is None:
        return None
    for name in _REFERENCES:
        cut = map(tokenizer.pre_tokenizer.pre_tokenize_str, _probes())
        if all(pieces == expected for pieces, expected in zip(cut, _reference_pieces(name), strict=True)):
            return name
    return None


@functools.cache
def _reference_pieces(name: str) -> list[Pieces]:
    return [_REFERENCES[name].pre_tokenize_str(text) for text in _probes()]


def _probes() -> Iterator[str]:
    """A text with all that occurs in prose and code, and every order of three kinds of character."""
    # Composed, since only the pre-tokenizer is asked here.
    yield unicodedata.normalize("NFC", _PIECES_CHECK_TEXT)
    for characters in product(_KINDS_OF_CHARACTER, repeat=3):
        yield "".join(characters)


def recognise_normalizer(tokenizer: tokenizers.Tokenizer) -> str | None:
    """``"nfc"`` or ``"none"``, by the normaliser's effect on a check text, or None if it has another effect."""
    normalizer: normalizers.Normalizer | None = tokenizer.normalizer
    text = _PIECES_CHECK_TEXT + "e\u0301\u0323 \u1e0b\u0323 ｶﾞ ﬁ İ ẞ A\u030a \uac00\u11a8"
    normalised = text if normalizer is None else normalizer.normalize_str(text)
    if normalised == text:
        return "none"
    return "nfc" if normalised == unicodedata.normalize("NFC", text) else None
