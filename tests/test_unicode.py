"""Names are compared in a normal form, whose time a request must not be able to square."""

from __future__ import annotations

import functools
import random
import sys
import time
import unicodedata
from typing import Literal

import pytest

from archroute_edge._unicode import normalized
from archroute_edge.engine._wordpiece import WordPieceTokenizer

FORMS: tuple[Literal["NFC"], Literal["NFD"]] = ("NFC", "NFD")


@functools.cache
def characters() -> list[str]:
    """Every character. Each process of pytest imports this module, and one at most needs them."""
    return [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]


@functools.cache
def marks() -> list[str]:
    return [character for character in characters() if unicodedata.combining(character)]


@functools.cache
def composed() -> list[str]:
    return [character for character in characters() if len(unicodedata.normalize("NFD", character)) > 1]


@pytest.mark.parametrize("form", FORMS)
def test_the_normal_form_is_unicodes(form: Literal["NFC", "NFD"]) -> None:
    """Two names that only one of both forms calls equal would be one answer to a model."""
    rng = random.Random(f"normal form {form}")
    for _ in range(500):
        pools = [
            marks(),
            marks(),
            composed(),
            rng.sample(characters(), 9),
            ["\u0f71", "\u0f73", "\u0344"],
            ["e", "\uac00", "\u11a8", " "],
        ]
        text = (
            "e"
            + "".join(rng.choices(marks(), k=rng.choice((0, 100))))
            + "".join(rng.choice(rng.choice(pools)) for _ in range(200))
        )
        assert normalized(form, text) == unicodedata.normalize(form, text)


def test_no_letter_is_a_mark_or_begins_with_one() -> None:
    """A later Unicode might have one; runs of marks would then be overlooked."""
    letters = (character for character in characters() if character.isalnum())
    assert not [each for each in letters if unicodedata.combining(unicodedata.normalize("NFD", each)[0])]


@pytest.mark.parametrize("form", FORMS)
def test_marks_in_any_order_take_linear_time(form: Literal["NFC", "NFD"]) -> None:
    """Four megabytes of them in a request would hold a server up for hours."""
    began = time.process_time()
    normalized(form, "a" + "\u0301\u0323" * 200_000)
    normalized(form, "a" + "\u0f73" * 200_000)
    assert time.process_time() - began < 10


def test_a_word_piece_tokenizer_takes_accents_off_in_linear_time() -> None:
    """A description of them, in a request, would hold up every decision."""
    tokenizer = WordPieceTokenizer({"▁a": 7}, unknown=0, lowercase=True, strip_accents=True)
    began = time.process_time()
    assert list(tokenizer.tokenize("A" + "\u0301\u0323" * 60_000)) == [7]
    assert time.process_time() - began < 5
