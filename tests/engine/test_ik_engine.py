"""What ik_llama.cpp's engine makes up for: scattered cells, evaluations that stop without a word, states of other shapes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from archroute_edge import Route, Router
from archroute_edge.engine import (
    TENSOR_TYPES,
    Cancellation,
    CompletionEngine,
    EngineName,
    EngineSettings,
    LoadedModel,
    Logits,
    check_model_file,
    open_engine,
    read_header,
    sequence_batch,
)
from archroute_edge.engine._engine_choice import IK_TYPES
from archroute_edge.errors import ContextOverflowError, EngineError, EvaluationStoppedError, ModelLoadError
from archroute_edge.quantize import quantize
from tests.engine.gguf_file import GGUFFile
from tests.small_model import small_vocabulary
from tools.measure.random_model import Shape, write_random_model

_N_CTX = 512


@pytest.fixture
def engine(ik_loaded: LoadedModel) -> Iterator[CompletionEngine]:
    engine = open_engine(ik_loaded, EngineSettings(_N_CTX, 1))
    yield engine
    engine.close()


def tokens(length: int, seed: int = 0) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(256) for _ in range(length)]


def last_logits(engine: CompletionEngine, sequence: int, prompt: list[int], start: int = 0) -> Logits:
    return np.asarray(engine.evaluate(sequence_batch(sequence, prompt, start, [len(prompt) - 1]))[0])


def scatter(engine: CompletionEngine) -> None:
    """Fill the cache with sixteen sequences, and empty every second one: half of the cells are free, 32 at most in a row."""
    for number in range(16):
        engine.evaluate(sequence_batch(number, tokens(32, number), 0))
    for number in range(0, 16, 2):
        engine.truncate(number, 0)


def test_a_prompt_fits_into_cells_that_are_scattered(engine: CompletionEngine) -> None:
    """Would break if free cells had to stand side by side, or if moving some changed what others hold."""
    expected = last_logits(engine, 0, tokens(200, 99))
    engine.truncate(0, 0)
    scatter(engine)
    before = last_logits(engine, 1, [7], 32)
    engine.truncate(1, 32)
    np.testing.assert_allclose(last_logits(engine, 0, tokens(200, 99)), expected, atol=1e-5)
    np.testing.assert_allclose(last_logits(engine, 1, [7], 32), before, atol=1e-5)


def test_a_state_fits_into_cells_that_are_scattered(engine: CompletionEngine) -> None:
    engine.evaluate(sequence_batch(0, tokens(200, 99), 0))
    state = engine.save(0)
    expected = last_logits(engine, 0, [7], 200)
    engine.truncate(0, 0)
    scatter(engine)
    engine.load(0, state)
    np.testing.assert_allclose(last_logits(engine, 0, [7], 200), expected, atol=1e-5)


def test_cells_above_an_empty_block_end_are_seen(engine: CompletionEngine) -> None:
    """Would break if the library, which looks at the last cell of each block of 32, left the second sequence out."""
    expected = last_logits(engine, 0, tokens(9, 1))
    engine.truncate(0, 0)
    engine.evaluate(sequence_batch(0, tokens(64), 0))
    engine.evaluate(sequence_batch(1, tokens(9, 1)[:4], 0))
    engine.truncate(0, 60)
    np.testing.assert_allclose(last_logits(engine, 1, tokens(9, 1)[4:], 4), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_sequences_that_grow_and_are_cut_at_random_stay_right(
    engine: CompletionEngine, ik_loaded: LoadedModel, seed: int
) -> None:
    """Would break if any order of evaluations and cuts hid cells from the attention, or mixed them up."""
    draw = random.Random(seed)
    held: dict[int, list[int]] = {number: [] for number in range(12)}
    fresh = open_engine(ik_loaded, EngineSettings(_N_CTX, 1))
    for _ in range(300):
        number = draw.randrange(12)
        if draw.random() < 0.3:
            held[number] = held[number][: draw.randrange(len(held[number]) + 1)]
            engine.truncate(number, len(held[number]))
            continue
        new = tokens(draw.choice([1, 1, 5, 20, 60]), draw.randrange(1000))
        try:
            found = last_logits(engine, number, new, len(held[number]))
        except ContextOverflowError:
            engine.truncate(number, 0)
            held[number] = []
            continue
        held[number] += new
        np.testing.assert_allclose(found, last_logits(fresh, 0, held[number]), atol=1e-3)
        fresh.truncate(0, 0)
    fresh.close()


def test_cells_are_moved_under_a_flag_that_is_set(engine: CompletionEngine) -> None:
    """Would break if a move could be broken off: keys and values would be left in the wrong cells."""
    scatter(engine)
    before = last_logits(engine, 1, [7], 32)
    engine.truncate(1, 32)
    flag = Cancellation()
    with engine.stopped_by(flag):
        flag.cancel()
        assert engine._evaluate_piece(sequence_batch(0, tokens(200), 0, [199])) is None
    np.testing.assert_allclose(last_logits(engine, 1, [7], 32), before, atol=1e-5)
    # Nothing of what was stopped has stayed.
    np.testing.assert_allclose(last_logits(engine, 0, tokens(200)).shape, before.shape)


def test_too_much_is_refused_at_once_and_leaves_everything(engine: CompletionEngine) -> None:
    scatter(engine)
    before = last_logits(engine, 1, [7], 32)
    engine.truncate(1, 32)
    with pytest.raises(ContextOverflowError, match="512"):
        engine.evaluate(sequence_batch(0, tokens(300), 0))
    np.testing.assert_allclose(last_logits(engine, 1, [7], 32), before, atol=1e-5)


def test_a_flag_that_is_set_from_the_start_evaluates_nothing(engine: CompletionEngine) -> None:
    flag = Cancellation()
    flag.cancel()
    with engine.stopped_by(flag), pytest.raises(EvaluationStoppedError) as caught:
        engine.evaluate(sequence_batch(0, tokens(20), 0))
    assert caught.value.n_finished == 0


@pytest.mark.parametrize("sequence", [-1, 64])
def test_a_sequence_that_there_is_not(engine: CompletionEngine, sequence: int) -> None:
    """Would break if the library were asked: it writes wherever the number says."""
    with pytest.raises(EngineError, match="64 sequences"):
        engine.evaluate(sequence_batch(sequence, [5], 0))


@pytest.mark.parametrize("state", [b"", b"state", bytes(32), bytes(4096)])
def test_bytes_that_are_no_state(engine: CompletionEngine, state: bytes) -> None:
    """Would break if the library were given them: it would read past their end."""
    with pytest.raises(EngineError, match="saved state"):
        engine.load(0, state)
    assert np.isfinite(last_logits(engine, 0, [5])).all()


def test_a_context_that_is_larger_than_memory(ik_loaded: LoadedModel) -> None:
    with pytest.raises(ModelLoadError, match="use a smaller n_ctx"):
        open_engine(ik_loaded, EngineSettings(1 << 26, 1))


def test_a_model_that_it_cannot_load(sound: GGUFFile, path: Path) -> None:
    """Would break if its reason were lost, or printed."""
    sound.tensor("blk.1.ffn_down.weight").name = b"blk.1.ffn_else.weight"
    with pytest.raises(ModelLoadError, match=r"ik_llama\.cpp cannot load it: .*ffn_down") as caught:
        LoadedModel(sound.write(path), engine="ik")
    assert str(caught.value).startswith(f"{path}: ")


def test_many_decisions_take_no_more_memory(random_model: Path) -> None:
    """Would break if contexts, batches or states were not freed."""
    process, sizes = psutil.Process(), []
    tables = [[Route(f"route {number} {index}", "words " * 4) for index in range(3)] for number in range(20)]
    with Router(tables[0], model=random_model, threads=1, prefix_cache=False, engine="ik") as router:
        for turn in range(120):
            router.route(f"message {turn}", routes=tables[turn % len(tables)])
            if turn % 60 == 59:
                sizes.append(process.memory_info().rss)
    assert sizes[1] - sizes[0] < 2 << 20


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows every type of weights fits."""
    path = tmp_path_factory.mktemp("wide") / "wide-F16.gguf"
    write_random_model(path, Shape(256, 512, 2, 4, 2, n_ctx_train=1024), small_vocabulary(), dtype=np.float16)
    return path


LEVELS = ("F16", "BF16", "Q4_0", "Q8_0", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS")


@pytest.fixture(scope="module")
def at_level(wide: Path) -> Callable[[str], Path]:
    """The model at a level; each is made once, in a process of its own."""

    def made(level: str) -> Path:
        path = wide.with_name(f"wide-{level}.gguf")
        if not path.exists():
            quantize(wide, path, level, threads=1)
        return path

    return made


@pytest.mark.parametrize("level", LEVELS)
def test_weights_of_every_type_give_what_llama_cpp_computes(at_level: Callable[[str], Path], level: str) -> None:
    """One token, few and many, which have kernels of their own. Would break with a type that is not laid out alike."""
    path = at_level(level)
    rows: dict[EngineName, list[Logits]] = {"llama.cpp": [], "ik": []}
    names: tuple[EngineName, ...] = ("llama.cpp", "ik")
    for name in names:
        with LoadedModel(path, engine=name) as model:
            engine = open_engine(model, EngineSettings(512, 1, flash_attention=False))
            for number, length in enumerate((1, 8, 200)):
                rows[name].append(last_logits(engine, number, tokens(length, number)))
            engine.close()
    types = {TENSOR_TYPES[each.type_number][0] for each in check_model_file(path).tensors.values()}
    assert types <= set(IK_TYPES)
    for ours, theirs in zip(rows["ik"], rows["llama.cpp"], strict=True):
        # Activations are rounded to 8 bits, in blocks of other sizes.
        assert np.abs(ours - theirs).max() < 0.03 * np.abs(theirs).max()


def test_every_type_that_is_taken_was_compared(at_level: Callable[[str], Path]) -> None:
    """Would break if a type were added to the list alone."""
    found = {"F32"}
    for level in LEVELS[1:]:
        found |= {TENSOR_TYPES[each.type_number][0] for each in read_header(at_level(level)).tensors.values()}
    assert found | {"F16"} == set(IK_TYPES)
