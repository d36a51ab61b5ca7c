"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import archroute_edge


def test_the_package_is_typed() -> None:
    """Without the marker file, type checkers treat every name here as Any."""
    assert (Path(archroute_edge.__file__).parent / "py.typed").is_file()


def test_importing_is_quiet_and_needs_no_extra() -> None:
    """A library that prints on import breaks a protocol on stdout; one that needs an extra cannot be installed plain."""
    extras = ("gguf", "torch", "safetensors", "tokenizers", "rich", "hypothesis", "fastapi", "uvicorn", "prometheus_client")
    code = f"import sys; sys.modules.update(dict.fromkeys({extras!r})); import archroute_edge"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_logging_is_left_to_the_application() -> None:
    """Without a handler of ours, Python prints our warnings to stderr of an application that set up no logging."""
    code = "import archroute_edge, logging; logging.getLogger('archroute_edge.decoding._kv_cache').warning('hello')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_loads_no_engine() -> None:
    """An application that starts with its window, or reads routes only, must not wait for llama.cpp's libraries."""
    code = (
        "import sys, archroute_edge; from archroute_edge import *; "
        "print([name for name in ('llama_cpp', 'numpy', 'huggingface_hub', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_importing_the_package_alone_is_next_to_nothing() -> None:
    """It is imported with any of its modules, by ``archroute --help`` too."""
    code = "import sys, archroute_edge; print([name for name in sys.modules if name.startswith('archroute_edge.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_names_are_known_before_they_are_imported() -> None:
    """``dir`` is what a Python prompt completes from, and a module is an attribute, as type checkers take it to be."""
    code = (
        "import archroute_edge as package; assert {*package.__all__} <= {*dir(package)}; "
        "assert package.errors.ArchRouteError is package.ArchRouteError; assert package.engine.Cancellation; "
        "assert package.Router is package.Router; print(hasattr(package, 'Ruoter'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'archroute_edge' has no attribute 'Ruoter'$"):
        _ = archroute_edge.Ruoter  # type: ignore[attr-defined]
