"""The seam to llama.cpp: loading checked GGUF files, evaluating tokens, logits, saved sequences."""

from __future__ import annotations

import os

# GNU OpenMP, with which llama.cpp computes on Linux, lets a thread that waits for the others spin for about a millisecond.
# Where other programs use the cores, the thread waited for is not running, and a decision takes many times as long. It
# reads this when it is loaded, which the import of llama_cpp does; whoever has set either variable is left alone.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
