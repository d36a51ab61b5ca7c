"""The package as its users get it: built, and installed where nothing else is. See ``make test-package``."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.release.environments import make_environment, plain_environment

CLONE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Built:
    """The archives that ``python -m build`` makes."""

    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Installed:
    """An environment with the package in it, and a home for who uses it."""

    folder: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """All that its processes know of this one: nothing of the clone, and no caches or models of the user's."""
        return {"HOME": str(self.home), "PATH": os.defpath, "TMPDIR": str(self.home)}

    def command(self, name: str, *arguments: str) -> list[str]:
        return [str(self.folder / "bin" / name), *arguments]

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in a folder that is not the clone's."""
        return subprocess.run(
            self.command(name, *arguments),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel is built from the sdist, and so shows that everything it needs is in there."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(CLONE)]
    subprocess.run(command, cwd=folder, env=plain_environment(), check=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the wheel that would have to be compiled."""
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="session")
def bare(built: Built, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """``pip install archroute-edge``."""
    return _install(str(built.wheel), wheels, tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="session")
def serving(built: Built, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """``pip install 'archroute-edge[server]'``."""
    return _install(f"{built.wheel}[server]", wheels, tmp_path_factory.mktemp("serving"))


def _install(requirement: str, wheels: Path, folder: Path) -> Installed:
    home = folder / "home"
    home.mkdir()
    make_environment(folder / "environment", Path(sys.executable), [requirement], wheels)
    return Installed(folder / "environment", home)
