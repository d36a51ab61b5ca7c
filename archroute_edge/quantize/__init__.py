"""Quantize a GGUF to other levels, with or without an importance matrix (imatrix).

llama.cpp quantizes in a child process, so a failure there cannot end the caller.

Used by: ``bench``, ``cli`` and ``tools.convert``. Other rooms import only the names below; modules with an underscore belong
to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.quantize._imatrix import Imatrix, Importance, read_imatrix
    from archroute_edge.quantize._quantization import (
        COLLECT_COMMAND,
        EMBEDDING_TYPES,
        predict_size,
        quantize,
        quantized_types,
        refuse_without_imatrix,
    )
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_imatrix": "Imatrix Importance read_imatrix",
            "_quantization": "COLLECT_COMMAND EMBEDDING_TYPES predict_size quantize quantized_types refuse_without_imatrix",
        },
    )
