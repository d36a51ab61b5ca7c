"""The process in which llama.cpp quantizes: ``python -m archroute_edge.quantization_worker TASK`` (see quantization.py).

TASK is a JSON object with ``source``, ``target``, ``ftype`` and ``threads``. llama.cpp's log goes to stdout, and the exit
status is what ``llama_model_quantize`` returns: 0 when it is done.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

import llama_cpp


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _to_stdout(_level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    os.write(1, text)


def run(task: dict[str, str | int]) -> int:
    """Quantize one file, as ``task`` says, and return llama.cpp's code: 0 on success."""
    llama_cpp.llama_log_set(_to_stdout, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = int(task["ftype"])
    params.nthread = int(task["threads"])
    source, target = os.fsencode(str(task["source"])), os.fsencode(str(task["target"]))
    return int(llama_cpp.llama_model_quantize(source, target, ctypes.byref(params)))


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
