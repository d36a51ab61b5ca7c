"""The process in which llama.cpp quantizes: ``python -m archroute_edge.quantize._worker TASK``.

TASK is a JSON object (see :class:`archroute_edge.quantize._quantization.Task`). llama.cpp's log goes to stdout, and the exit
status is what ``llama_model_quantize`` returns: 0 when it is done. It ends, and takes what it has written with it, when
stdin does: the process at the other end is gone then, and no other would stop it or clear up.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from archroute_edge.quantize._imatrix import Imatrix, read_imatrix

# llama.h: enum llama_model_kv_override_type
_OVERRIDE_INTEGER = 0
_OVERRIDE_TEXT = 3
_LONGEST_TEXT = 127


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _to_stdout(_level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    os.write(1, text)


def run(task: dict[str, Any]) -> int:
    """Quantize one file, as ``task`` says, and return llama.cpp's code: 0 on success."""
    llama_cpp.llama_log_set(_to_stdout, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.dry_run = task["ftype"], task["threads"], task["dry_run"]
    if task["token_embedding_type"] is not None:
        params.token_embedding_type = task["token_embedding_type"]
    kept_alive: tuple[Any, ...] = ()
    if task["imatrix"]:
        imatrix = read_imatrix(Path(task["imatrix"]))
        data, kept_alive = _imatrix_data(imatrix)
        params.imatrix, params.kv_overrides = data, _overrides(Path(task["imatrix"]).name, imatrix)
    elif task["dry_run"] and task["assume_imatrix"]:
        # The mixture of types depends on whether there is a matrix; a dry run looks at nothing else of it.
        params.imatrix = (llama_cpp.llama_model_imatrix_data * 1)()
    source, target = os.fsencode(task["source"]), os.fsencode(task["target"])
    status = int(llama_cpp.llama_model_quantize(source, target, ctypes.byref(params)))
    del kept_alive
    return status


def _imatrix_data(imatrix: Imatrix) -> tuple[Any, tuple[Any, ...]]:
    """llama.cpp's array of matrices, ended by one without a name, and the arrays that it points into."""
    values = {name: np.ascontiguousarray(entry.values) for name, entry in imatrix.entries.items()}
    array = (llama_cpp.llama_model_imatrix_data * (len(values) + 1))()
    for slot, (name, numbers) in zip(array, values.items(), strict=False):
        slot.name = name.encode()
        slot.data = numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        slot.size = numbers.size
    return array, tuple(values.values())


def _overrides(file_name: str, imatrix: Imatrix) -> Any:
    """What ``llama-quantize`` writes into the file about the matrix, ended by an entry without a key."""
    about: dict[str, str | int] = {"file": file_name, "entries_count": len(imatrix.entries)}
    if imatrix.datasets:
        about["dataset"] = imatrix.datasets[0]
    if imatrix.chunk_count:
        about["chunks_count"] = imatrix.chunk_count
    array = (llama_cpp.llama_model_kv_override * (len(about) + 1))()
    for slot, (key, value) in zip(array, about.items(), strict=False):
        slot.key = f"quantize.imatrix.{key}".encode()
        if isinstance(value, int):
            slot.tag, slot.value.val_i64 = _OVERRIDE_INTEGER, value
        else:
            text = value.encode()[:_LONGEST_TEXT].decode("utf-8", "ignore")
            slot.tag, slot.value.val_str = _OVERRIDE_TEXT, text.encode()
    return array


def _end_with_stdin(target: str) -> None:
    # Read past sys.stdin, whose lock a thread must not hold when the interpreter ends.
    while os.read(0, 1):
        pass
    if target:
        Path(target).unlink(missing_ok=True)
    os._exit(1)


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_stdin, args=(task["target"],), daemon=True).start()
    sys.exit(run(task))
