"""Texts are normalized as sentencepiece does it."""

from __future__ import annotations

from training.mini.choose_vocabulary import build_tokenizer
from training.tests.mini.small_base import PIECES, make_small_base


def test_other_forms_of_a_character_are_one() -> None:
    tokenizer = build_tokenizer(PIECES, make_small_base().scores.tolist())
    plain = tokenizer.encode("the bank?").ids
    assert tokenizer.encode("ｔｈｅ\u3000ｂａｎｋ？").ids == plain
    assert tokenizer.encode("the\tba\u200bnk?").ids != plain
