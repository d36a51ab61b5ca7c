"""The tests."""

import os

# llama.cpp's threads, in this process and in those that tests start, sleep while they wait for each other: by spinning a
# decision takes twice the processor time, and several times as long where other work runs beside. OpenMP reads it when it
# is loaded, which comes after this.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# So do those of OpenBLAS, for a tenth of a second after each product.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
