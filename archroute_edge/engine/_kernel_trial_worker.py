"""The process in which kernels are tried: ``python -m archroute_edge.engine._kernel_trial_worker TASK``.

TASK is a JSON object (see :func:`archroute_edge.engine._kernel_trial.run_worker`). Each step that it passes is a line of JSON
on stdout, which shows how far it came before llama.cpp ended the process. It imports little, and no numpy: it is waited for.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from archroute_edge.engine._tokenizer_overrides import without_tokenizer
from archroute_edge.errors import ArchRouteError
from archroute_edge.system import take_stdout

N_TOKENS: Final = 40
"""Tokens of a prefill: llama.cpp has other kernels for more than 32 vectors at once than for fewer."""

# How many times as fast AMX has to be, for every type: two measurements of one kernel differ by less.
_LEAST_GAIN: Final = 1.1

_N_COLUMNS: Final = 256
_N_ROWS: Final = 64
# Between the product with weights of a type in one buffer, and that in ordinary memory. Kernels differ in the last bits.
_LEAST_COSINE: Final = 0.9999
# Between the product with quantized weights and with the weights themselves: Q2_K has 0.975.
_LEAST_COSINE_TO_EXACT: Final = 0.95


class UnsoundError(Exception):
    """A kernel computed something else than it should."""


def prove_products(buffer_types: dict[str, int], *, plain_is_proved: bool = False) -> None:
    """Multiply weights of every common type, in ordinary memory and in ``buffer_types``, with one and with many vectors.

    Args:
        buffer_types: names and addresses.
        plain_is_proved: leave out the types that none of ``buffer_types`` supports.

    Raises:
        UnsoundError: a result is not what the types' rounding explains.
    """
    from archroute_edge.engine._matrix_products import WEIGHT_TYPES, Product, cosine, numbers

    weights = numbers(_N_COLUMNS * _N_ROWS, 1)
    for n_vectors in (1, N_TOKENS):
        vectors = numbers(_N_COLUMNS * n_vectors, 2)
        one_vector = [
            math.fsum(weights[row * _N_COLUMNS + column] * vectors[column] for column in range(_N_COLUMNS))
            for row in range(_N_ROWS)
        ]
        for weight_type in WEIGHT_TYPES:
            if plain_is_proved and not any(
                Product.supports(weight_type, buffer_type, _N_COLUMNS) for buffer_type in buffer_types.values()
            ):
                continue
            with Product(weight_type, None, weights, vectors, _N_COLUMNS) as product:
                plain = product.compute()
            if cosine(plain[:_N_ROWS], one_vector) < _LEAST_COSINE_TO_EXACT:
                raise UnsoundError(f"{weight_type} times {n_vectors} vectors is wrong")
            for name, buffer_type in buffer_types.items():
                with Product(weight_type, buffer_type, weights, vectors, _N_COLUMNS) as product:
                    if product.supported and cosine(product.compute(), plain) < _LEAST_COSINE:
                        raise UnsoundError(f"{weight_type} times {n_vectors} vectors in {name} is wrong")


def gains_by(contender: int, others: dict[str, int]) -> float:
    """How many times as fast the kernels of a buffer are as the best without it: the least over the types it supports.

    It stops at the first type that is no faster, so it is cheap if there is nothing to gain.

    Args:
        contender: the address of the buffer type.
        others: the buffers that are there anyway, beside ordinary memory.
    """
    from archroute_edge.engine._matrix_products import WEIGHT_TYPES, Product, numbers, repeated

    n_columns, n_copies = 1024, 16
    weights, vectors = numbers(16 * n_columns, 1), repeated(numbers(4 * n_columns, 2), 24)

    def least_time(weight_type: str, buffer_type: int | None) -> float:
        with Product(weight_type, buffer_type, weights, vectors, n_columns, n_copies) as product:
            return product.seconds(rounds=3) if product.supported else math.inf

    least = math.inf
    for weight_type in WEIGHT_TYPES:
        taken = least_time(weight_type, contender)
        if taken < math.inf and least > 1:
            least = min(least, min(least_time(weight_type, each) for each in (None, *others.values())) / taken)
    return least if least < math.inf else 0.0


def evaluate(path: str, n_tokens: int | None = None) -> None:
    """Load a model and evaluate a prefill, and one token more; of an encoder, a text.

    Args:
        path: the model's file.
        n_tokens: of an encoder's vocabulary, whose tokenizer is not made then: it takes longer than all the rest.

    Raises:
        UnsoundError: llama.cpp refused something, or computed what is no number.
    """
    from llama_cpp import llama_cpp as binding

    params = binding.llama_model_default_params()
    params.n_gpu_layers = 0
    if n_tokens is not None:
        params.kv_overrides = without_tokenizer(binding, "bert", n_tokens)
    model = binding.llama_model_load_from_file(os.fsencode(path), params)
    settings = binding.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 2 * N_TOKENS
    settings.n_threads = settings.n_threads_batch = 2
    is_encoder = bool(model) and binding.llama_model_meta_val_str(model, b"bert.block_count", None, 0) >= 0
    settings.embeddings = is_encoder
    # Products of many vectors would be computed on a GPU, the weights taken there each time.
    settings.op_offload = settings.offload_kqv = False
    context = binding.llama_init_from_model(model, settings) if model else None
    if not context:
        raise UnsoundError(f"{Path(path).name} cannot be loaded")
    run = binding.llama_encode if is_encoder else binding.llama_decode
    for count in (N_TOKENS,) if is_encoder else (N_TOKENS, 1):
        tokens = (binding.llama_token * count)(*range(200, 200 + count))
        if run(context, binding.llama_batch_get_one(tokens, count)) != 0:
            raise UnsoundError(f"{Path(path).name} cannot be evaluated")
        row = binding.llama_get_embeddings_seq(context, 0) if is_encoder else binding.llama_get_logits_ith(context, -1)
        if not row or not all(map(math.isfinite, row[:256])) or not any(row[:256]):
            raise UnsoundError(f"{Path(path).name} gives no numbers")
    binding.llama_free(context)
    binding.llama_model_free(model)


def _import_binding_alone() -> None:
    """Make ``llama_cpp.llama_cpp`` importable without its package's own import, which takes ten times as long."""
    from importlib.util import find_spec

    spec = find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("no llama_cpp")
    package = types.ModuleType("llama_cpp")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["llama_cpp"] = package


def _leave_no_core() -> None:
    """Dying here is expected: no core file, no window of the system that says so."""
    if sys.platform == "win32":
        sem_failcriticalerrors, sem_nogpfaulterrorbox = 1, 2
        ctypes.windll.kernel32.SetErrorMode(sem_failcriticalerrors | sem_nogpfaulterrorbox)
    else:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(task: dict[str, Any], report: Callable[..., None]) -> None:
    """Go through the steps of ``task``, and ``report`` each.

    Raises:
        UnsoundError: a kernel computed something wrong.
    """
    # The CPU's kernels are tried, and to look for graphics cards takes time.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["HIP_VISIBLE_DEVICES"] = "-1"
    _import_binding_alone()
    from llama_cpp import llama_cpp as binding

    from archroute_edge.engine import _ggml as ggml

    binding.llama_backend_init()
    buffers = ggml.extra_buffers()
    features = binding.llama_print_system_info().decode().strip()
    report("library", buffers=list(buffers), features=features, has_amx=ggml.AMX in buffers)
    contender = buffers.pop(ggml.AMX, None) if task["kernels"] != "amx" else None
    ggml.use_kernels(task["kernels"])
    prove_products(buffers if task["kernels"] != "plain" else {})
    report("products")
    for path, n_tokens in task["models"]:
        evaluate(path, n_tokens)
    report("models")
    if contender is None or not task["amx_as_well"]:
        return
    prove_products({ggml.AMX: contender}, plain_is_proved=True)
    gain = gains_by(contender, buffers)
    faster = gain >= _LEAST_GAIN
    if faster:
        ggml.use_kernels("amx")
        for path, n_tokens in task["models"]:
            evaluate(path, n_tokens)
    report("amx", gain=gain, faster=faster)


def serve(run: Callable[[dict[str, Any], Callable[..., None]], None]) -> None:
    """Let ``run`` go through the task of the command line, which reports steps by calling its second argument; then end."""
    answers = os.fdopen(take_stdout(), "w", encoding="utf-8")

    def report(step: str, **details: object) -> None:
        answers.write(json.dumps({"step": step, **details}) + "\n")
        answers.flush()

    report("python")
    _leave_no_core()
    task = json.loads(sys.argv[1])
    try:
        run(task, report)
    except UnsoundError as exc:
        report("unsound", what=str(exc))
    except (ArchRouteError, ImportError, AttributeError, MemoryError, ArithmeticError, ValueError, OSError) as exc:
        report("failed", what=f"{type(exc).__name__}: {exc}")
    # Nothing of the libraries that runs at exit is part of the trial.
    answers.close()
    os._exit(0)


if __name__ == "__main__":
    serve(run)
