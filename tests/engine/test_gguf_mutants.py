"""No damaged model file brings the process down: it is refused, or it works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent.parent


@pytest.mark.usefixtures("tried_kernels")
@pytest.mark.parametrize(
    ("model", "engine", "n_mutants"),
    [
        ("random_model", "llama.cpp", 240),
        ("random_encoder", "llama.cpp", 120),
        ("random_multilingual", "llama.cpp", 120),
        ("random_model", "ik", 120),
        ("random_encoder", "ik", 120),
    ],
)
def test_mutants_are_refused_or_work(
    request: pytest.FixtureRequest, tmp_path: Path, model: str, engine: str, n_mutants: int
) -> None:
    path = request.getfixturevalue(model)
    command = [sys.executable, "-m", "tests.engine.load_mutants", str(path), "0", str(n_mutants)]
    child = subprocess.run(
        [*command, str(tmp_path / "mutant.gguf"), engine],
        cwd=_ROOT,
        env={**os.environ, "GGML_NO_BACKTRACE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=200,
        check=False,
    )
    lines = child.stdout.splitlines()
    last = lines[-1] if lines else "none"
    assert child.returncode == 0, f"the process died ({child.returncode}) of mutant {last}: {child.stderr[-1000:]}"
    assert [int(line.split()[0]) for line in lines] == list(range(n_mutants))
    outcomes = Counter(line.split()[1] for line in lines)
    expected = {"used", "ModelFileError", "ModelLoadError", "EngineError", *(["SettingsError"] if engine == "ik" else [])}
    assert set(outcomes) <= expected
    # Enough of them get as far as the library for the test to mean anything.
    assert outcomes["used"] >= n_mutants // 20
    assert outcomes["ModelLoadError"] >= n_mutants // 20
