"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import archroute_edge

PUBLIC = {
    "OTHER",
    "ArchRouteError",
    "AsyncRouter",
    "Calibration",
    "Cancellation",
    "Decision",
    "Messages",
    "Route",
    "RouteTable",
    "Router",
    "RoutingConfig",
    "RoutingService",
    "Timings",
    "TokenCounts",
    "Warmup",
    "__version__",
    "load_config",
    "parse_config",
}


def test_public_names() -> None:
    """A name that disappears breaks applications, and one that slips in must be kept for ever."""
    assert set(archroute_edge.__all__) == PUBLIC
    assert len(archroute_edge.__all__) == len(PUBLIC)
    assert all(hasattr(archroute_edge, name) for name in PUBLIC)


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
    code = "import archroute_edge, logging; logging.getLogger('archroute_edge.prefix_cache').warning('hello')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
