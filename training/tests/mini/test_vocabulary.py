"""A cut vocabulary reads as the whole one does, as long as it has the pieces; and the choice is a function of the texts."""

from __future__ import annotations

import gettext
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training.mini import base, choose_vocabulary, commands, vocabulary, word_lists
from training.mini.choose_vocabulary import Source, build_tokenizer, choose, cover
from training.mini.vocabulary import MASK, SPECIAL, kept_pieces, write_kept_pieces
from training.tests.mini.small_base import LETTERS, PIECES, WORDS, make_small_base
from training.tests.mini.test_base import NO_NORMALIZATION

SCORES = make_small_base().scores.tolist()
N_SINGLE = len(SPECIAL) + 1 + len(LETTERS)
ALWAYS = {*PIECES[:N_SINGLE], "\u2581b", MASK}


@pytest.fixture(scope="module")
def plain() -> Any:
    """Texts are not normalized, since the table for that comes from sentencepiece."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "normalization", lambda: NO_NORMALIZATION)
        yield


def cut_to(kept: list[int]) -> Tokenizer:
    return build_tokenizer([PIECES[n] for n in kept], [SCORES[n] for n in kept])


@settings(max_examples=25, deadline=None)
@given(
    text=st.text(alphabet="bankrequesting the?", max_size=40),
    missing=st.sets(st.integers(N_SINGLE, N_SINGLE + len(WORDS) - 1), max_size=6),
)
def test_a_cut_reads_as_the_whole_does_where_it_has_the_pieces(plain: None, text: str, missing: set[int]) -> None:
    kept = [number for number in range(len(PIECES)) if number not in missing]
    uncut = build_tokenizer(PIECES, SCORES).encode(text).ids
    cut = [kept[number] for number in cut_to(kept).encode(text).ids]
    if missing.isdisjoint(uncut):
        assert cut == uncut
    else:
        assert SPECIAL.index("<unk>") not in cut
        assert "".join(PIECES[n] for n in cut) == "".join(PIECES[n] for n in uncut)


def test_a_text_has_the_marks_of_a_sequence(plain: None) -> None:
    whole = build_tokenizer(PIECES, SCORES)
    assert whole.encode("request banking").tokens == ["<s>", "\u2581request", "\u2581bank", "ing", "</s>"]
    assert whole.encode("ruß").ids[-2] == SPECIAL.index("<unk>")
    assert whole.encode(f"a {MASK}").ids[-2] == PIECES.index(MASK)


def test_the_choice_outlives_its_file(tmp_path: Path) -> None:
    numbers = np.array([0, 1, 5, 17, 249_999, 250_001])
    write_kept_pieces(numbers, 250_002, tmp_path / "vocabulary.bin")
    assert kept_pieces(tmp_path / "vocabulary.bin").tolist() == numbers.tolist()


def test_the_file_of_the_project_keeps_what_a_tokenizer_needs() -> None:
    kept = kept_pieces()
    assert len(kept) == choose_vocabulary.PIECES == len(set(kept.tolist()))
    assert kept[: len(SPECIAL)].tolist() == [0, 1, 2, 3]
    assert kept[-1] < 250_002


def test_pieces_stay_by_their_share_of_the_source_that_uses_them_most(plain: None) -> None:
    """A language with few texts counts as much as one with many, unless it is said to be less important."""
    sources = [
        Source("much", 1.0, ["the"] * 300 + ["banking"], [1.0] * 301),
        Source("little", 1.0, ["request"], [1.0]),
        Source("unimportant", 0.001, ["tester"], [1.0]),
    ]
    kept = choose(PIECES, SCORES, iter(sources), len(ALWAYS) + 2)
    assert {PIECES[n] for n in kept} == {*ALWAYS, "\u2581the", "\u2581request"}
    assert kept.tolist() == sorted(kept.tolist())


def test_every_single_character_stays(plain: None) -> None:
    kept = choose(PIECES, SCORES, iter([]), 3)
    assert {PIECES[n] for n in kept} == ALWAYS


def test_coverage_counts_words_by_their_frequency(plain: None) -> None:
    kept = [n for n in range(len(PIECES)) if PIECES[n] not in ("\u2581bank", "ank", "\u2581b")]
    found = cover(build_tokenizer(PIECES, SCORES), cut_to(kept), "en", {"bank": 3.0, "the": 1.0, "ß": 4.0})
    assert found.uncut == pytest.approx((3 * 1 + 1 + 4 * 2) / 8)
    assert found.cut == pytest.approx((3 * 5 + 1 + 4 * 2) / 8)
    assert found.unknown == pytest.approx(0.5)


def test_the_commands_choose_and_measure(plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "read_published", lambda: base.parse_base(make_small_base().content))
    monkeypatch.setattr(choose_vocabulary, "text_sources", lambda data: iter([Source("en", 1.0, ["the bank"], [1.0])]))
    out = tmp_path / "vocabulary.bin"
    done = CliRunner().invoke(commands.main, ["vocabulary", "--data", str(tmp_path), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert {"\u2581the", "\u2581bank"} <= {PIECES[n] for n in kept_pieces(out)}
    monkeypatch.setattr(vocabulary, "kept_pieces", lambda: kept_pieces(out))
    monkeypatch.setattr(choose_vocabulary, "word_lists", lambda: {"en": {"the": 0.1, "bank": 0.1}})
    monkeypatch.setattr(choose_vocabulary, "translated_phrases", lambda: {"en_GB": ["the request"], "cy": ["the banker"]})
    done = CliRunner().invoke(commands.main, ["coverage", "--json"])
    assert done.exit_code == 0, done.output
    assert [row["language"] for row in json.loads(done.stdout)] == ["en", "cy"]
    assert json.loads(done.stdout)[0] == {"language": "en", "uncut": 1.0, "cut": 1.0, "unknown": 0.0}
    assert "cy" in CliRunner().invoke(commands.main, ["coverage"]).stdout


def test_a_word_list_has_the_frequency_of_each_word() -> None:
    """A word list by the rules of MessagePack: a map, strings and lists of all the lengths that occur."""
    long, words = "w" * 40, [f"word{number}" for number in range(20)]
    packed = b"\x93" + b"\x82\xa6format\xa2cB\xa7version\x01" + b"\x90"
    packed += b"\xdc" + struct.pack(">H", 21) + b"\xd9\x28" + long.encode()
    packed += b"".join(bytes([0xA0 + len(word)]) + word.encode() for word in words)
    found = word_lists.frequencies(packed)
    assert list(found) == [long, *words]
    assert found[long] == pytest.approx(10**-0.01)
    with pytest.raises(ValueError, match="expected format 'cB'"):
        word_lists.frequencies(b"\x92\x81\xa6format\xa2xx\x90")


def test_messages_of_gettext_are_read_with_their_plurals() -> None:
    pairs = [
        ("", "Content-Type: text/plain; charset=UTF-8\n"),
        ("%d day\0%d days", "%d Tag\0%d Tage"),
        ("yes", "já, <b>ano</b>"),
    ]
    originals, translated = ([pair[side].encode() for pair in pairs] for side in (0, 1))
    at, table, texts = 28 + 16 * len(pairs), b"", b""
    for text in [*originals, *translated]:
        table += struct.pack("<2I", len(text), at + len(texts))
        texts += text + b"\0"
    compiled = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0) + table + texts
    assert gettext.GNUTranslations(io.BytesIO(compiled)).gettext("yes") == "já, <b>ano</b>"
    assert list(word_lists.translations(compiled)) == ["%d Tag", "%d Tage", "já, <b>ano</b>"]
