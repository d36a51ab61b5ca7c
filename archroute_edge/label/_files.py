"""Which files are to be labelled, and where the labels of each go."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from archroute_edge.errors import LabelError
from archroute_edge.label._rows import need_pyarrow

JSON_LINES: Final = (".jsonl", ".ndjson")
PARQUET: Final = ".parquet"
_ENDINGS: Final = (*JSON_LINES, PARQUET)
_KNOWN: Final = f"{', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}"


@dataclass(frozen=True)
class InputFile:
    """A file to label.

    Attributes:
        path: where it is.
        output: where its labels go.
        name: the same below the folder of labels, with ``/``; it is the same on every machine.
        size: bytes.
    """

    path: Path
    output: Path
    name: str
    size: int

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet; JSON lines otherwise."""
        return self.path.suffix.lower() == PARQUET


def find_inputs(given: Sequence[str], folder: Path) -> list[InputFile]:
    """The files that names, folders and patterns stand for, in the order of their outputs' names.

    A folder stands for all files in it and below it that end as JSON lines or Parquet do, links followed; names that begin
    with a dot or an underscore are left out, and so are the labels themselves. Its tree is kept below ``folder``, as is that
    of a pattern.

    Raises:
        LabelError: a name stands for nothing, a folder cannot be read, or two files have one output.
        SettingsError: there is Parquet, and pyarrow is not installed.
    """
    found: dict[str, InputFile] = {}
    outside = _Outside(folder)
    for each in given:
        for path, below in _files(each, outside):
            name = below.as_posix()
            output = folder / below
            known = found.get(name)
            if known is not None and not _is_same(known.path, path):
                raise LabelError(
                    f"{known.path} and {path} would both be labelled as {output}; name a folder above both, which keeps their "
                    "tree, or label them into two folders"
                )
            if _is_same(output, path):
                raise LabelError(f"{path}: its labels would replace it; choose another folder than {folder} with -o")
            try:
                size = path.stat().st_size
            except OSError as exc:
                raise LabelError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
            found[name] = InputFile(path, output, name, size)
    for file in found.values():
        if file.is_parquet:
            need_pyarrow(str(file.path))
    return [found[name] for name in sorted(found)]


def _files(given: str, outside: _Outside) -> Iterator[tuple[Path, PurePath]]:
    """The files of one argument, each with its place below the folder of labels."""
    path = Path(given)
    if path.is_dir():
        found = [(each, each.relative_to(path)) for each in _below(path, outside)]
        if not found:
            raise LabelError(f"{path}: no file in it ends in {_KNOWN}")
        yield from found
    elif path.exists():
        yield _checked(path), PurePath(path.name)
    elif glob.has_magic(given):
        matches = sorted(Path(each) for each in glob.glob(given, recursive=True))  # noqa: PTH207 - absolute ones, too
        files = [each for each in matches if each.is_file() and outside.has(each)]
        if not files:
            raise LabelError(f"{given}: no file matches")
        fixed = _fixed_part(path)
        for each in files:
            yield _checked(each), each.relative_to(fixed)
    else:
        raise LabelError(f"{given}: no such file or folder")


class _Outside:
    """Whether a path is outside the folder of labels: an earlier run's labels are no input."""

    def __init__(self, folder: Path) -> None:
        # Unlike Path.resolve, it raises nothing if links lead in a circle.
        self._folder = Path(os.path.realpath(folder))

    def has(self, path: Path) -> bool:
        resolved = path.resolve()
        return resolved != self._folder and self._folder not in resolved.parents


def _below(folder: Path, outside: _Outside) -> Iterator[Path]:
    """The files in a folder and below it. Each folder is read once, and through a link only if no other name leads to it."""
    seen: set[Path] = set()
    waiting = [folder]
    while waiting:
        top = waiting.pop(0)
        if top.resolve() in seen:
            continue
        for place, folders, names in os.walk(top, onerror=_refuse):
            here = Path(place)
            seen.add(here.resolve())
            if not outside.has(here):
                # Labels beside their inputs would be taken for inputs the next time.
                raise LabelError(f"{here}: the folder of labels holds the inputs; choose another one with -o")
            inner = [here / name for name in sorted(_shown(folders)) if outside.has(here / name)]
            # A link to a folder that it is in leads to what is outside of what was named.
            above = {here.resolve(), *here.resolve().parents}
            waiting += [each for each in inner if each.is_symlink() and each.resolve() not in above]
            folders[:] = [each.name for each in inner if each.resolve() not in seen]
            for name in sorted(_shown(names)):
                if name.lower().endswith(_ENDINGS):
                    yield here / name


def _refuse(exc: OSError) -> None:
    raise LabelError(f"{exc.filename}: cannot be read ({exc.strerror or exc})") from exc


def _shown(names: Iterable[str]) -> Iterator[str]:
    """Names that do not begin as those of unfinished and accompanying files do."""
    return (name for name in names if not name.startswith((".", "_")))


def _checked(path: Path) -> Path:
    if path.suffix.lower() not in _ENDINGS:
        raise LabelError(f"{path}: expected a name that ends in {_KNOWN}")
    return path


def _fixed_part(pattern: Path) -> Path:
    """The folders of a pattern before the first part that is one."""
    fixed = Path(pattern.anchor)
    for part in pattern.relative_to(pattern.anchor).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _is_same(one: Path, other: Path) -> bool:
    return one.absolute() == other.absolute() or (one.exists() and other.exists() and one.samefile(other))
