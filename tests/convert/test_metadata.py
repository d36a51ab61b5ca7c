"""What the GGUF says about the model: hyperparameters, vocabulary, special tokens, chat template, name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from archroute_edge.errors import CheckpointError
from tests.convert import gguf_contents
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.checkpoints import QWEN2, QWEN3, Shape, change_json, write_checkpoint
from tools.fixtures.qwen_tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, ORDINARY_ADDED_TOKENS, build_tokenizer

KIND = gguf.TokenType


def converted(folder: Path, **options: Any) -> dict[str, Any]:
    target = folder.with_suffix(".gguf")
    convert_checkpoint(folder, target, "f16", **options)
    return gguf_contents.read(target).metadata


def test_hyperparameters_of_qwen2(tmp_path: Path) -> None:
    """Under the keys and with the values that llama.cpp loads."""
    write_checkpoint(tmp_path / "m", QWEN2)
    metadata = converted(tmp_path / "m")
    own = {key: value for key, value in metadata.items() if key.startswith("qwen2.")}
    assert own == {
        "qwen2.block_count": 2,
        "qwen2.context_length": 512,
        "qwen2.embedding_length": 64,
        "qwen2.feed_forward_length": 96,
        "qwen2.attention.head_count": 4,
        "qwen2.attention.head_count_kv": 2,
        "qwen2.attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "qwen2.rope.freq_base": 1e6,
    }
    assert metadata["general.architecture"] == "qwen2"
    assert metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_F16
    assert metadata["general.quantization_version"] == 2


def test_a_vocabulary_alone(tmp_path: Path) -> None:
    """The keys of the whole conversion but the number of parameters, from a checkpoint that has no weights."""
    folder = write_checkpoint(tmp_path / "m", QWEN2).folder
    whole = converted(folder, prompt_format="gateway")
    (folder / "model.safetensors").unlink()
    alone = converted(folder, prompt_format="gateway", vocabulary_only=True)
    assert whole.keys() - alone.keys() == {"general.size_label"}
    assert alone == {key: value for key, value in whole.items() if key != "general.size_label"}
    assert gguf_contents.read(folder.with_suffix(".gguf")).types == {}
    assert convert_checkpoint(folder, tmp_path / "auto.gguf", vocabulary_only=True).outtype == "f16"
    with pytest.raises(CheckpointError, match="has neither model"):
        converted(folder)


def test_qwen3_stores_its_head_width(tmp_path: Path) -> None:
    """Qwen3's heads need not divide the hidden size, so llama.cpp must be told."""
    write_checkpoint(tmp_path / "m", QWEN3)
    metadata = converted(tmp_path / "m")
    assert (metadata["qwen3.attention.key_length"], metadata["qwen3.attention.value_length"]) == (32, 32)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 16.0}},
            {"type": "yarn", "factor": 4.0, "original_context_length": 128, "yarn_beta_fast": 16.0},
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, {"type": "linear", "factor": 2.0}),
        ({"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, {}),
    ],
)
def test_rotary_scaling(tmp_path: Path, config: dict[str, Any], expected: dict[str, Any]) -> None:
    """In both of the places where transformers has kept it."""
    write_checkpoint(tmp_path / "m", replace(QWEN2, extra_config=config))
    metadata = converted(tmp_path / "m")
    prefix = "qwen2.rope.scaling."
    assert {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)} == expected
    assert metadata["qwen2.rope.freq_base"] == 1e6


def test_vocabulary_types_and_padding(tmp_path: Path) -> None:
    """Control tokens, ordinary added ones, and the rows of the embedding that no token has."""
    checkpoint = write_checkpoint(tmp_path / "m", replace(QWEN2, vocab_padding=7))
    metadata = converted(tmp_path / "m")
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    n_tokens = checkpoint.tokenizer.get_vocab_size(with_added_tokens=True)
    assert tokens[:n_tokens] == [checkpoint.tokenizer.id_to_token(token_id) for token_id in range(n_tokens)]
    assert tokens[n_tokens:] == [f"[PAD{token_id}]" for token_id in range(n_tokens, n_tokens + 7)]
    assert types[n_tokens:] == [KIND.UNUSED] * 7
    by_text = dict(zip(tokens, types, strict=True))
    assert {by_text[text] for text in CONTROL_TOKENS} == {KIND.CONTROL}
    # Not special in the checkpoint: those that look like control tokens become control tokens, as upstream has it.
    assert {text: by_text[text] for text in ORDINARY_ADDED_TOKENS} == {
        text: KIND.CONTROL if text.startswith("<|") else KIND.USER_DEFINED for text in ORDINARY_ADDED_TOKENS
    }
    assert set(types[: n_tokens - len(CONTROL_TOKENS) - len(ORDINARY_ADDED_TOKENS)]) == {KIND.NORMAL}


def test_special_tokens_and_template(tmp_path: Path) -> None:
    """tokenizer_config.json comes before config.json, which alone names bos."""
    checkpoint = write_checkpoint(tmp_path / "m")
    metadata = converted(tmp_path / "m")
    assert metadata["tokenizer.ggml.eos_token_id"] == checkpoint.tokenizer.token_to_id("<|im_end|>")
    assert metadata["tokenizer.ggml.padding_token_id"] == checkpoint.tokenizer.token_to_id("<|endoftext|>")
    assert metadata["tokenizer.ggml.bos_token_id"] == checkpoint.config["bos_token_id"]
    assert metadata["tokenizer.ggml.add_bos_token"] is False
    assert metadata["tokenizer.ggml.pre"] == "qwen2"
    assert metadata["archroute.normalizer"] == "nfc"
    assert metadata["tokenizer.chat_template"] == CHAT_TEMPLATE


@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json"])
def test_chat_template_in_a_file_of_its_own(tmp_path: Path, place: str) -> None:
    """Newer versions of transformers no longer put it into tokenizer_config.json."""
    write_checkpoint(tmp_path / "m", replace(QWEN2, chat_template_in=place))
    assert converted(tmp_path / "m")["tokenizer.chat_template"] == CHAT_TEMPLATE


def test_several_chat_templates(tmp_path: Path) -> None:
    """The default one goes where llama.cpp looks, the others beside it under their names."""
    folder = write_checkpoint(tmp_path / "m").folder
    named = [{"name": "default", "template": CHAT_TEMPLATE}, {"name": "tool_use", "template": "{{ tools }}"}]
    change_json(folder / "tokenizer_config.json", chat_template=named)
    metadata = converted(folder)
    assert metadata["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert metadata["tokenizer.chat_template.tool_use"] == "{{ tools }}"


def test_vocab_and_merges_give_what_tokenizer_json_gives(tmp_path: Path) -> None:
    """The older layout holds the same tokenizer in other files."""
    with_json, without = (
        write_checkpoint(tmp_path / name, Shape(tokenizer_files=name)).folder for name in ("tokenizer.json", "vocab.json")
    )
    assert not (without / "tokenizer.json").exists()
    keys = [f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges", "pre", "eos_token_id", "bos_token_id")]
    one, other = converted(with_json), converted(without)
    assert [one[key] for key in keys] == [other[key] for key in keys]


def test_name_licence_and_sampling(tmp_path: Path) -> None:
    """From the model card and generation_config.json, unless the caller knows better."""
    folder = write_checkpoint(tmp_path / "my-router").folder
    card = "---\nlicense: other\nlicense_name: katanemo-research\nlicense_link: https://example.org/LICENSE\n---\n# Card\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    metadata = converted(folder)
    assert metadata["general.name"] == "my-router"
    assert metadata["general.license"] == "other"
    assert metadata["general.license.name"] == "katanemo-research"
    assert metadata["general.license.link"] == "https://example.org/LICENSE"
    assert metadata["general.sampling.top_k"] == 20
    assert metadata["general.sampling.temp"] == pytest.approx(0.7)
    assert "archroute.prompt_format" not in metadata
    chosen = converted(folder, name="Tiny router", licence="cc-by-sa-4.0", prompt_format="card")
    assert (chosen["general.name"], chosen["general.license"]) == ("Tiny router", "cc-by-sa-4.0")
    assert "general.license.name" not in chosen
    assert chosen["archroute.prompt_format"] == "card"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("date: 2024-13-45", "mit"),
        ("score: !!float x", "mit"),
        ("tags: " + "[" * 600, None),
        ('note: "\\UFFFFFFFF"', None),
        ("tags: [", None),
    ],
    ids=["date", "number", "deep", "no-character", "syntax"],
)
def test_a_model_card_that_cannot_be_read_is_no_reason_to_refuse(tmp_path: Path, card: str, licence: str | None) -> None:
    """Cards are written by people, and not for programs."""
    folder = write_checkpoint(tmp_path / "m").folder
    (folder / "README.md").write_text(f"---\nlicense: mit\n{card}\n---\n", encoding="utf-8")
    assert converted(folder).get("general.license") == licence


def test_a_model_card_that_is_no_text_is_none_either(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m").folder
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\ncaf\xe9\n")
    assert "general.license" not in converted(folder)


def test_sampling_that_makes_no_sense_is_left_out(tmp_path: Path) -> None:
    """No decision depends on it. What fits is kept."""
    folder = write_checkpoint(tmp_path / "m").folder
    change_json(
        folder / "generation_config.json", top_k=1 << 31, temperature=10**400, top_p=1e300, min_p=True, repetition_penalty=1
    )
    sampling = {key: value for key, value in converted(folder).items() if key.startswith("general.sampling")}
    assert sampling == {"general.sampling.penalty_repeat": 1.0}


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    """File systems of Linux take any bytes."""
    folder = write_checkpoint(Path(os.fsdecode(os.fsencode(tmp_path) + b"/router-\xff"))).folder
    assert converted(folder)["general.name"] == "router-?"


def test_which_added_tokens_are_control_tokens(tmp_path: Path) -> None:
    """Those with a role; else tokenizer_config.json is believed before tokenizer.json, as transformers does."""
    folder = write_checkpoint(tmp_path / "m").folder
    token_id = str(build_tokenizer().token_to_id("</tool_call>"))
    change_json(
        folder / "tokenizer_config.json",
        eos_token={"content": "<tool_call>"},
        added_tokens_decoder={token_id: {"content": "</tool_call>", "special": True}},
    )
    metadata = converted(folder)
    by_text = dict(zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True))
    assert metadata["tokenizer.ggml.eos_token_id"] == metadata["tokenizer.ggml.tokens"].index("<tool_call>")
    assert by_text["<tool_call>"] == by_text["</tool_call>"] == KIND.CONTROL


def test_end_of_text_from_a_list(tmp_path: Path) -> None:
    """config.json may list several; llama.cpp would take an unrelated token if there were none."""
    checkpoint = write_checkpoint(tmp_path / "m")
    change_json(checkpoint.folder / "tokenizer_config.json", eos_token=None)
    change_json(checkpoint.folder / "config.json", eos_token_id=[7, 8])
    assert converted(checkpoint.folder)["tokenizer.ggml.eos_token_id"] == 7
