"""A decision leaves no threads behind that wait in a loop for more work, and so keep the cores from llama.cpp."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from archroute_edge.quality import Similarity
from archroute_edge.quality._similarity import _Newcomer, _Wins
from archroute_edge.quality._strengths import comparisons_of
from archroute_edge.quality._text_features import LONGEST_TEXT, read_text
from tests.quality import battles as made

N, N_GRADED, WIDTH = 8000, 1000, 384


def seconds_of_work_after(decision: Callable[[], object]) -> float:
    """How long cores work for this process while it sleeps for a tenth of a second after a decision."""
    # What was trained or decided before has threads, too.
    time.sleep(0.4)
    decision()
    begun = time.process_time()
    time.sleep(0.1)
    return time.process_time() - begun


def apart(measured: Callable[[], float]) -> float:
    """What ``measured``, of this module, gives in a process whose OpenBLAS has its usual threads: the tests' own has one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    # NumPy first: to import the tests sets the number of threads.
    program = f"import numpy; from {__name__} import {measured.__name__} as measured; print(measured())"
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


def similarity_with_an_added_model() -> float:
    """Seconds."""
    vectors = made.features(N, WIDTH).vectors
    assert vectors is not None
    wins = _Wins.of(comparisons_of(made.battles(N, 1, d=WIDTH)), vectors, len(made.MODELS))
    grades = np.full((N_GRADED, len(made.MODELS)), 0.5, np.float32)
    added = _Newcomer(vectors[:N_GRADED], grades, grades)
    names = (*made.MODELS, "new")
    predictor = Similarity(names, None, np.empty((0, len(names))), wins, None, (added,))
    features = made.features(1, WIDTH, seed=9)
    return seconds_of_work_after(lambda: predictor.expected(features))


def a_long_text_of_many_words() -> float:
    """Seconds."""
    text = "".join(map(chr, np.arange(0x4E00, 0x4E00 + LONGEST_TEXT)))
    return seconds_of_work_after(lambda: read_text(text, 15))


@pytest.mark.parametrize("measured", [similarity_with_an_added_model, a_long_text_of_many_words])
def test_no_thread_waits_by_working(measured: Callable[[], float]) -> None:
    assert apart(measured) < 0.005
