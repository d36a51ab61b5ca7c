"""Which model files a benchmark measures: levels that are on this machine, any GGUFs, and levels made for the occasion."""

from __future__ import annotations

import functools
import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Final

from archroute_edge.bench._measuring_process import temporary_file
from archroute_edge.deciders import CASCADE, find_models
from archroute_edge.engine import GGUFHeader, ModelKind, check_model_file, model_fingerprint, model_kind, read_header
from archroute_edge.errors import BenchmarkError, ModelError, QuantizationError
from archroute_edge.evaluation import runs_folder
from archroute_edge.models import AUTO, LEVELS, Level, catalogue_entry, find_model, is_remote, level_named, locate
from archroute_edge.quantize import COLLECT_COMMAND, predict_size, quantize
from archroute_edge.system import ProcessLock, expanded, is_file_here

ALL: Final = "all"
"""Stands for every level that can be had."""

_SPARE_BYTES: Final = 256 << 20
_SCRATCH: Final = "bench-"
_F32: Final = 0

QuantizingProgress = Callable[[str, int, int], None]
"""Called with the level, and with tensors done and tensors in all."""


@dataclass(frozen=True)
class Contender:
    """A model file that is measured.

    Attributes:
        label: its name in the report, unlike any other.
        level: its quantization level, None if the file states none that is known.
        identity: tells its contents from those of any other file.
        bits_per_weight: over all its tensors.
        made: whether the file was made for this run and goes with it.
    """

    label: str
    path: Path
    level: str | None
    identity: str
    n_bytes: int
    bits_per_weight: float
    made: bool = False
    kind: ModelKind = "generative"


def contender(path: Path, label: str | None = None) -> Contender:
    """Describe the model at ``path``.

    Raises:
        ModelError: there is no such file, or it is no model that can be routed with.
    """
    header = check_model_file(path)
    tensors, ftype = header.tensors.values(), header.metadata.get("general.file_type")
    bits = 8 * sum(tensor.n_bytes for tensor in tensors) / sum(prod(tensor.shape) for tensor in tensors)
    level = "F32" if ftype == _F32 else next((level.name for level in LEVELS.values() if level.ftype == ftype), None)
    identity = model_fingerprint(header)
    return Contender(label or path.stem, path, level, identity, header.file_size, bits, kind=model_kind(header))


def named_contenders(names: Sequence[str]) -> list[Contender]:
    """The models of these paths or names of the catalogue.

    Raises:
        BenchmarkError: one is a cascade, or on another machine.
        ModelNotFoundError: one is not on this machine; the message has the command that gets it.
    """
    for name in names:
        if len(find_models(name)) > 1:
            each = " ".join(name.split(CASCADE))
            raise BenchmarkError(f"{name}: a cascade is two models; measure each: archroute bench {each}")
        if is_remote(name):
            raise BenchmarkError(f"{name}: a remote model runs elsewhere; this measures models on this machine")
    return [contender(find_models(name)[0].path) for name in names]


def all_different(contenders: Sequence[Contender]) -> list[Contender]:
    """Each file once, and each under a label of its own: where two are called alike, by their paths."""
    files = list({each.path.resolve(): each for each in reversed(contenders)}.values())[::-1]
    labels = [each.label for each in files]
    return [each if labels.count(each.label) == 1 else replace(each, label=str(each.path)) for each in files]


def levels_of_model(model: str, quants: Sequence[str]) -> list[Contender]:
    """The levels of a model of the catalogue; ``all`` are those that are on this machine.

    Raises:
        BenchmarkError: ``model`` is not the name of one, or it is a single file without levels.
        ModelNotFoundError: no such model or level, or it is not on this machine; the message has the command that gets it.
    """
    if model == AUTO:
        raise BenchmarkError("--quant needs a --model NAME whose levels it means, or a file to make them of: --from F16.gguf")
    if is_file_here(expanded(model)):
        raise BenchmarkError(
            f"{model} is a file and has no levels; leave --quant out, or make levels of an unquantized file with --from"
        )
    name = model.partition(":")[0]
    entry, _ = catalogue_entry(name)
    if not entry.file_names:
        raise BenchmarkError(
            f"{name} is one file and has no levels; leave --quant out, or name a file to make levels of: --from F16.gguf"
        )
    if [each.lower() for each in quants] == [ALL]:
        here = {level: file for level in entry.file_names if (file := locate(entry, level))}
        if not here:
            find_model(name)  # says what to do
        return [contender(file.path, level) for level, file in here.items()]
    found: dict[str, Contender] = {}
    for each in quants:
        _, level = catalogue_entry(f"{name}:{each}")
        found[level or each] = contender(find_model(f"{name}:{each}").path, level)
    return list(found.values())


@dataclass(frozen=True)
class LevelPlan:
    """The levels of ``source`` (F16, BF16 or F32) in their ``order``: files that are ``here``, by level, and those ``to_make``.

    ``n_bytes`` is the room that the latter take; ``notes`` say what was left out, and why.
    """

    source: Contender
    order: tuple[str, ...]
    here: dict[str, Contender]
    to_make: tuple[Level, ...]
    imatrix: Path | None
    n_bytes: int
    notes: tuple[str, ...]


def plan_levels(source: Path, quants: Sequence[str], imatrix: Path | None) -> LevelPlan:
    """Find out which levels of ``source`` lie beside it and which have to be made.

    Raises:
        QuantizationError: no such level, none is left, or they cannot be made of this file.
        ImatrixError: the importance matrix cannot be used.
        ModelError: ``source`` is missing or no model.
    """
    header = check_model_file(source)
    whole = contender(source)
    wanted = list(LEVELS.values()) if [each.lower() for each in quants] == [ALL] else [level_named(each) for each in quants]
    notes = []
    if without := [each.name for each in wanted if each.needs_imatrix and imatrix is None]:
        notes.append(f"left out: {', '.join(without)} (made with an importance matrix only: --imatrix FILE)")
        wanted = [each for each in wanted if each.name not in without]
        if not wanted:
            raise QuantizationError(f"{notes[0]}; make one with: {COLLECT_COMMAND.format(source=source)}")
    levels = dict.fromkeys(wanted)
    files = {each: source if each.name == whole.level else None if imatrix else _beside(header, each) for each in levels}
    here = {level.name: contender(path, level.name) for level, path in files.items() if path is not None}
    to_make = tuple(level for level in levels if level.name not in here)
    n_bytes = sum(predict_size(source, level, imatrix=imatrix).n_bytes for level in to_make)
    return LevelPlan(whole, tuple(level.name for level in levels), here, to_make, imatrix, n_bytes, tuple(notes))


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for files of this run, removed when the block ends, also by an interrupt; those of killed processes go, too.

    It is beside the unfinished runs and not in ``/tmp``, which is memory on many machines. A lock says that it is in use: the
    number of a process means nothing to another machine or container that shares the folder.

    Raises:
        BenchmarkError: there can be no such folder, or no temporary file, which every measuring process needs.
    """
    temporary_file().close()
    parent = runs_folder()
    folder = parent / f"{_SCRATCH}{uuid.uuid4().hex[:12]}"
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in parent.glob(f"{_SCRATCH}*"):
            if left.is_dir():
                _remove_if_left(left)
        # Locked before it is there. If not, another process could remove it as one that was left.
        lock = _lock_of(folder)
        lock.take()
        folder.mkdir(mode=0o700)
    except OSError as exc:
        raise BenchmarkError(f"{parent}: no temporary folder can be made there ({exc.strerror or exc})") from exc
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release(remove=True)


def _lock_of(folder: Path) -> ProcessLock:
    return ProcessLock(folder.with_suffix(".lock"))


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a process that was killed: no process holds its lock."""
    lock = _lock_of(folder)
    if lock.take() and lock.is_held:
        shutil.rmtree(folder, ignore_errors=True)
    lock.release(remove=True)


def make_levels(plan: LevelPlan, folder: Path, on_progress: QuantizingProgress) -> list[Contender]:
    """Make in ``folder`` what the plan misses, and return all its levels in their order.

    Raises:
        BenchmarkError: there is too little room.
        QuantizationError: llama.cpp failed.
    """
    free = shutil.disk_usage(folder).free
    if plan.to_make and plan.n_bytes + _SPARE_BYTES > free:
        raise BenchmarkError(
            f"{folder.parent}: the levels to make take {plan.n_bytes / 1e9:.1f} GB and there are {free / 1e9:.1f} GB "
            "free; ask for fewer, or point ARCHROUTE_CACHE_DIR to a larger disk"
        )
    found = dict(plan.here)
    # What decides the contents of a level that is made: it comes out the same every time.
    matrix = hashlib.sha256(plan.imatrix.read_bytes()).hexdigest() if plan.imatrix else "no matrix"
    for level in plan.to_make:
        target, name = folder / level.file_for(plan.source.path.stem), level.name
        quantize(plan.source.path, target, level, imatrix=plan.imatrix, on_progress=functools.partial(on_progress, name))
        found[name] = replace(contender(target, name), identity=f"{plan.source.identity} {name} {matrix}", made=True)
    return [found[name] for name in plan.order]


def _beside(source: GGUFHeader, level: Level) -> Path | None:
    """The file of a level that lies beside its source, if it is what its name says."""
    stem = source.path.stem
    for ending in ("-F16", "-BF16", "-F32", ".F16", ".BF16", ".F32"):
        stem = stem.removesuffix(ending)
    path = source.path.with_name(level.file_for(stem))
    try:
        header = read_header(path)
    except ModelError:
        return None
    same = header.tensors.keys() == source.tensors.keys() and header.metadata.get("general.file_type") == level.ftype
    return path if same and path != source.path else None
