"""The proof on an emulated CPU: what it accepts, and that child processes are emulated as well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.measure.older_cpu import Environment, Run, emulated_python, problem_of_decision, problem_of_refusal

LINE = "archroute: error: llama.cpp cannot compute on this machine"


def test_every_process_of_the_emulated_interpreter_is_started_by_the_emulator(tmp_path: Path) -> None:
    """A child on the real CPU would prove kernels there that its parent then dies of."""
    emulator = tmp_path / "emulator"
    # Notes its start, and becomes the program itself: "emulator -cpu NAME -0 ARGV0 PROGRAM ARGUMENTS".
    emulator.write_text(f'#!/bin/bash\necho "$2" >>{tmp_path}/starts\nargv0=$4\nshift 4\nexec -a "$argv0" "$@"\n')
    emulator.chmod(0o755)
    environment = Environment(Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable), (), "gcc 12.2.0")
    python = emulated_python(environment, [str(emulator), "-cpu", "Haswell"], tmp_path / "emulated")
    child = "import llama_cpp, sys; print(sys.executable, llama_cpp.__file__)"
    parent = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {child!r}]).returncode)"
    done = subprocess.run([python, "-c", parent], capture_output=True, text=True, check=True)
    executable, module = done.stdout.split()
    assert executable == str(python)
    assert Path(module).resolve().is_relative_to(environment.prefix.resolve())
    assert (tmp_path / "starts").read_text().split() == ["Haswell", "Haswell"]


@pytest.mark.parametrize(
    ("run", "decision", "refusal"),
    [
        pytest.param(Run(json.dumps({"route": "bug_fixing"}), ("a note",), 0, 1.0), True, False, id="a decision"),
        pytest.param(Run("", (LINE,), 2, 1.0), False, True, id="one line"),
        pytest.param(Run("", (LINE, "and more"), 2, 1.0), False, False, id="two lines"),
        pytest.param(Run("", ("Traceback",), 2, 1.0), False, False, id="another line"),
        pytest.param(Run("", (LINE,), 1, 1.0), False, False, id="another exit status"),
        pytest.param(Run("", (), -4, 1.0), False, False, id="a signal"),
        pytest.param(Run("not JSON", (), 0, 1.0), False, False, id="no JSON"),
        pytest.param(Run("[]", (), 0, 1.0), False, False, id="no decision"),
        pytest.param(Run(json.dumps({"route": "bug_fixing"}), (LINE,), 2, 1.0), False, False, id="a decision and an error"),
    ],
)
def test_what_counts_as_a_decision_and_as_a_refusal(run: Run, decision: bool, refusal: bool) -> None:
    assert (problem_of_decision(run) is None, problem_of_refusal(run) is None) == (decision, refusal)
