"""Running llama.cpp's quantizer in a process of its own, and reading its progress from its log."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from archroute_edge.errors import QuantizationError
from archroute_edge.system import start_module

logger = logging.getLogger("archroute_edge.quantize._quantization")

# llama.cpp's log (src/llama-quant.cpp): the start of a tensor, the type that a dry run gives it, the count of tensors
# that fit no block, an exception.
_TENSOR_LINE: Final = re.compile(r"\[ *(\d+)/ *\d+\] +(\S+)")
_NEW_TYPE: Final = re.compile(r"->.*MiB \((\w+)\)$")
_FALLBACK_LINE: Final = re.compile(r"(\d+) of \d+ tensor\(s\) required fallback")
_FAILURE_LINE: Final = re.compile(r"failed to quantize: (.+)")
# What C++ says of a stream that cannot be written; llama.cpp reads its source in another way.
_CANNOT_WRITE: Final = "iostream error"


@dataclass(frozen=True)
class Task:
    """What the process is to do. ``dry_run`` writes nothing; it may ``assume_imatrix`` where none is given."""

    source: str
    target: str
    level: str
    ftype: int
    threads: int
    imatrix: str = ""
    dry_run: bool = False
    assume_imatrix: bool = False


@dataclass(frozen=True)
class Step:
    """What a line of the log tells: tensors begun so far, the name and new type of one, or how many fell back."""

    n_begun: int = 0
    tensor: str = ""
    new_type: str = ""
    n_fallbacks: int | None = None


def run_quantizer(task: Task) -> Iterator[Step]:
    """Run ``task`` and yield its steps; leaving the loop early ends the process.

    Raises:
        QuantizationError: llama.cpp failed; the message has its reason.
        SettingsError: this is a bundled program that cannot start it.
        OSError: it could not write; it does not say why.
    """
    process = start_module(
        "archroute_edge.quantize._worker",
        json.dumps(asdict(task)),
        stdin=subprocess.PIPE,  # nothing is sent: it ends when this process does, however that comes about
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    complaint = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode("utf-8", "replace").strip().strip("=").strip()
            logger.debug("llama.cpp: %s", text)
            if match := _TENSOR_LINE.match(text):
                new_type = _NEW_TYPE.search(text)
                yield Step(int(match[1]), match[2], new_type[1].upper() if new_type else "")
            elif match := _FALLBACK_LINE.search(text):
                yield Step(n_fallbacks=int(match[1]))
            elif match := _FAILURE_LINE.search(text):
                complaint = match[1]
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if status and complaint.endswith(_CANNOT_WRITE):
        raise OSError("llama.cpp's writes fail; is the disk full?")
    if status:
        reason = complaint or (f"ended by signal {-status}" if status < 0 else f"exit status {status}")
        raise QuantizationError(f"{task.source}: llama.cpp could not quantize it to {task.level}: {reason}")
