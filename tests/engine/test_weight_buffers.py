"""Weights go to the buffers that were chosen and nowhere else, and products in them are right."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archroute_edge.engine import EngineSettings, LoadedModel, Logits, open_engine, sequence_batch
from archroute_edge.engine import _backend as backend
from archroute_edge.engine import _matrix_products as matrix_products
from archroute_edge.engine._ggml import buffers_for, extra_buffers, use_kernels
from archroute_edge.engine._kernel_trial import KERNELS, run_worker
from archroute_edge.engine._kernel_trial_worker import N_TOKENS, UnsoundError, evaluate, gains_by, prove_products
from archroute_edge.engine._matrix_products import Product, cosine, numbers
from archroute_edge.quantize import quantize
from tests.small_model import small_vocabulary
from tools.measure.random_model import Shape, write_random_model

SHAPE = Shape(n_embd=256, n_ff=512, n_layers=1, n_heads=4, n_kv_heads=2, n_ctx_train=512)


@pytest.fixture(autouse=True)
def kernels_put_back() -> Iterator[None]:
    backend.initialise()
    yield
    use_kernels(backend.build().kernels)


@pytest.fixture(scope="module")
def q4_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a type that llama.cpp repacks on every x86-64 and ARM CPU."""
    folder = tmp_path_factory.mktemp("q4")
    write_random_model(folder / "random.gguf", SHAPE, small_vocabulary())
    quantize(folder / "random.gguf", folder / "random-Q4_0.gguf", "Q4_0")
    return folder / "random-Q4_0.gguf"


def load_and_evaluate(path: Path, caplog: pytest.LogCaptureFixture) -> tuple[set[str], Logits]:
    """The buffers that a model's weights went to, and logits."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "archroute_edge.llama_cpp"), LoadedModel(path) as model:
        engine = open_engine(model, EngineSettings(n_ctx=256, n_threads=1))
        logits = engine.evaluate(sequence_batch(0, list(range(40)), 0, [39]))
        engine.close()
    return set(re.findall(r"(\S+) model buffer size", caplog.text)), logits


def test_repacked_kernels_are_used_when_chosen(q4_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    use_kernels("repack")
    repacked = load_and_evaluate(q4_model, caplog)
    use_kernels("plain")
    plain = load_and_evaluate(q4_model, caplog)
    assert "CPU_REPACK" in repacked[0]
    assert plain[0] <= {"CPU", "CPU_Mapped"}
    assert np.allclose(repacked[1], plain[1], atol=0.05)


@pytest.mark.parametrize(
    ("kernels", "there", "offered"),
    [
        ("amx", ["AMX", "CPU_REPACK"], ["AMX", "CPU_REPACK"]),
        ("repack", ["AMX", "CPU_REPACK"], ["CPU_REPACK"]),
        ("plain", ["AMX", "CPU_REPACK"], []),
        # Without AMX the choice is llama.cpp's own.
        ("repack", ["CPU_REPACK"], ["CPU_REPACK"]),
        ("repack", ["CPU_KLEIDIAI", "CPU_REPACK"], ["CPU_KLEIDIAI", "CPU_REPACK"]),
    ],
)
def test_which_buffers_are_offered(kernels: str, there: list[str], offered: list[str]) -> None:
    assert list(buffers_for(kernels, {name: place for place, name in enumerate(there)})) == offered


def test_choices_can_follow_one_another() -> None:
    for kernels in (*KERNELS, *reversed(KERNELS)):
        use_kernels(kernels)
    assert "CPU_REPACK" in extra_buffers()


def test_every_common_type_is_right_in_every_buffer_but_amx() -> None:
    buffers = {name: address for name, address in extra_buffers().items() if name != "AMX"}
    prove_products(buffers)
    assert buffers


def test_a_kernel_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spoilt(Product):
        def __init__(self, weight_type: str, buffer_type: int | None, *rest: Any) -> None:
            super().__init__(weight_type, buffer_type, *rest)
            self._spoils = buffer_type is not None and weight_type == "Q4_K"

        def compute(self) -> list[float]:
            result = super().compute()
            return [*result[:-8], *reversed(result[-8:])] if self._spoils else result

    monkeypatch.setattr(matrix_products, "Product", Spoilt)
    with pytest.raises(UnsoundError, match=r"Q4_K times \d+ vectors in CPU_REPACK is wrong"):
        prove_products({"CPU_REPACK": extra_buffers()["CPU_REPACK"]})


def test_a_product_equals_numpys() -> None:
    weights, vectors = numbers(64 * 256, 3), numbers(40 * 256, 4)
    with Product("F32", None, weights, vectors, 256) as product:
        result = np.array(product.compute(), np.float32).reshape(40, 64)
    expected = np.array(vectors[:]).reshape(40, 256) @ np.array(weights[:]).reshape(64, 256).T
    assert np.allclose(result, expected, atol=1e-3)


def test_copies_of_rows_give_copies_of_results() -> None:
    weights, vectors = numbers(32 * 256, 3), numbers(256, 4)
    with Product("Q4_0", None, weights, vectors, 256, n_copies=2) as product:
        result = product.compute()
    assert result[:32] == result[32:]


def test_the_gain_of_a_buffer_is_measured() -> None:
    assert 0 < gains_by(extra_buffers()["CPU_REPACK"], {}) < 100


@pytest.mark.parametrize(("a", "b", "expected"), [([1.0, 0.0], [2.0, 0.0], 1), ([1.0, 0.0], [0.0, 1.0], 0), ([0.0], [1.0], 0),
                                                  ([float("nan")], [1.0], 0), ([float("inf")], [1.0], 0)])  # fmt: skip
def test_cosine(a: list[float], b: list[float], expected: float) -> None:
    assert cosine(a, b) == expected


def test_a_model_that_gives_no_numbers_is_found(tmp_path: Path) -> None:
    with pytest.raises(UnsoundError, match=r"missing\.gguf cannot be loaded"):
        evaluate(str(tmp_path / "missing.gguf"))


def test_the_worker_goes_through_every_step() -> None:
    trial = run_worker("repack", True)
    assert trial is not None
    assert [*trial.steps][:4] == ["python", "library", "products", "models"]
    assert trial.exit_code == 0
    assert N_TOKENS > 32
