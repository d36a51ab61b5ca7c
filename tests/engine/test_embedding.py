"""Sentence vectors, by both libraries: those of the formulas, the same alone and in company; no input ends the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from archroute_edge.engine import N_TEXTS, Cancellation, EmbeddingEngine, EncodedText, EngineName, LoadedModel, Vectors
from archroute_edge.engine._embedding import N_UBATCH
from archroute_edge.errors import DecisionCancelledError, EngineError, ModelFileError
from tests.convert import numpy_bert
from tests.engine.gguf_file import ARRAY, BOOL, INT32, UINT32, GGUFFile, read_gguf
from tests.engine.mutants import lay_out
from tests.engine.test_model_check import refusal
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.bert_checkpoints import BertShape, write_bert
from tools.fixtures.texts import texts

TEXTS = ("please help me to translate a text", "cook a dinner", "fix this bug", "", "日本語 é नमस्ते 안녕", "it's 12345 o'clock!")


@pytest.fixture(params=["llama.cpp", "ik"])
def engine_name(request: pytest.FixtureRequest) -> EngineName:
    name: EngineName = request.param
    return name


@pytest.fixture
def engine(random_encoder: Path, engine_name: EngineName) -> Iterator[EmbeddingEngine]:
    with LoadedModel(random_encoder, wanted="encoder", engine=engine_name) as model:
        engine = EmbeddingEngine(model, 1)
        yield engine
        engine.close()


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_vectors_of_many_texts_equal_the_formulas(tmp_path: Path, pooling: str, engine_name: EngineName) -> None:
    """Each text sees itself alone, whatever else is in the evaluation, and is pooled as the file says."""
    checkpoint = write_bert(tmp_path / "checkpoint", BertShape(pooling=pooling))
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32")
    with LoadedModel(tmp_path / "model.gguf", wanted="encoder", engine=engine_name) as model:
        engine = EmbeddingEngine(model, 1)
        encoded = [engine.encode(text) for text in TEXTS]
        found = engine.embed(encoded)
        engine.close()
    checkpoint.tokenizer.no_padding()
    for text, encoding, vector in zip(TEXTS, encoded, found, strict=True):
        assert list(encoding.tokens) == checkpoint.tokenizer.encode(text).ids
        expected = numpy_bert.sentence_vector(checkpoint.config, checkpoint.weights, list(encoding.tokens), pooling)
        assert np.abs(vector - expected).max() < 2e-3, text


def test_two_threads_take_turns(engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library ends the process if two use a context at once; a thread with much to do keeps no other out."""
    many, few = [[engine.encode(text) for text in texts(number * N_TEXTS)] for number in (12, 3)]
    expected = engine.embed(few)
    evaluate, order = engine._evaluate_batch, []

    def noted(*arguments: Any) -> Vectors:
        order.append(threading.current_thread().name)
        return evaluate(*arguments)

    monkeypatch.setattr(engine, "_evaluate_batch", noted)
    thread = threading.Thread(target=lambda: [engine.embed(many) for _ in range(3)], name="busy")
    thread.start()
    while not order:
        time.sleep(0.001)
    assert (engine.embed(few) * expected).sum(axis=1) == pytest.approx(np.ones(len(few)), abs=1e-5)
    thread.join()
    own = [number for number, name in enumerate(order) if name != "busy"]
    assert len(order) - own[-1] > engine.n_evaluations(many)


def test_a_thread_that_waits_for_its_turn_can_be_stopped(engine: EmbeddingEngine) -> None:
    text = engine.encode("please fix this bug")
    with engine._turn(Cancellation()), Cancellation().until(0.05) as flag, pytest.raises(DecisionCancelledError):
        engine.embed([text], flag)
    assert engine.embed([text]).shape == (1, engine.width)


def test_company_changes_nothing(engine: EmbeddingEngine) -> None:
    """More texts than one evaluation takes come back in their order."""
    encoded = [engine.encode(text) for text in texts(3 * N_TEXTS + 5)]
    together = engine.embed(encoded)
    assert together.shape == (len(encoded), engine.width)
    assert engine.n_evaluations(encoded) > 3
    alone = np.concatenate([engine.embed([text]) for text in encoded[::17]])
    assert (together[::17] * alone).sum(axis=1) == pytest.approx(np.ones(len(alone)), abs=1e-5)


@pytest.mark.parametrize("fixture", ["random_encoder", "random_multilingual"])
def test_no_library_makes_a_tokenizer_of_an_encoder(
    request: pytest.FixtureRequest, fixture: str, engine_name: EngineName, caplog: pytest.LogCaptureFixture
) -> None:
    """They know how many tokens there are, and no token beyond is evaluated."""
    caplog.set_level("DEBUG", "archroute_edge.ik_llama_cpp")
    with LoadedModel(request.getfixturevalue(fixture), wanted="encoder", engine=engine_name) as model:
        if engine_name == "ik":
            assert any("vocab type" in line and "no vocab" in line for line in caplog.messages)
        vocabulary = model.vocabulary
        assert llama_cpp.llama_vocab_type(vocabulary.handle) == llama_cpp.LLAMA_VOCAB_TYPE_NONE
        assert vocabulary.n_tokens == model.header.length("tokenizer.ggml.tokens")
        engine = EmbeddingEngine(model, 1)
        with pytest.raises(EngineError, match=r"failed to encode 1 tokens|is none of the \d+"):
            engine.embed([EncodedText((vocabulary.n_tokens,), False)])
        engine.close()


def test_an_evaluation_that_is_stopped_leaves_nothing(engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by ik_llama.cpp, which returns as if it had finished: what it has then is no vector."""
    text, flag = engine.encode("please fix this bug"), Cancellation()
    expected, evaluate = engine.embed([text]), engine._evaluate_batch

    def cancel_and_evaluate(*arguments: Any) -> Vectors:
        flag.cancel()
        return evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_evaluate_batch", cancel_and_evaluate)
        with pytest.raises(DecisionCancelledError):
            engine.embed([text], flag)
    np.testing.assert_array_equal(engine.embed([text]), expected)


def test_nothing_to_embed(engine: EmbeddingEngine) -> None:
    assert engine.embed([]).shape == (0, engine.width)


@pytest.mark.parametrize("text", ["word " * 5000, "x" * 100_000, "a" * 99 + " " + "中文" * 3000, "\0" * 70_000, "é." * 5000])
def test_no_text_is_too_long(engine: EmbeddingEngine, text: str) -> None:
    """The library would end the process; the model here has 64 positions."""
    encoded = engine.encode(text)
    assert len(encoded.tokens) <= min(64, N_UBATCH)
    vectors = engine.embed([encoded] * (N_TEXTS + 1))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(N_TEXTS + 1), abs=1e-5)


def test_the_end_of_a_long_text_is_left_out(random_encoder: Path, engine: EmbeddingEngine) -> None:
    """The newest message stands at the beginning."""
    whole, long = engine.encode("please help me"), engine.encode("please help me " + "x " * 500)
    assert (whole.cut, long.cut) == (False, True)
    assert long.tokens[: len(whole.tokens) - 1] == whole.tokens[:-1]
    assert (len(long.tokens), long.tokens[-1]) == (64, whole.tokens[-1])
    with LoadedModel(random_encoder, wanted="encoder") as model:
        shorter = EmbeddingEngine(model, 1, most_tokens=20)
        assert shorter.encode("x " * 500).tokens == (*long.tokens[:1], *engine.encode("x " * 18).tokens[1:])
        shorter.close()


def test_closed(engine: EmbeddingEngine) -> None:
    engine.close()
    with pytest.raises(EngineError, match="has been closed"):
        engine.embed([engine.encode("x")])


def test_a_model_of_the_other_kind(random_model: Path, random_encoder: Path) -> None:
    """Either is refused where the other is needed, in one line that says what it is."""
    with pytest.raises(ModelFileError, match=r"a qwen2 language model, which is no sentence encoder; name an encoder$"):
        LoadedModel(random_model, wanted="encoder")
    with pytest.raises(ModelFileError, match=r"a bert encoder, which cannot write an answer; name a causal language model$"):
        LoadedModel(random_encoder)


@pytest.fixture(scope="module")
def parsed(random_encoder: Path) -> GGUFFile:
    return read_gguf(random_encoder)


@pytest.mark.parametrize(
    ("key", "kind", "value", "message"),
    [
        ("bert.pooling_type", UINT32, 0, "no usable way of pooling"),
        ("bert.pooling_type", UINT32, 4, "no usable way of pooling"),
        ("bert.pooling_type", BOOL, True, "no usable way of pooling"),
        ("bert.attention.head_count", UINT32, 3, "bert.attention.head_count is 3"),
        ("bert.attention.head_count_kv", UINT32, 2, "bert.attention.head_count_kv is 2"),
        ("bert.attention.key_length", UINT32, 8, "bert.attention.key_length is 8"),
        ("bert.attention.causal", BOOL, True, "bert.attention.causal is True"),
        ("bert.feed_forward_length", UINT32, 0, "bert.feed_forward_length is 0"),
        ("bert.embedding_length_out", UINT32, 64, "bert.embedding_length_out is 64"),
        ("bert.expert_count", UINT32, 8, "bert.expert"),
        ("tokenizer.ggml.seperator_token_id", UINT32, 0xFFFFFFFF, "tokenizer.ggml.seperator_token_id is 4294967295"),
    ],
)
def test_refused_before_llama_cpp_sees_it(
    parsed: GGUFFile, tmp_path: Path, key: str, kind: int, value: object, message: str
) -> None:
    """Of these llama.cpp dies, or computes something else than a BERT."""
    file = parsed.copy()
    file.set(key, kind, value)
    assert message in refusal(file, tmp_path / "m.gguf")


def test_no_pooling_stated(parsed: GGUFFile, tmp_path: Path) -> None:
    file = parsed.copy()
    file.remove("bert.pooling_type")
    assert "convert a checkpoint of sentence-transformers" in refusal(file, tmp_path / "m.gguf")


def test_tokens_of_bytes_and_lists_of_experts(parsed: GGUFFile, tmp_path: Path) -> None:
    file = parsed.copy()
    file["tokenizer.ggml.token_type"].value[50] = 6
    assert "stand for bytes" in refusal(file, tmp_path / "m.gguf")
    file = parsed.copy()
    file.set("bert.expert_used_count", ARRAY, [1, 2], INT32)
    assert "expert_used_count is 'a list'" in refusal(file, tmp_path / "m.gguf")


def test_a_tensor_that_cannot_be_added(parsed: GGUFFile, tmp_path: Path) -> None:
    file = parsed.copy()
    file.tensor("token_types.weight").type_number = 8
    lay_out(file)
    assert "token_types.weight cannot be of type Q8_0" in refusal(file, tmp_path / "m.gguf")


def test_another_tokenizer(parsed: GGUFFile, tmp_path: Path) -> None:
    file = parsed.copy()
    file["tokenizer.ggml.model"].value = b"gpt2"
    assert "those that can be used are bert" in refusal(file, tmp_path / "m.gguf")
