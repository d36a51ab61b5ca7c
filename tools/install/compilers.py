"""The C and C++ compilers that cmake will use, and a defect that some of them have.

ggml's code for AMX keeps a tile configuration on the stack. gcc before 13.3 writes ``_tile_loadconfig`` as inline assembly
that names 8 of the 64 bytes it reads, so the optimiser drops the stores of the others, and the first evaluation ends with a
signal. A build without AMX is sound, and was faster on each machine where both were measured.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.install.errors import InstallError

WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
_FIRST_SOUND_GCC = (13, 3)
_AMX_MACROS = ("__AMX_TILE__", "__AMX_INT8__", "__AMX_BF16__")
_PROBE_S = 60


@dataclass(frozen=True)
class Language:
    """How cmake finds the compiler of a language."""

    name: str
    variable: str
    flags: str
    programs: tuple[str, ...]
    gcc_name: str


LANGUAGES = (
    Language("C", "CC", "CFLAGS", ("cc", "gcc", "clang", "icx"), "c"),
    Language("CXX", "CXX", "CXXFLAGS", ("c++", "g++", "clang++", "icpx"), "c++"),
)


def cmake_defines(arguments: Iterable[str]) -> dict[str, str]:
    """The variables that ``-DNAME[:TYPE]=VALUE`` sets; as in cmake, the last one counts."""
    found = {}
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-D"):
            name, _, value = (argument[2:] or next(rest, "")).partition("=")
            found[name.split(":")[0]] = value
    return found


def find_compilers(environment: Mapping[str, str], defines: Mapping[str, str]) -> dict[str, tuple[str, ...]] | None:
    """The command of each language's compiler by the language's name, found as cmake finds it; None if there is none.

    Raises:
        InstallError: the user named a compiler that is not there.
    """
    commands = {}
    for language in LANGUAGES:
        setting = f"CMAKE_{language.name}_COMPILER"
        # A list in cmake: the program, then arguments that are always given to it.
        named = defines[setting].split(";") if defines.get(setting) else words(environment, language.variable)
        if named:
            program = shutil.which(named[0], path=environment.get("PATH"))
            if program is None:
                source = setting if defines.get(setting) else language.variable
                raise InstallError(f"{source} names the compiler {named[0]}, which is not there")
            commands[language.name] = (program, *named[1:])
            continue
        found = (shutil.which(program, path=environment.get("PATH")) for program in language.programs)
        program = next(filter(None, found), None)
        if program is None:
            return None
        commands[language.name] = (program,)
    return commands


def words(environment: Mapping[str, str], variable: str) -> list[str]:
    """The words of a variable, split as a shell does.

    Raises:
        InstallError: a quotation does not close.
    """
    try:
        return shlex.split(environment.get(variable, ""))
    except ValueError as exc:
        raise InstallError(f"{variable} cannot be read ({exc}): {environment[variable]}") from exc


def version(command: Sequence[str]) -> str:
    """The first line of a program's version output; empty if there is none."""
    return (output([*command, "--version"]).splitlines() or [""])[0]


def has_amx_defect(macros: Mapping[str, str]) -> bool:
    """Whether a compiler with these predefined macros compiles AMX code, and wrongly."""
    # clang and Intel's compilers also call themselves gcc 4.2 or later.
    if "__GNUC__" not in macros or "__clang__" in macros or "__x86_64__" not in macros:
        return False
    release = int(macros["__GNUC__"]), int(macros.get("__GNUC_MINOR__", "0"))
    return release < _FIRST_SOUND_GCC and any(name in macros for name in _AMX_MACROS)


def parse_macros(output: str) -> dict[str, str]:
    """The macros in what ``-dM -E`` prints."""
    macros = {}
    for line in output.splitlines():
        define, _, rest = line.partition(" ")
        if define == "#define":
            name, _, value = rest.partition(" ")
            macros[name] = value
    return macros


def needed_options(commands: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The options that keep these compilers from their defect: none, or those that leave AMX out.

    llama.cpp compiles with ``-march=native`` unless it is told not to. Flags of the user's own count then, so both are tried.
    """
    for language in LANGUAGES:
        flags = words(environment, language.flags)
        for native in ((), ("-march=native",)):
            probe = [*commands[language.name], *flags, *native, "-dM", "-E", "-x", language.gcc_name, os.devnull]
            if has_amx_defect(parse_macros(output(probe))):
                return WITHOUT_AMX
    return ()


def output(command: Sequence[str]) -> str:
    """A program's output; empty if it fails, because the build will say more about why."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if not done.returncode else ""
