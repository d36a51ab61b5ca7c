"""The GGUF's tokenizer in llama.cpp gives the ids of the checkpoint's own."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

from tests.convert import llama
from tools.convert.conversion import convert_checkpoint
from tools.convert.pre_tokenizers import recognise, recognise_normalizer
from tools.fixtures.checkpoints import write_checkpoint
from tools.fixtures.qwen_tokenizer import QWEN_SPLIT, build_tokenizer
from tools.fixtures.texts import texts


def test_ids_equal_the_checkpoints(tmp_path: Path) -> None:
    """On 5,000 texts, composed (NFC) before llama.cpp sees them, since it does not do that itself."""
    checkpoint = write_checkpoint(tmp_path / "m")
    convert_checkpoint(checkpoint.folder, tmp_path / "m.gguf")
    differing = []
    with llama.loaded(tmp_path / "m.gguf", vocabulary_only=True) as model:
        for text in texts(5000):
            theirs = llama.tokenize(model, unicodedata.normalize("NFC", text), special=True)
            if theirs != checkpoint.tokenizer.encode(text).ids:
                differing.append(text)
    assert differing == []


def split_by(pattern: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("", ""),
        ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"),
        (r"\s*[\r\n]+", r"\s*[\r\n]"),  # the white space before the last line end holds the others
    ],
)
def test_pre_tokenizer_is_recognised_by_what_it_does(part: str, instead: str) -> None:
    """A pattern written in another way that cuts alike is Qwen2's too."""
    tokenizer = build_tokenizer()
    assert part in QWEN_SPLIT
    tokenizer.pre_tokenizer = split_by(QWEN_SPLIT.replace(part, instead, 1))
    assert recognise(tokenizer) == "qwen2"


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        (r"\p{N}|", r"\p{N}{1,3}|"),  # Llama 3
        (r"\p{L}+|", r"[\p{L}\p{M}]+|"),  # Qwen3.5
        (r"(?i:", r"(?:"),
        (r"[\r\n]*|", r"[\r\n/]*|"),  # GPT-4o
        (r"\s+(?!\S)|", ""),
        (r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{L}+"),
        (r"\p{N}|", r"\d|"),
    ],
)
def test_near_misses_are_not_recognised(part: str, instead: str) -> None:
    """Patterns that differ in one place give other ids on some text, quietly."""
    tokenizer = build_tokenizer()
    assert part in QWEN_SPLIT
    tokenizer.pre_tokenizer = split_by(QWEN_SPLIT.replace(part, instead, 1))
    assert recognise(tokenizer) is None


def test_other_kinds_of_pre_tokenizer_are_not_recognised() -> None:
    """GPT-2's, and none at all."""
    tokenizer = build_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert recognise(tokenizer) is None
    bare = tokenizers.Tokenizer(tokenizers.models.BPE())
    assert recognise(bare) is None


@pytest.mark.parametrize(
    ("normalizer", "name"),
    [
        (normalizers.NFC(), "nfc"),
        (normalizers.Sequence([normalizers.NFD(), normalizers.NFC()]), "nfc"),
        (normalizers.NFKC(), None),
        (normalizers.NFD(), None),
        (normalizers.Lowercase(), None),
        (normalizers.Strip(), None),
    ],
)
def test_normalizer_is_recognised_by_what_it_does(normalizer: normalizers.Normalizer, name: str | None) -> None:
    """Only NFC can be put in front of llama.cpp."""
    tokenizer = build_tokenizer()
    tokenizer.normalizer = normalizer
    assert recognise_normalizer(tokenizer) == name


def test_no_normalizer() -> None:
    """A tokenizer that leaves text as it is gets no NFC in front."""
    assert recognise_normalizer(tokenizers.Tokenizer(tokenizers.models.BPE())) == "none"
