"""Checking and deleting the models of this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archroute_edge.engine import check_model_file
from archroute_edge.errors import ModelError, ModelNotFoundError, SettingsError
from archroute_edge.models._catalogue import CHECKPOINT, CatalogueEntry, read_catalogue
from archroute_edge.models._find import catalogue_entry, how_to_get, locate
from archroute_edge.models._hub_cache import cached_checkpoint, digest_in_cache, remove_from_cache, repo_folder
from archroute_edge.system import bundled_folder, file_digest

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and with bytes done and in all."""


@dataclass(frozen=True)
class InstalledModel:
    """A model on this machine, published or made here; ``path`` is a file, or the folder of a checkpoint."""

    name: str
    path: Path
    entry: CatalogueEntry
    level: str | None

    @property
    def n_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def files(self) -> list[Path]:
        """The file, or those of the checkpoint's folder."""
        return [path for path in sorted(self.path.iterdir()) if path.is_file()] if self.path.is_dir() else [self.path]


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` found: ``problem`` is None where all is well; ``by_hash`` says whether a hash was known."""

    model: InstalledModel
    by_hash: bool
    problem: str | None


def installed(name: str | None = None) -> list[InstalledModel]:
    """The models of the catalogue that are on this machine.

    Args:
        name: only these: ``NAME`` at all its levels, ``NAME:LEVEL`` or ``NAME:checkpoint``.

    Raises:
        ModelNotFoundError: no such model or level, or it is not here.
        ConfigError: the catalogue cannot be read.
    """
    if name is None:
        return [model for entry in read_catalogue().values() for model in _installed(entry, None)]
    entry, level = catalogue_entry(name)
    found = _installed(entry, level)
    if not found:
        raise ModelNotFoundError(how_to_get(entry, level or (None if entry.files else CHECKPOINT)))
    return found


def _installed(entry: CatalogueEntry, wanted: str | None) -> list[InstalledModel]:
    found = []
    levels: list[str | None] = [*entry.file_names] or [None]
    for level in levels:
        file = locate(entry, level) if wanted in (None, level) else None
        if file is not None:
            found.append(InstalledModel(file.name, file.path, entry, level))
    if entry.checkpoint is not None and wanted in (None, CHECKPOINT):
        folder = cached_checkpoint(entry.checkpoint.repo, entry.checkpoint.revision)
        if folder is not None:
            found.append(InstalledModel(f"{entry.name}:{CHECKPOINT}", folder, entry, CHECKPOINT))
    return found


def verify(model: InstalledModel, on_progress: Progress = lambda step, done, total: None) -> Verdict:
    """Read a model again in full: its hash, as far as the catalogue or the hub's cache knows it, and its structure."""
    by_hash = True
    try:
        for path in model.files:
            expected = _expected_digests(model, path)
            by_hash = by_hash and bool(expected)
            for digest in expected:
                size = path.stat().st_size
                found = file_digest(path, digest, _reporter(on_progress, f"checking {path.name}", size))
                if found != digest:
                    return Verdict(model, by_hash, f"{path}: is damaged or was changed (hash {found}, not {digest})")
        if model.level != CHECKPOINT:
            check_model_file(model.path)
    except ModelError as exc:
        return Verdict(model, by_hash, str(exc))
    except OSError as exc:
        return Verdict(model, by_hash, f"{model.path}: cannot be read ({exc.strerror or exc})")
    return Verdict(model, by_hash, None)


def _reporter(on_progress: Progress, step: str, total: int) -> Callable[[int], None]:
    return lambda done: on_progress(step, done, total)


def _expected_digests(model: InstalledModel, path: Path) -> list[str]:
    kept = digest_in_cache(path)
    file = model.entry.files.get(model.level or "")
    # A level that was made here is not the file that the catalogue pins.
    pinned = (file.sha256 if file and kept else None) or (model.entry.sha256 if model.entry.file else None)
    return list(dict.fromkeys(digest for digest in (pinned, kept) if digest))


def remove(model: InstalledModel) -> list[Path]:
    """Delete a model from the hub's cache or from the user's folders, and return what is gone.

    Raises:
        SettingsError: it came with archroute-edge, or lies in a clone's ``models/``.
        ModelError: a file cannot be deleted.
    """
    if model.path.parent.resolve() == bundled_folder().resolve():
        raise SettingsError(f"{model.path}: lies beside the bundled models, where only people delete files")
    try:
        if model.level == CHECKPOINT and model.entry.checkpoint is not None:
            return remove_from_cache(model.entry.checkpoint.repo, None)
        if model.entry.repo is not None and model.path.is_relative_to(repo_folder(model.entry.repo)):
            return remove_from_cache(model.entry.repo, {model.entry.file_names[model.level or ""]})
        model.path.unlink()
        return [model.path]
    except OSError as exc:
        raise ModelError(f"{exc.filename or model.path}: cannot be deleted ({exc.strerror or exc})") from exc
