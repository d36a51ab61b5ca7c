"""Products of vectors: right, and without threads that spin where llama.cpp's should run."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from archroute_edge.engine import inner_products

# How much processor time passes while the program only sleeps, after its decisions. OpenBLAS's threads would spin for 0.1 s.
_PROGRAM = """
import time
from archroute_edge import Route, Router
with Router([Route(f"route {number}", "about a thing") for number in range(100)], model="mini", prefix_cache=False) as router:
    for number in range(3):
        router.route(f"a message {number}")
    began = time.process_time()
    time.sleep(0.09)
    print(time.process_time() - began)
"""


@pytest.mark.parametrize("shape", [(1, 1, 4), (3, 200, 384), (0, 5, 8), (900, 800, 384)])
def test_products_are_those_of_matrices(shape: tuple[int, int, int]) -> None:
    """However large they are."""
    n_rows, n_others, width = shape
    draw = np.random.default_rng(3)
    rows, others = draw.standard_normal((n_rows, width)), draw.standard_normal((n_others, width))
    np.testing.assert_allclose(inner_products(rows, others), rows @ others.T, atol=1e-9)
    found = inner_products(rows.astype(np.float32), others.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows @ others.T, atol=1e-3)


@pytest.mark.usefixtures("tried_kernels")
def test_a_decision_leaves_the_cores_free() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS_", "OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", _PROGRAM], env=environment, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 0.03
