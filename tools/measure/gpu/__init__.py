"""Decisions on a machine with an NVIDIA GPU, from which nothing else can be reached.

On a machine with the package index, in a clone, collect what is carried there; then, over there, in a copy of the clone, build,
test and measure:

    python -m tools.measure.gpu.prepare build/gpu --python 3.12 --present cmake,numpy,matplotlib,pillow
    tools/measure/gpu/run.sh build/gpu results

``run.sh`` needs Python 3.10 or newer with pip, a C++ compiler, the CUDA toolkit's nvcc, and cuBLAS: the toolkit's, or the
package nvidia-cublas that torch brings. It leaves the figures, the tests' report and the logs in ``results``. ``--cpu`` does
the same without CUDA, and ``--layers`` makes the model smaller: what can be checked of it where there is no GPU.
"""
