"""The tokenizer that the bundled model is trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.tiny.tokenizer import CONTROL, save_tokenizer, token_id, train_tokenizer


@pytest.mark.parametrize("text", ["plain", "\x00\x7f\n\t ", "日本語 🙂 é", "a  b\r\n\r\n  c", "<|im_end|> in a message"])
def test_any_text_can_be_encoded_and_comes_back(text: str) -> None:
    tokenizer = train_tokenizer(["some text to learn from"] * 3, 300)
    tokenizer.encode_special_tokens = True
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_text_is_normalised_to_nfc() -> None:
    tokenizer = train_tokenizer(["caf\u00e9"] * 3, 300)
    assert tokenizer.encode("cafe\u0301").ids == tokenizer.encode("caf\u00e9").ids


def test_control_tokens_stand_behind_the_others_and_are_in_the_config(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["some text"] * 3, 300)
    ids = [token_id(tokenizer, token) for token in CONTROL]
    assert min(ids) >= 256 and sorted(ids)[-1] == tokenizer.get_vocab_size() - 1
    save_tokenizer(tokenizer, tmp_path, 8192)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert {entry["content"] for entry in config["added_tokens_decoder"].values()} == set(CONTROL)
    assert config["eos_token"] == "<|im_end|>" and "<|im_start|>assistant" in config["chat_template"]


def test_a_missing_entry_is_named() -> None:
    with pytest.raises(ValueError, match="no entry 'zebra'"):
        token_id(train_tokenizer(["some text"] * 3, 300), "zebra")
