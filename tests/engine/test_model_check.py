"""Well-formed files that are no model to route with, or on which llama.cpp would abort: refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.engine import LoadedModel, check_model_file, model_fingerprint, read_header
from archroute_edge.errors import ModelFileError, ModelLoadError, ModelNotFoundError, PromptFormatError
from archroute_edge.prompts import PromptBuilder, prompt_format
from tests.engine.gguf_file import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT32, GGUFFile
from tests.engine.load_mutants import use
from tests.engine.mutants import as_architecture, lay_out

_TOKENS = "tokenizer.ggml.tokens"


def refusal(file: GGUFFile, path: Path) -> str:
    """The message with which ``file`` is refused: one line, beginning with the file's path."""
    file.write(path)
    with pytest.raises(ModelFileError) as caught:
        check_model_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message[len(f"{path}: ") :]


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_sound_models_pass_and_can_be_used(sound: GGUFFile, path: Path, architecture: str) -> None:
    as_architecture(sound, architecture).write(path)
    assert check_model_file(path) == read_header(path)
    use(path)


def test_missing(path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such file"):
        check_model_file(path)
    with pytest.raises(ModelNotFoundError, match="no such file"):
        LoadedModel(path)


def test_vocabulary_only(sound: GGUFFile, path: Path) -> None:
    sound.tensors, sound.data = [], b""
    assert "vocabulary only" in refusal(sound, path)


def test_a_vocabulary_alone_will_do_for_prompts(sound: GGUFFile, path: Path) -> None:
    """Where no weights are needed. The vocabulary is checked as ever; hyperparameters may be missing, which nobody reads."""
    with LoadedModel(sound.write(path), vocabulary_only=True) as whole:
        text = whole.vocabulary.tokenize("Fix <|im_end|> this", control_tokens=True)
        sound.tensors, sound.data = [], b""
        for entry in [each for each in sound.entries if each.key.startswith(b"qwen2.")]:
            sound.remove(entry.key.decode())
        sound.write(path)
        check_model_file(path, needs_weights=False)
        with LoadedModel(path, vocabulary_only=True, needs_weights=False) as model:
            assert model.vocabulary.n_tokens == whole.vocabulary.n_tokens
            assert model.vocabulary.tokenize("Fix <|im_end|> this", control_tokens=True) == text
    with pytest.raises(ModelFileError, match="vocabulary only"):
        LoadedModel(path, needs_weights=False)
    sound["tokenizer.ggml.model"].value = b"bert"
    with pytest.raises(ModelFileError, match="has a tokenizer of the kind 'bert'"):
        check_model_file(sound.write(path), needs_weights=False)
    sound["general.architecture"].value = b"bert"
    with pytest.raises(ModelFileError, match="vocabulary only"):
        check_model_file(sound.write(path), needs_weights=False)


def test_loading_refuses_too_and_before_llama_cpp_sees_the_file(sound: GGUFFile, path: Path) -> None:
    sound.tensors, sound.data = [], b""
    sound.write(path)
    for vocabulary_only in (False, True):
        with pytest.raises(ModelFileError, match="vocabulary only"):
            LoadedModel(path, vocabulary_only=vocabulary_only)


@pytest.mark.parametrize("architecture", ["nomic-bert", "jina-bert-v2", "modern-bert", "t5encoder"])
def test_encoders(sound: GGUFFile, path: Path, architecture: str) -> None:
    sound["general.architecture"].value = architecture.encode()
    message = refusal(sound, path)
    assert architecture in message
    assert "encoder" in message


@pytest.mark.parametrize("kind", [b"adapter", b"mmproj", b"imatrix"])
def test_files_of_another_type(sound: GGUFFile, path: Path, kind: bytes) -> None:
    sound.set("general.type", STRING, kind)
    assert kind.decode() in refusal(sound, path)


def test_no_architecture(sound: GGUFFile, path: Path) -> None:
    sound.remove("general.architecture")
    assert "general.architecture" in refusal(sound, path)


def test_an_architecture_that_llama_cpp_does_not_know(sound: GGUFFile, path: Path) -> None:
    for entry in sound.entries:
        entry.key = entry.key.replace(b"qwen2.", b"unheard-of.")
    sound["general.architecture"].value = b"unheard-of"
    sound.write(path)
    with pytest.raises(ModelLoadError, match="unheard-of") as caught:
        LoadedModel(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_one_file_of_a_split_model(sound: GGUFFile, path: Path) -> None:
    sound.set("split.count", UINT32, 3)
    assert "merge" in refusal(sound, path)
    sound.set("split.count", UINT32, 1)
    check_model_file(sound.write(path))


def test_no_token_embedding(sound: GGUFFile, path: Path) -> None:
    sound.tensor("token_embd.weight").name = b"v.patch_embd.weight"
    assert "token_embd.weight" in refusal(sound, path)


@pytest.mark.parametrize("how", ["no tokens", "no model", "none", "no_vocab"])
def test_no_tokenizer(sound: GGUFFile, path: Path, how: str) -> None:
    if how == "no tokens":
        sound.remove(_TOKENS)
    elif how == "no model":
        sound.remove("tokenizer.ggml.model")
    else:
        sound["tokenizer.ggml.model"].value = how.encode()
    assert "has no tokenizer" in refusal(sound, path)


@pytest.mark.parametrize("kind", ["bert", "t5", "rwkv", "whitespace", "test", "unheard-of"])
def test_tokenizers_that_cannot_write_prompts(sound: GGUFFile, path: Path, kind: str) -> None:
    sound["tokenizer.ggml.model"].value = kind.encode()
    assert repr(kind) in refusal(sound, path)


def test_no_chat_template(sound: GGUFFile, path: Path) -> None:
    sound.remove("tokenizer.chat_template")
    with LoadedModel(sound.write(path), vocabulary_only=True) as model, pytest.raises(ModelFileError) as caught:
        PromptBuilder(model, prompt_format("card"))
    assert str(caught.value).startswith(f"{path}: carries no chat template")


def test_a_chat_template_that_carries_nothing(sound: GGUFFile, path: Path) -> None:
    sound["tokenizer.chat_template"].value = b"{{ undefined_function() }}"
    with LoadedModel(sound.write(path), vocabulary_only=True) as model, pytest.raises(PromptFormatError) as caught:
        PromptBuilder(model, prompt_format("card"))
    assert str(caught.value).startswith(f"{path}: the model's chat template cannot be rendered")


@pytest.mark.parametrize("key", ["tokenizer.ggml.token_type", "tokenizer.ggml.scores"])
@pytest.mark.parametrize("change", [-1, 1])
def test_lists_that_do_not_match_the_vocabulary(sound: GGUFFile, path: Path, key: str, change: int) -> None:
    n_vocab = len(sound[_TOKENS].value)
    if key.endswith("scores"):
        sound.set(key, ARRAY, [0.0] * (n_vocab + change), FLOAT32)
    else:
        sound.set(key, ARRAY, [1] * (n_vocab + change), INT32)
    assert f"{key} has {n_vocab + change} entries for {n_vocab} tokens" in refusal(sound, path)


@pytest.mark.parametrize(
    ("key", "element", "value"),
    [(_TOKENS, INT32, 1), ("tokenizer.ggml.merges", INT32, 1), ("tokenizer.ggml.token_type", FLOAT32, 1.0)],
)
def test_lists_of_the_wrong_type(sound: GGUFFile, path: Path, key: str, element: int, value: float) -> None:
    sound.set(key, ARRAY, [value] * len(sound[key].value), element)
    assert f"{key} has the wrong type" in refusal(sound, path)


@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id", "padding_token_id", "eot_token_id", "fim_pad_token_id"])
def test_token_ids_past_the_vocabulary(sound: GGUFFile, path: Path, key: str) -> None:
    n_vocab = len(sound[_TOKENS].value)
    for value in (n_vocab, 2**31):
        sound.set(f"tokenizer.ggml.{key}", UINT32, value)
        assert f"tokenizer.ggml.{key} is {value}" in refusal(sound, path)
    # The last token, and the number that stands for none.
    for value in (n_vocab - 1, 2**32 - 1):
        sound.set(f"tokenizer.ggml.{key}", UINT32, value)
        check_model_file(sound.write(path))


@pytest.mark.parametrize("how", ["equal", "equal up to a zero byte", "named like an empty one"])
def test_tokens_that_are_not_distinct(sound: GGUFFile, path: Path, how: str) -> None:
    tokens = sound[_TOKENS].value
    if how == "equal":
        tokens[7] = tokens[8]
    elif how == "equal up to a zero byte":
        tokens[7] = tokens[8] + b"\0more"
    else:
        tokens[7], tokens[8] = b"", b"[EMPTY_7]"
    assert "stands twice" in refusal(sound, path)


def test_empty_tokens_are_distinct(sound: GGUFFile, path: Path) -> None:
    sound[_TOKENS].value[300:303] = [b"", b"", b""]
    check_model_file(sound.write(path))
    use(path)


def test_a_byte_that_no_token_stands_for(sound: GGUFFile, path: Path) -> None:
    sound["tokenizer.ggml.model"].value = b"llama"
    tokens = sound[_TOKENS].value
    tokens[:256] = [b"<0x%02X>" % byte for byte in range(256)]
    check_model_file(sound.write(path))
    tokens[0x41] = b"gone"
    tokens[256:] = [b"t%d" % number for number in range(256, len(tokens))]
    assert "0x41" in refusal(sound, path)


def test_an_embedding_of_another_vocabulary(sound: GGUFFile, path: Path) -> None:
    sound.tensor("token_embd.weight").shape[1] -= 1
    assert "token_embd.weight is [64, " in refusal(sound, path)


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("block_count", UINT32, 0),
        ("block_count", UINT32, 513),
        ("block_count", STRING, b"2"),
        ("embedding_length", UINT32, 0),
        ("context_length", UINT32, 0),
        ("feed_forward_length", UINT32, 0),
        ("feed_forward_length", ARRAY, [128, 128]),
        ("attention.head_count", UINT32, 0),
        ("attention.head_count", UINT32, 65),
        ("attention.head_count", UINT32, 3),
        ("attention.head_count", UINT32, 64),
        ("attention.head_count", ARRAY, [2, 2]),
        ("attention.head_count_kv", UINT32, 0),
        ("attention.head_count_kv", UINT32, 3),
        ("attention.head_count_kv", ARRAY, [1, 0]),
        ("attention.key_length", UINT32, 16),
        ("attention.value_length", UINT32, 16),
        ("rope.dimension_count", UINT32, 16),
        ("rope.scaling.type", STRING, b"unheard-of"),
        ("attention.layer_norm_rms_epsilon", FLOAT32, -1.0),
        ("attention.layer_norm_rms_epsilon", FLOAT32, float("nan")),
        ("expert_count", UINT32, 4),
        ("expert_count", UINT32, 2000),
        ("expert_used_count", UINT32, 4),
        ("expert_used_count", ARRAY, [4, 4]),
        ("expert_group_count", UINT32, 2),
        ("nextn_predict_layers", UINT32, 3),
    ],
)
def test_hyperparameters_that_do_not_fit(sound: GGUFFile, path: Path, name: str, kind: int, value: object) -> None:
    sound.set(f"qwen2.{name}", kind, value, INT32 if kind == ARRAY else 0)
    message = refusal(sound, path)
    assert "qwen2." in message
    assert "does not fit" in message


@pytest.mark.parametrize("name", ["block_count", "embedding_length", "context_length", "attention.head_count"])
def test_hyperparameters_that_are_missing(sound: GGUFFile, path: Path, name: str) -> None:
    sound.remove(f"qwen2.{name}")
    assert f"qwen2.{name} is 'missing'" in refusal(sound, path)


@pytest.mark.parametrize("kind", [24, 25, 26, 27, 28])
def test_weights_of_a_type_that_is_never_multiplied(sound: GGUFFile, path: Path, kind: int) -> None:
    sound.tensor("blk.0.attn_q.weight").type_number = kind
    lay_out(sound)
    assert "tensor blk.0.attn_q.weight cannot be of type" in refusal(sound, path)


@pytest.mark.parametrize("name", ["blk.1.attn_norm.weight", "output_norm.weight", "blk.0.attn_k.bias"])
@pytest.mark.parametrize("kind", [1, 8, 30])
def test_norms_and_biases_that_are_not_f32(sound: GGUFFile, path: Path, name: str, kind: int) -> None:
    sound.tensor(name).type_number = kind
    lay_out(sound)
    assert f"tensor {name} cannot be of type" in refusal(sound, path)


def test_shapes_that_llama_cpp_refuses_itself(sound: GGUFFile, path: Path) -> None:
    sound.tensor("blk.1.ffn_up.weight").shape.reverse()
    sound.write(path)
    with pytest.raises(ModelLoadError, match=r"blk\.1\.ffn_up\.weight"):
        LoadedModel(path)


def test_a_tensor_that_is_missing(sound: GGUFFile, path: Path) -> None:
    sound.tensors.remove(sound.tensor("blk.1.ffn_up.weight"))
    lay_out(sound)
    sound.write(path)
    with pytest.raises(ModelLoadError, match=r"blk\.1\.ffn_up\.weight"):
        LoadedModel(path)


def test_the_fingerprint_is_of_the_content_alone(sound: GGUFFile, tmp_path: Path) -> None:
    one = read_header(sound.write(tmp_path / "one.gguf"))
    two = read_header(sound.write(tmp_path / "two.gguf"))
    assert model_fingerprint(one) == model_fingerprint(two)


def test_the_fingerprint_changes_with_the_header(sound: GGUFFile, path: Path) -> None:
    before = model_fingerprint(read_header(sound.write(path)))
    sound.set("tokenizer.ggml.add_bos_token", BOOL, True)
    assert model_fingerprint(read_header(sound.write(path))) != before


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_fingerprint_changes_with_the_tensor_data(sound: GGUFFile, path: Path, share: float) -> None:
    """A file of this size is sampled without gaps of more than a few KiB, so a block of 8 KiB cannot be missed."""
    before = model_fingerprint(read_header(sound.write(path)))
    start = int(share * (len(sound.data) - 8192))
    changed = bytes(255 - byte for byte in sound.data[start : start + 8192])
    sound.data = sound.data[:start] + changed + sound.data[start + 8192 :]
    assert model_fingerprint(read_header(sound.write(path))) != before


def test_the_fingerprint_changes_with_the_size(sound: GGUFFile, path: Path) -> None:
    before = model_fingerprint(read_header(sound.write(path)))
    sound.data += bytes(32)
    assert model_fingerprint(read_header(sound.write(path))) != before
