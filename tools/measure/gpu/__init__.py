"""Measure decisions on a machine with an NVIDIA GPU and no network.

On a machine with the package index, in a clone, collect the files to carry; then, over there, in a copy of the clone, build,
test and measure:

    python -m tools.measure.gpu.prepare build/gpu --python 3.12 --present cmake,numpy,matplotlib,pillow
    tools/measure/gpu/run.sh build/gpu results

``run.sh`` needs Python 3.10 or newer with pip, a C++ compiler, the CUDA toolkit's nvcc, and cuBLAS: the toolkit's, or that of
the package nvidia-cublas, which torch brings. It leaves the figures, the tests' report and the logs in ``results``. Without a
GPU, ``--cpu`` does the same without CUDA, and ``--layers`` makes the model smaller, to check the script itself.
"""
