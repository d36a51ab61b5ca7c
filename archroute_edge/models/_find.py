"""The files of models on this machine: finding, checking and deleting them. Nothing is downloaded."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from archroute_edge.engine import check_model_file
from archroute_edge.errors import ModelError, ModelNotFoundError, SettingsError
from archroute_edge.models._catalogue import CHECKPOINT, CatalogueEntry, read_catalogue
from archroute_edge.models._hub_cache import (
    Progress,
    cached_checkpoint,
    cached_file,
    digest_in_cache,
    digest_of,
    remove_from_cache,
    repo_folder,
)
from archroute_edge.models._levels import LEVELS
from archroute_edge.models._remote_address import RemoteAddress, is_remote, read_address
from archroute_edge.system import bundled_folder, expanded, is_file_here, kind_of_folder, own_folder

AUTO = "auto"
"""Names the best model on this machine: Arch-Router where it is, else the bundled encoder."""

PREFERRED = "arch-router"
BUNDLED_ENCODER = "mini"
"""The sentence encoder that comes with this package, which ``auto`` falls back on."""
BUNDLED_LANGUAGE_MODEL = "tiny"
"""The small language model that comes with this package."""
BUNDLED = (BUNDLED_ENCODER, BUNDLED_LANGUAGE_MODEL)


@dataclass(frozen=True)
class ModelFile:
    """A model's file on this machine: what it is called, where it is, and the prompt format the catalogue states.

    Of a remote model the file is one that has its vocabulary and chat template.
    """

    name: str
    path: Path
    prompt_format: str | None = None
    remote: RemoteAddress | None = None


def user_folder() -> Path:
    """Where a user's own models are."""
    return own_folder("data") / "models"


def model_folders() -> list[Path]:
    """Folders in which model files are looked for by name, in this order."""
    override = os.environ.get("ARCHROUTE_MODELS_DIR")
    return [*([expanded(override)] if override else []), bundled_folder(), user_folder()]


def catalogue_entry(name: str, catalogue: Mapping[str, CatalogueEntry] | None = None) -> tuple[CatalogueEntry, str | None]:
    """The entry that ``NAME`` or ``NAME:LEVEL`` means, and the level in the catalogue's spelling, None where there is none.

    Raises:
        ModelNotFoundError: no such model or level.
        ConfigError: the catalogue cannot be read.
    """
    catalogue = read_catalogue() if catalogue is None else catalogue
    entry_name, _, level = name.partition(":")
    entry = catalogue.get(entry_name)
    if entry is None:
        known = ", ".join(catalogue)
        if is_file_here(expanded(name)):
            raise ModelNotFoundError(f"{name} is a file, and this needs a name of the catalogue: {known}")
        raise ModelNotFoundError(f"no model is called {entry_name!r}; there are {known}")
    if level.lower() == CHECKPOINT and entry.checkpoint is not None:
        return entry, CHECKPOINT
    if level and level.upper() not in entry.file_names:
        known = ", ".join(entry.file_names) or "none"
        raise ModelNotFoundError(f"model {entry_name!r} has no level {level!r}; its levels: {known}")
    return entry, level.upper() or None


def find_model(name: str | Path) -> ModelFile:
    """The file of a model: a path, ``auto``, or a catalogue name with an optional level (``arch-router:Q4_K_M``).

    Of the address of a remote model it is the file with its vocabulary; nothing is asked for over the network.

    Raises:
        ModelNotFoundError: no such name, or no such file here; the message has the command that gets it.
        SettingsError: an address that is none.
        ConfigError: the catalogue cannot be read.
    """
    if is_remote(name):
        return _vocabulary_of(read_address(str(name)))
    catalogue = read_catalogue()
    if not str(name):
        raise ModelNotFoundError(f"the name of the model is empty; there are {', '.join(catalogue)}, or name a .gguf file")
    if str(name) == AUTO:
        preferred = catalogue.get(PREFERRED)
        found = locate(preferred, None) if preferred else None
        return found or find_bundled(BUNDLED_ENCODER)
    try:
        path = expanded(name)
        if str(name).partition(":")[0] not in catalogue or path.is_file():
            return _by_path(path, catalogue)
    except (OSError, RuntimeError, ValueError) as exc:
        raise ModelNotFoundError(f"{str(name)[:200]!r}: no such model file: {' '.join(str(exc).split())[:200]}") from exc
    entry, level = catalogue_entry(str(name), catalogue)
    if level == CHECKPOINT:
        raise ModelNotFoundError(f"{name} is what GGUFs are made from, and cannot be routed with; name a level")
    found = locate(entry, level)
    if found is None:
        raise ModelNotFoundError(how_to_get(entry, level))
    return found


def find_bundled(name: str) -> ModelFile:
    """The file of a bundled model. A file of that name in the working folder is not meant: the user has not named it.

    Raises:
        ModelNotFoundError: it is missing from the package.
        ConfigError: the catalogue cannot be read.
    """
    entry, _ = catalogue_entry(name)
    found = locate(entry, None)
    if found is None:
        raise ModelNotFoundError(how_to_get(entry, None))
    return found


def _vocabulary_of(address: RemoteAddress) -> ModelFile:
    if address.vocabulary:
        if is_remote(address.vocabulary):
            raise SettingsError(f"{address.name}: the vocabulary has to be a file on this machine, or a name in the catalogue")
        found = find_model(address.vocabulary)
        return replace(found, name=address.name, remote=address)
    catalogue = read_catalogue()
    base, _, level = address.model.partition(":")
    entry = catalogue.get(base)
    if entry is None:
        last = address.model.rpartition("/")[2]
        served = (each for each in catalogue.values() if _is_called(each, address.model, last))
        entry, level = next(served, None), ""
    if entry is None:
        raise ModelNotFoundError(
            f"{address.name}: the catalogue does not know that model, so its vocabulary has to be named: a GGUF file of it on "
            f"this machine, as in {address.url}?vocabulary=FILE.gguf#{address.model}"
        )
    found_here = locate(entry, level.upper() if level.upper() in entry.file_names else None)
    if found_here is None:
        why = "prompts are written here, with the model's vocabulary"
        raise ModelNotFoundError(f"{address.name}: {why}; {how_to_get(entry, None)}")
    return replace(found_here, name=address.name, remote=address)


def _is_called(entry: CatalogueEntry, model: str, last: str) -> bool:
    """Whether a served model's name is an entry's repository, or one of its files."""
    repos = [entry.repo, entry.checkpoint.repo if entry.checkpoint else None]
    return model in filter(None, repos) or last in filter(None, [entry.file, *entry.file_names.values()])


def find_language_model(name: str | Path) -> ModelFile:
    """As :func:`find_model`, for what only a language model can do: ``auto`` comes down to the bundled one of those.

    Raises:
        ModelNotFoundError: no such name, or no such file here; the message has the command that gets it.
        ConfigError: the catalogue cannot be read.
    """
    found = find_model(name)
    return find_bundled(BUNDLED_LANGUAGE_MODEL) if str(name) == AUTO and found.name == BUNDLED_ENCODER else found


def find_checkpoint(entry: CatalogueEntry) -> Path:
    """The folder of an entry's checkpoint, as far as it was pulled whole.

    Raises:
        ModelNotFoundError: the entry has none, or it is not here; the message has the command that gets it.
    """
    if entry.checkpoint is None:
        raise ModelNotFoundError(f"the catalogue knows no checkpoint of {entry.name}")
    found = cached_checkpoint(entry.checkpoint.repo, entry.checkpoint.revision)
    if found is None:
        raise ModelNotFoundError(how_to_get(entry, CHECKPOINT))
    return found


def how_to_get(entry: CatalogueEntry, level: str | None) -> str:
    """That a model is not on this machine, and the command that changes it, in one line."""
    if entry.file is not None:
        if entry.name in BUNDLED:
            return f"{entry.file} is missing from {bundled_folder()}; install archroute-edge again"
        return f"{entry.name} is not on this machine; put {entry.file} into {user_folder()}"
    wanted = level or entry.usual_level
    missing = f"{entry.name}{f':{level}' if level else ''} is not on this machine, and nothing is downloaded unasked"
    if wanted == CHECKPOINT:
        return f"{missing}; get it with: archroute models pull {entry.name}:{CHECKPOINT}"
    if wanted in entry.files:
        return f"{missing}; get it with: archroute models pull {entry.name} --quant {wanted}"
    return (
        f"{entry.name}{f':{level}' if level else ''} is not on this machine, and has to be made from its checkpoint, "
        f"in a clone of archroute-edge: {_how_to_make(entry, wanted or 'Q4_K_M')}"
    )


def _how_to_make(entry: CatalogueEntry, level: str) -> str:
    assert entry.checkpoint is not None
    source = entry.checkpoint.repo + (f"@{entry.checkpoint.revision}" if entry.checkpoint.revision else "")
    asked = ["--prompt-format", entry.prompt_format] if entry.prompt_format else []
    words = ["python", "-m", "tools.convert", source, *asked, "--quantize", level]
    if LEVELS[level].needs_imatrix:
        words += ["--imatrix", "auto"]
    return shlex.join([*words, "-o", f"models/{entry.file_names[level]}"])


def _by_path(path: Path, catalogue: Mapping[str, CatalogueEntry]) -> ModelFile:
    if path.exists() or path.suffix or os.sep in str(path):
        if not path.exists():
            raise ModelNotFoundError(f"{path}: no such model file; names that are known: {', '.join(catalogue)}")
        if path.is_dir():
            raise ModelNotFoundError(f"{path}: {_about_folder(path)}")
        known = [
            entry.prompt_format
            for entry in catalogue.values()
            if path.name == entry.file or path.name in entry.file_names.values()
        ]
        return ModelFile(path.name, path, known[0] if known else None)
    raise ModelNotFoundError(f"no model is called {str(path)!r}; there are {', '.join(catalogue)}, or name a .gguf file")


def _about_folder(path: Path) -> str:
    if kind := kind_of_folder(path):
        return f"a folder, not a model file: {kind}"
    if is_file_here(path / "config.json"):
        return f"a checkpoint's folder; make a GGUF of it: {shlex.join(['python', '-m', 'tools.convert', str(path)])} -o FILE"
    return "a folder, not a model file; name the .gguf file in it"


def locate(entry: CatalogueEntry, level: str | None) -> ModelFile | None:
    """The file of a model at ``level``; without one its usual level, or else the first that is here."""
    if entry.file is not None:
        return _in_folders(entry, entry.name, entry.file)
    names = entry.file_names
    levels = [level] if level else sorted(names, key=lambda each: each != entry.usual_level)
    for each in levels:
        found = _in_folders(entry, f"{entry.name}:{each}", names[each])
        if found is None and entry.repo is not None and each in entry.files:
            cached = cached_file(entry.repo, names[each], entry.revision)
            found = ModelFile(f"{entry.name}:{each}", cached, entry.prompt_format) if cached else None
        if found:
            return found
    return None


def _in_folders(entry: CatalogueEntry, name: str, file: str) -> ModelFile | None:
    paths = (folder / file for folder in model_folders())
    return next((ModelFile(name, path, entry.prompt_format) for path in paths if is_file_here(path)), None)


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
        """The file, or those of the checkpoint's folder and of folders in it."""
        return [path for path in sorted(self.path.rglob("*")) if path.is_file()] if self.path.is_dir() else [self.path]


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
        if wanted in (None, level) and (file := locate(entry, level)):
            found.append(InstalledModel(file.name, file.path, entry, level))
    if entry.checkpoint is not None and wanted in (None, CHECKPOINT):
        folder = cached_checkpoint(entry.checkpoint.repo, entry.checkpoint.revision)
        if folder is not None:
            found.append(InstalledModel(f"{entry.name}:{CHECKPOINT}", folder, entry, CHECKPOINT))
    return found


def models_on_this_machine() -> list[ModelFile]:
    """Every model of the catalogue, at every level, whose file is here."""
    return [ModelFile(each.name, each.path, each.entry.prompt_format) for each in installed() if each.level != CHECKPOINT]


def to_verify(name: str | None) -> list[InstalledModel]:
    """As :func:`installed`; or the file that is named by its path, of which the catalogue knows nothing.

    Raises:
        ModelNotFoundError: no such model, level or file.
        ConfigError: the catalogue cannot be read.
    """
    if name is None or name.partition(":")[0] in read_catalogue():
        return installed(name)
    found = find_model(name)
    return [InstalledModel(found.name, found.path, CatalogueEntry(found.name, "", "", None), None)]


def verify(model: InstalledModel, on_progress: Progress = lambda step, done, total: None) -> Verdict:
    """Read a model again in full: its hash, as far as the catalogue or the hub's cache knows it, and its structure."""
    by_hash = True
    try:
        for path in model.files:
            expected = _expected_digests(model, path)
            by_hash = by_hash and bool(expected)
            for digest in expected:
                found = digest_of(path, digest, on_progress)
                if found != digest:
                    return Verdict(model, by_hash, f"{path}: is damaged or was changed (hash {found}, not {digest})")
        if model.level != CHECKPOINT:
            check_model_file(model.path)
    except ModelError as exc:
        return Verdict(model, by_hash, str(exc))
    except OSError as exc:
        return Verdict(model, by_hash, f"{model.path}: cannot be read ({exc.strerror or exc})")
    return Verdict(model, by_hash, None)


def _expected_digests(model: InstalledModel, path: Path) -> list[str]:
    kept = digest_in_cache(path)
    file = model.entry.files.get(model.level or "")
    # A level that was made here is not the file that the catalogue pins.
    pinned = (file.sha256 if file and kept else None) or (model.entry.sha256 if model.entry.file else None)
    return list(dict.fromkeys(digest for digest in (pinned, kept) if digest))


def check_removable(models: Iterable[InstalledModel]) -> None:
    """Make sure before the first of them is deleted that each may be.

    Raises:
        SettingsError: one came with archroute-edge, or lies in a clone's ``models/``.
    """
    bundled = bundled_folder().resolve()
    for model in models:
        if model.path.parent.resolve().is_relative_to(bundled):
            raise SettingsError(
                f"nothing was deleted: {model.path} lies beside the bundled models, where only people delete files"
            )


def remove(model: InstalledModel) -> list[Path]:
    """Delete a model from the hub's cache or from the user's folders, and return what is gone.

    Raises:
        SettingsError: as :func:`check_removable`.
        ModelError: a file cannot be deleted.
    """
    check_removable([model])
    try:
        if model.level == CHECKPOINT and model.entry.checkpoint is not None:
            return remove_from_cache(model.entry.checkpoint.repo, None)
        if model.entry.repo is not None and model.path.is_relative_to(repo_folder(model.entry.repo)):
            return remove_from_cache(model.entry.repo, {model.entry.file_names[model.level or ""]})
        model.path.unlink()
        return [model.path]
    except OSError as exc:
        raise ModelError(f"{exc.filename or model.path}: cannot be deleted ({exc.strerror or exc})") from exc
