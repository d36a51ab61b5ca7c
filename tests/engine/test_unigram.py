"""The tokenizer of multilingual encoders: the likeliest pieces, whatever text comes, and no file that breaks it."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.engine import CharsMap, EmbeddingEngine, LoadedModel, UnigramTokenizer, check_model_file, read_header
from archroute_edge.engine._gguf_header import read_numbers
from archroute_edge.engine._tokenizer import Tokenizer, read_tokenizer
from archroute_edge.engine._tokens import read_tokens
from archroute_edge.errors import ModelFileError
from tests.engine.gguf_file import ARRAY, INT32, STRING, UINT32, GGUFFile, read_gguf
from tests.engine.test_model_check import refusal
from tools.fixtures.texts import SAMPLES
from tools.fixtures.unigram_tokenizer import build_unigram, charsmap_of, small_charsmap

UINT8 = 0
UNKNOWN = 0
PIECES = {"▁": -2.0, "a": -3.0, "b": -3.0, "c": -4.0, "ab": -4.5, "▁ab": -5.0, "bc": -9.0, "▁abc": -20.0, "\ufffd": -5.0}


def tokenizer_of(scores: dict[str, float], charsmap: dict[str, str] | None = None) -> UnigramTokenizer:
    names = list(scores)
    return UnigramTokenizer(
        {name: number + 1 for number, name in enumerate(names)},
        [0.0, *scores.values()],
        unknown=UNKNOWN,
        charsmap=CharsMap(charsmap_of(charsmap)) if charsmap else None,
    )


def pieces(tokenizer: UnigramTokenizer, text: str) -> list[str]:
    return ["?" if token == UNKNOWN else list(PIECES)[token - 1] for token in tokenizer.tokenize(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("ab", ["▁ab"]),
        ("  ab \u3000 a ", ["▁ab", "▁", "a"]),
        ("abc", ["▁ab", "c"]),
        ("xab", ["▁", "?", "ab"]),
        ("axxyza", ["▁", "a", "?", "a"]),
        ("xx yy", ["▁", "?", "▁", "?"]),
        ("ab▁ab", ["▁ab", "▁ab"]),
        ("▁▁ab", ["▁", "▁ab"]),
        ("a\ud800b", ["▁", "a", "\ufffd", "b"]),
    ],
)
def test_the_likeliest_pieces(text: str, expected: list[str]) -> None:
    """Words begin with the mark of a space; a run of unknown letters in a word is one token."""
    assert pieces(tokenizer_of(PIECES, {"\x01": ""}), text) == expected


def test_a_table_of_replacements() -> None:
    """Letters and their marks are looked up together, and what they are replaced by decides about words."""
    table = {"\u00e4": "a", "a\u0301": "b", "\u00b4": " a", "\u200b": " ", "\x01": "", "a\u0301\u0301": "c"}
    tokenizer = tokenizer_of(PIECES, table)
    assert pieces(tokenizer, "\u00e4b") == ["▁ab"]
    assert pieces(tokenizer, "a\u0301") == ["▁", "b"]
    # The shortest entry, and the rest of the letter goes with it, as in Hugging Face's tokenizers.
    assert pieces(tokenizer, "a\u0301\u0301") == ["▁", "b"]
    # More bytes than one letter takes are looked up one by one.
    assert pieces(tokenizer, "a\u0301\u0301\u0301") == ["▁", "a", "?"]
    assert pieces(tokenizer, "b\u00b4b") == ["▁", "b", "▁ab"]
    assert pieces(tokenizer, "a\u200bb\x01c") == ["▁", "a", "▁", "b", "c"]


@given(st.text("abcx ▁", max_size=30))
def test_no_other_way_is_likelier(text: str) -> None:
    """Against all ways to cut each word."""
    tokenizer = tokenizer_of(PIECES)
    expected = []
    for word in text.replace("▁", " ▁").split(" "):
        if word:
            expected += _likeliest_of_all(word if word[0] == "▁" else "▁" + word)
    found = list(tokenizer.tokenize(text))
    assert _score(found) == pytest.approx(_score(expected))


def _likeliest_of_all(word: str) -> list[int]:
    best: list[list[int]] = [[]]
    ids = {name: number + 1 for number, name in enumerate(PIECES)}
    for end in range(1, len(word) + 1):
        ways = [[*best[begin], ids[word[begin:end]]] for begin in range(end) if word[begin:end] in ids]
        if word[end - 1] not in ids:
            ways.append([*best[end - 1], UNKNOWN])
        best.append(max(ways, key=_score))
    return [token for token, before in zip(best[-1], [-1, *best[-1]], strict=False) if (token, before) != (UNKNOWN, UNKNOWN)]


def _score(tokens: list[int]) -> float:
    scores = [min(PIECES.values()) - 10, *PIECES.values()]
    return sum(scores[token] for token in tokens)


@pytest.fixture(scope="module")
def tokenizer(random_multilingual: Path) -> Tokenizer:
    return read_tokenizer(read_header(random_multilingual))


@pytest.mark.parametrize(
    "text",
    ["a" * 100_000, "ab" * 9_000, "🚀" * 20_000, "route " * 4_000, "route,🚀" * 3_000, "▁" * 9_000, "e\u0301" * 9_000],
    ids=lambda text: ascii(text[:4]),
)
def test_the_beginning_of_a_long_text_is_that_of_the_whole(tokenizer: Tokenizer, text: str) -> None:
    """Pieces come as soon as they are certain; one word may be all of the text."""
    expected = build_unigram().encode(text, add_special_tokens=False).ids
    assert list(tokenizer.tokenize(text)) == expected
    assert list(itertools.islice(tokenizer.tokenize(text), 255)) == expected[:255]


@pytest.mark.parametrize(
    "text", ["ab" * 500_000, "route " * 500_000, "中文" * 250_000, "\0" * 1_000_000], ids=lambda text: ascii(text[:4])
)
def test_megabytes_are_read_no_further_than_needed(random_multilingual: Path, text: str) -> None:
    """The model has 64 positions."""
    with LoadedModel(random_multilingual, wanted="encoder") as model:
        engine = EmbeddingEngine(model, 1)
        encoded = engine.encode(text)
        assert len(encoded.tokens) <= 64
        assert np.linalg.norm(engine.embed([encoded])[0]) == pytest.approx(1)
        engine.close()


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_ordinary_tokens(text: str) -> None:
    """Half surrogate pairs, marks without letters and control characters among them."""
    tokens = list(tokenizer_of(PIECES, {"\u00e4": "a", "a\u0301": "b", "\r": " "}).tokenize(text))
    assert all(0 <= token <= len(PIECES) for token in tokens)


@pytest.mark.parametrize("text", ["<s>", "</s>", "<pad>", "<mask>", "a<mask>b </s>", "<unk>", "[PAD1505]"])
def test_no_text_becomes_a_control_token(tokenizer: Tokenizer, random_multilingual: Path, text: str) -> None:
    types = read_numbers(read_header(random_multilingual), "tokenizer.ggml.token_type")
    assert {types[token] for token in tokenizer.tokenize(text)} <= {1, 2}


@pytest.fixture(scope="module")
def parsed(random_multilingual: Path) -> GGUFFile:
    return read_gguf(random_multilingual)


def charsmap_of_bytes(raw: bytes) -> Callable[[GGUFFile], object]:
    return lambda file: file.set("tokenizer.ggml.precompiled_charsmap", ARRAY, list(raw), UINT8)


DAMAGE: dict[str, tuple[Callable[[GGUFFile], object], str]] = {
    "no scores": (lambda file: file.remove("tokenizer.ggml.scores"), "has no tokenizer.ggml.scores"),
    "no types": (lambda file: file.remove("tokenizer.ggml.token_type"), "has no tokenizer.ggml.token_type"),
    "too few scores": (lambda file: file["tokenizer.ggml.scores"].value.pop(), "tokenizer.ggml.scores has"),
    "scores that are whole numbers": (
        lambda file: file.set("tokenizer.ggml.scores", ARRAY, [1] * len(file["tokenizer.ggml.tokens"].value), INT32),
        "tokenizer.ggml.scores has the wrong type",
    ),
    "a score that is no number": (
        lambda file: file["tokenizer.ggml.scores"].value.__setitem__(9, float("nan")),
        "tokenizer.ggml.scores has what is no number",
    ),
    "a token that is matched before others": (
        lambda file: file["tokenizer.ggml.token_type"].value.__setitem__(9, 4),
        "has tokens of a type that",
    ),
    "a token for a byte": (
        lambda file: file["tokenizer.ggml.token_type"].value.__setitem__(9, 6),
        "has tokens of a type that",
    ),
    "an ordinary token around texts": (
        lambda file: file["tokenizer.ggml.token_type"].value.__setitem__(0, 1),
        "calls a token ordinary that stands around texts",
    ),
    "no token before texts": (lambda file: file.remove("tokenizer.ggml.bos_token_id"), "bos_token_id is None"),
    "no token behind texts": (lambda file: file.remove("tokenizer.ggml.eos_token_id"), "eos_token_id is None"),
    "no token for the unknown": (
        lambda file: file.set("tokenizer.ggml.unknown_token_id", UINT32, 0xFFFFFFFF),
        "unknown_token_id is 4294967295",
    ),
    "a table that is a text": (
        lambda file: file.set("tokenizer.ggml.precompiled_charsmap", STRING, b"x" * 100),
        "precompiled_charsmap is no table of replacements",
    ),
    "a table of numbers": (
        lambda file: file.set("tokenizer.ggml.precompiled_charsmap", ARRAY, [4, 0, 0, 0, 0, 0, 0], INT32),
        "precompiled_charsmap is no table of replacements",
    ),
    "an empty table": (charsmap_of_bytes(b""), "precompiled_charsmap is no table of replacements"),
    "a table larger than itself": (
        charsmap_of_bytes(struct.pack("<I", 1 << 31) + bytes(64)),
        "precompiled_charsmap is no table of replacements",
    ),
    "a table of odd size": (
        charsmap_of_bytes(struct.pack("<I", 5) + bytes(64)),
        "precompiled_charsmap is no table of replacements",
    ),
    "a table without an end": (
        charsmap_of_bytes(struct.pack("<I", 4) + bytes(8) + b"x"),
        "precompiled_charsmap is no table of replacements",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_refused_before_llama_cpp_sees_it(parsed: GGUFFile, tmp_path: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    file = parsed.copy()
    damage(file)
    assert message in refusal(file, tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("token", "message"), [(b"\xe2\x96\x81", "the same token stands twice"), (b"x" * 65, "has tokens of more than 64 letters")]
)
def test_refused_when_the_tokens_are_read(parsed: GGUFFile, tmp_path: Path, token: bytes, message: str) -> None:
    file = parsed.copy()
    file["tokenizer.ggml.tokens"].value[300] = token
    with pytest.raises(ModelFileError, match=message):
        read_tokenizer(check_model_file(file.write(tmp_path / "m.gguf")))


@pytest.mark.parametrize("token", [b"", b"a\0b", b"y" * 300, b"\xff\xfe", b"\0" * 7, b"\xc3"])
def test_tokens_that_are_read_one_by_one(parsed: GGUFFile, tmp_path: Path, token: bytes) -> None:
    """As they stand in the file, whatever they are."""
    file = parsed.copy()
    file["tokenizer.ggml.tokens"].value[300] = token
    tokens = list(read_tokens(check_model_file(file.write(tmp_path / "m.gguf"))))
    assert tokens == [text.decode("utf-8", "replace") for text in file["tokenizer.ggml.tokens"].value]


def test_a_table_with_places_outside_of_itself(parsed: GGUFFile, tmp_path: Path) -> None:
    """Of its content nothing is believed: what leads nowhere replaces nothing."""
    draw = random.Random(5)
    for _ in range(30):
        raw = bytearray(small_charsmap())
        for _ in range(200):
            raw[draw.randrange(4, len(raw) - 1)] = draw.randrange(256)
        charsmap = CharsMap(bytes(raw))
        for text in SAMPLES:
            charsmap.normalise(text)


def test_without_a_table(parsed: GGUFFile, tmp_path: Path) -> None:
    file = parsed.copy()
    file.remove("tokenizer.ggml.precompiled_charsmap")
    tokenizer = read_tokenizer(check_model_file(file.write(tmp_path / "m.gguf")))
    assert list(tokenizer.tokenize("route\u00a0ﬁx")) == list(tokenizer.tokenize("route ﬁx"))
