"""The virtual environment: the packages it has, and those it needs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tools.install import pip_steps, progress
from tools.install.build_settings import IK_PACKAGE, PACKAGE, Build, Request, cache_folder, settle
from tools.install.errors import InstallError

_RECORD = "archroute-install.json"
_LOG = "archroute-install.log"
_COMPILING = re.compile(r"\s*Building wheel for ")
_NO_COMPILER = (
    "llama.cpp has to be compiled, and no C and C++ compiler was found; install one "
    "(Debian: apt install g++; macOS: xcode-select --install) or name it: CC=... CXX=..."
)


class Environment:
    """A virtual environment for the project in a folder."""

    def __init__(self, prefix: Path, project: Path, variables: Mapping[str, str], line: progress.Line) -> None:
        self._prefix = prefix
        self._project = project
        self._variables = variables
        self._line = line
        self._log = prefix / _LOG

    def ensure(self, extra: str, gpu: str, engine: str = "") -> None:
        """Install packages that are missing or were built with other settings.

        Args:
            extra: of the package.
            gpu: what llama.cpp is built for.
            engine: ``ik`` for ik_llama.cpp as well, compiled for this machine.

        Raises:
            InstallError: it cannot be done.
        """
        definition = (self._project / "pyproject.toml").read_text(encoding="utf-8")
        if engine not in ("", "auto", "llama.cpp", "ik"):
            raise InstallError(f"no engine {engine!r}; llama.cpp is always there, and ENGINE=ik adds ik_llama.cpp")
        request = Request.of(_pinned_version(definition), gpu, self._variables)
        # The second engine computes on the CPU.
        ik = Request.of(_pinned_version(definition, IK_PACKAGE), "", self._variables, IK_PACKAGE) if engine == "ik" else None
        asked = request.asked
        fingerprint = hashlib.sha256(definition.encode()).hexdigest()
        record = self._read()
        extras: dict[str, str] = record.get("extras", {}) if record else {}
        is_built = record is not None and record.get("llama.cpp") == asked
        is_complete = extras.get(extra) == fingerprint
        has_ik = ik is None or (record is not None and record.get("ik_llama.cpp") == ik.asked)
        if is_built and is_complete and has_ik:
            return
        self._log.unlink(missing_ok=True)
        # Filled by hand, and nothing asked for: the installed build will do.
        is_foreign = record is None and request.is_plain and _installed_version() == request.version
        if not is_built and not is_foreign:
            self._replace_llama_cpp(request, record or {})
        kept = {"ik_llama.cpp": record["ik_llama.cpp"]} if record and "ik_llama.cpp" in record else {}
        self._write({"llama.cpp": asked, "extras": extras, **kept})
        if not is_complete:
            self._pip(["install", "-e", f".[{extra}]" if extra else "."], self._variables, "installing the packages")
            extras = {**extras, extra: fingerprint}
            self._write({"llama.cpp": asked, "extras": extras, **kept})
        if ik is not None and not has_ik:
            self._install_build(ik)
            self._write({"llama.cpp": asked, "extras": extras, "ik_llama.cpp": ik.asked})

    def _replace_llama_cpp(self, request: Request, record: dict[str, Any]) -> None:
        """Put the build that was asked for in the place of what is there."""
        settle(request, self._variables)
        if "llama.cpp" in record:
            earlier = Request(**record["llama.cpp"])
            self._line.say(f"This environment was built with {earlier}; llama.cpp is now installed with {request}.")
        # Broken off from here on, it is not taken for whole.
        self._write({"extras": record.get("extras", {})})
        self._install_build(request)

    def _install_build(self, request: Request) -> None:
        """Put a build into the environment, kept from an earlier time or compiled now."""
        build = settle(request, self._variables)
        kept = cache_folder(self._variables) / request.package / f"{request.version}-{build.key}"
        # One that a full disk or a loss of power has left cut off is made again.
        wheel = next(filter(zipfile.is_zipfile, kept.glob("*.whl")), None)
        if wheel:
            self._line.say(f"{request.library}: taken from {kept}, where an earlier build with the same settings was kept")
            self._install(wheel, request.library)
            return
        with tempfile.TemporaryDirectory(dir=self._prefix, ignore_cleanup_errors=True) as scratch:
            wheel, is_compiled = self._make_wheel(request, build, Path(scratch))
            self._install(wheel, request.library)
            if is_compiled:
                self._keep(wheel, kept)

    def _make_wheel(self, request: Request, build: Build, folder: Path) -> tuple[Path, bool]:
        """A wheel of the package in a folder, and whether it was compiled just now.

        pip's own store of wheels is neither read nor filled: it knows a package's source but not its settings, so it would
        hand out a build for another GPU or CPU, and give other projects ours, which lacks libmtmd. Ready-made wheels that
        pip is led to (an index, a folder of wheels) are taken as pip takes them, unless something was asked of the build.
        """
        if not build.has_compilers and request.must_compile:
            raise InstallError(_NO_COMPILER)
        is_compiled = False

        def watch(text: str) -> None:
            nonlocal is_compiled
            if not is_compiled and _COMPILING.match(text):
                is_compiled = True
                self._line.say(f"Compiling {request.library} for this machine, once; this takes some minutes.")
                if build.remark:
                    self._line.say(build.remark)

        source = ["--no-binary", request.package] if request.must_compile else []
        source += [] if build.has_compilers else ["--only-binary", request.package]
        arguments = ["wheel", "-v", "--no-deps", "--no-cache-dir", *source, "--wheel-dir", str(folder)]
        try:
            self._pip([*arguments, request.requirement], build.environment, f"building {request.library}", watch)
        except InstallError as exc:
            raise exc if build.has_compilers else InstallError(_NO_COMPILER) from exc
        return next(folder.glob("*.whl")), is_compiled

    def _keep(self, wheel: Path, folder: Path) -> None:
        """Keep a wheel for other environments; without a cache folder the next one compiles again."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f".{os.getpid()}.partial"
            shutil.copyfile(wheel, partial)
            partial.replace(folder / wheel.name)
        except OSError as exc:
            self._line.say(f"The build of llama.cpp could not be kept for other environments ({exc}).")

    def _install(self, wheel: Path, library: str) -> None:
        arguments = ["install", "--no-deps", "--force-reinstall", "--no-index", str(wheel)]
        self._pip(arguments, self._variables, f"installing {library}")

    def _pip(
        self, arguments: list[str], variables: Mapping[str, str], doing: str, on_line: Callable[[str], None] | None = None
    ) -> None:
        pip_steps.run(arguments, variables, self._project, self._log, self._line, doing, on_line)

    def _read(self) -> dict[str, Any] | None:
        """The record; None if there is none, for an environment that was not made here."""
        try:
            text = (self._prefix / _RECORD).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            found = json.loads(text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, record: dict[str, Any]) -> None:
        partial = self._prefix / f"{_RECORD}.partial"
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        partial.replace(self._prefix / _RECORD)


def _pinned_version(definition: str, package: str = PACKAGE) -> str:
    found = re.search(rf'"{package}==([^"]+)"', definition)
    if not found:
        raise InstallError(f"pyproject.toml names no version of {package}")
    return found[1]


def _installed_version() -> str | None:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
