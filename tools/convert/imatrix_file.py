"""Write an importance matrix in the GGUF format of llama.cpp's ``llama-imatrix``."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from archroute_edge.errors import ImatrixError
from archroute_edge.quantize import Imatrix
from archroute_edge.system import replaced_when_whole


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write ``imatrix`` to ``path``, which appears when it is whole; the same contents give the same bytes.

    Raises:
        ImatrixError: it cannot be written.
    """
    try:
        with replaced_when_whole(path) as partial:
            writer = gguf.GGUFWriter(None, "")
            # The architecture, which a matrix has none of.
            writer.kv_data[0].clear()
            writer.add_type("imatrix")
            writer.add_array("imatrix.datasets", list(imatrix.datasets))
            writer.add_uint32("imatrix.chunk_count", imatrix.chunk_count)
            writer.add_uint32("imatrix.chunk_size", imatrix.chunk_size)
            for name, entry in sorted(imatrix.entries.items()):
                writer.add_tensor(f"{name}.in_sum2", np.ascontiguousarray(entry.sums, np.float32))
                writer.add_tensor(f"{name}.counts", np.ascontiguousarray(entry.counts[:, None], np.float32))
            writer.write_header_to_file(partial)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    except OSError as exc:
        raise ImatrixError(f"{path}: cannot be written ({exc.strerror or exc})") from exc
