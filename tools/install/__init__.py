"""Fill a virtual environment: llama.cpp built for this machine, then the package with its dependencies.

    python -m tools.install [EXTRA] [--gpu cuda|metal|rocm|sycl|vulkan] [--engine ik]

The Makefile runs it with the environment's own Python before anything is installed there, so it uses the standard library
only. Up-to-date parts stay as they are, which takes a moment.
"""
