"""Make the environment that LiteLLM and its proxy are tried in, beside this package; nothing is done if it is there.

python -m tools.measure.litellm_environment build/litellm
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from tools.release.environments import make_environment
from tools.release.suite import CLONE

# What LiteLLM's proxy imports when it starts, of its extra `proxy`; the others are for clouds, tracing and its console.
_PROXY = (
    "apscheduler",
    "backoff",
    "backports-zstd",
    "cryptography",
    "expression",
    "fastapi-sso",
    "gunicorn",
    "inquirerpy",
    "mcp>=2.3",
    "orjson",
    "pyjwt",
    "pynacl",
    "python-multipart",
    "restrictedpython",
    "rich",
    "rq",
    "semver",
    "soundfile",
    "tomlkit",
    "uvloop",
    "websockets",
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Install LiteLLM and this clone into FOLDER."""
    if (folder / "bin" / "litellm").exists() and (folder / "bin" / "archroute").exists():
        return
    requirements = ["litellm>=1.110,<1.111", *_PROXY, "--editable", f"{CLONE}[server]"]
    with tempfile.TemporaryDirectory() as wheels:
        make_environment(folder, Path(sys.executable), requirements, Path(wheels))


if __name__ == "__main__":
    main()
