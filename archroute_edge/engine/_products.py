"""Products of vectors that leave the cores to llama.cpp."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.float32, np.float64)

# At so many multiplications, 0.1 to 0.3 s, BLAS saves more than its threads cost.
_LARGE: Final = 1 << 28


def inner_products(rows: npt.NDArray[Number], others: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The inner product of each of ``rows`` (n, width) with each of ``others`` (m, width): (n, m).

    OpenBLAS shares a product of more than some thousand numbers among threads, which then spin for 0.1 s in case there is
    another one. On a machine of few cores, llama.cpp waits for them: a decision of 20 ms takes 120. So only a product that
    takes longer than that is left to BLAS.
    """
    if len(rows) * len(others) * rows.shape[1] > _LARGE:
        products: npt.NDArray[Number] = rows @ others.T
    else:
        products = np.einsum("iw,jw->ij", rows, others)
    return products
