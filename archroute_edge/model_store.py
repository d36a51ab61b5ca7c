"""Which models there are, what they are called, and where their files are on this machine. Nothing is downloaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
import yaml
from huggingface_hub import try_to_load_from_cache

from archroute_edge.errors import ConfigError, ModelNotFoundError
from archroute_edge.prompt_formats import PROMPT_FORMATS

AUTO = "auto"
"""Names the best model on this machine: Arch-Router where it is, else the bundled one."""

_PREFERRED = "arch-router"
_BUNDLED = "tiny"
_KNOWN_KEYS = {"description", "licence", "prompt_format", "file", "repo", "files", "default_level"}


@dataclass(frozen=True)
class CatalogueEntry:
    """A model of the catalogue. ``files`` maps quantization levels to file names in ``repo``."""

    name: str
    description: str
    licence: str
    prompt_format: str
    file: str | None = None
    repo: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    default_level: str | None = None


@dataclass(frozen=True)
class ModelFile:
    """A model's file on this machine: what it is called, where it is, and the prompt format the catalogue states."""

    name: str
    path: Path
    prompt_format: str | None = None


def bundled_folder() -> Path:
    """Where the catalogue and the bundled model are: inside an installed package, or ``models/`` in a clone."""
    installed = Path(__file__).parent / "bundled"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "models"


def model_folders() -> list[Path]:
    """Folders in which model files are looked for by name, in this order."""
    override = os.environ.get("ARCHROUTE_MODELS_DIR")
    folders = [Path(override)] if override else []
    return [*folders, bundled_folder(), Path(platformdirs.user_data_dir("archroute-edge")) / "models"]


def read_catalogue(path: Path | None = None) -> dict[str, CatalogueEntry]:
    """The catalogue, by name.

    Raises:
        ConfigError: the file cannot be read, or an entry is malformed.
    """
    path = path or bundled_folder() / "catalogue.yaml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(f"the catalogue cannot be read: {' '.join(str(exc).split())}", path=path) from exc
    entries = document.get("models") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise ConfigError("the catalogue needs a mapping called models", path=path)
    return {str(name): _entry(str(name), fields, path) for name, fields in entries.items()}


def _entry(name: str, fields: Any, path: Path) -> CatalogueEntry:
    if not isinstance(fields, dict):
        raise ConfigError(f"model {name!r} is not a mapping", path=path)
    unknown = set(fields) - _KNOWN_KEYS
    if unknown:
        raise ConfigError(f"model {name!r} has the unknown key {sorted(map(str, unknown))[0]!r}", path=path)
    if fields.get("prompt_format") not in tuple(PROMPT_FORMATS):
        raise ConfigError(f"model {name!r} needs a prompt_format out of {', '.join(PROMPT_FORMATS)}", path=path)
    if ("file" in fields) == ("repo" in fields):
        raise ConfigError(f"model {name!r} needs either a file or a repo with files", path=path)
    if "repo" in fields:
        _check_files(name, fields, path)
    elif not isinstance(fields["file"], str) or not fields["file"]:
        raise ConfigError(f"model {name!r}: file must be text", path=path)
    return CatalogueEntry(
        name=name,
        description=str(fields.get("description", "")),
        licence=str(fields.get("licence", "")),
        prompt_format=fields["prompt_format"],
        file=fields.get("file"),
        repo=fields.get("repo"),
        files=fields.get("files", {}),
        default_level=fields.get("default_level"),
    )


def _check_files(name: str, fields: Mapping[str, Any], path: Path) -> None:
    repo, files, default = fields["repo"], fields.get("files"), fields.get("default_level")
    if not isinstance(repo, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ConfigError(f"model {name!r}: repo must be owner/name", path=path)
    if not (
        files and isinstance(files, dict) and all(isinstance(text, str) and text for pair in files.items() for text in pair)
    ):
        raise ConfigError(f"model {name!r}: files must map levels to file names", path=path)
    if default is not None and default not in tuple(files):
        raise ConfigError(f"model {name!r}: default_level {default!r} is none of its files: {', '.join(files)}", path=path)


def find_model(name: str | Path) -> ModelFile:
    """The file of a model: a path, ``auto``, or a catalogue name with an optional level (``arch-router:Q4_K_M``).

    Raises:
        ModelNotFoundError: no such name, or no such file here; the message has the command that gets it.
        ConfigError: the catalogue cannot be read.
    """
    catalogue = read_catalogue()
    if str(name) == AUTO:
        preferred = catalogue.get(_PREFERRED)
        found = _find_file(preferred, None) if preferred else None
        return found or find_model(_BUNDLED)
    entry_name, _, level = str(name).partition(":")
    entry = catalogue.get(entry_name)
    try:
        path = Path(name).expanduser()
        if entry is None or path.is_file():
            return _by_path(path, catalogue)
    except (OSError, RuntimeError, ValueError) as exc:
        raise ModelNotFoundError(f"{str(name)[:200]!r}: no such model file: {' '.join(str(exc).split())[:200]}") from exc
    if level and level.upper() not in entry.files:
        known = ", ".join(entry.files) or "none"
        raise ModelNotFoundError(f"model {entry_name!r} has no level {level!r}; its levels: {known}")
    found = _find_file(entry, level.upper() or None)
    if found:
        return found
    if entry.repo is None:
        raise ModelNotFoundError(f"{entry.file} is missing from {bundled_folder()}; install archroute-edge again")
    file = entry.files[level.upper() or entry.default_level or next(iter(entry.files))]
    raise ModelNotFoundError(
        f"{name} is not on this machine, and nothing is downloaded unasked; get it with: hf download {entry.repo} {file}"
    )


def _by_path(path: Path, catalogue: Mapping[str, CatalogueEntry]) -> ModelFile:
    if path.exists() or path.suffix or os.sep in str(path):
        if not path.exists():
            raise ModelNotFoundError(f"{path}: no such model file; names that are known: {', '.join(catalogue)}")
        if path.is_dir():
            raise ModelNotFoundError(f"{path}: a folder, not a model file; name the .gguf file in it")
        known = [
            entry.prompt_format for entry in catalogue.values() if path.name == entry.file or path.name in entry.files.values()
        ]
        return ModelFile(path.name, path, known[0] if known else None)
    raise ModelNotFoundError(f"no model is called {str(path)!r}; there are {', '.join(catalogue)}, or name a .gguf file")


def _find_file(entry: CatalogueEntry, level: str | None) -> ModelFile | None:
    if entry.file is not None:
        return _in_folders(entry.name, entry.file, entry)
    first = level or entry.default_level
    # The default level first, then the others in the catalogue's order.
    levels = [level] if level else sorted(entry.files, key=lambda each: each != first)
    for each in levels:
        found = _in_folders(f"{entry.name}:{each}", entry.files[each], entry)
        if found:
            return found
    return None


def _in_folders(name: str, file: str, entry: CatalogueEntry) -> ModelFile | None:
    for folder in model_folders():
        if (folder / file).is_file():
            return ModelFile(name, folder / file, entry.prompt_format)
    cached = try_to_load_from_cache(entry.repo, file) if entry.repo else None
    return ModelFile(name, Path(cached), entry.prompt_format) if isinstance(cached, str) else None


def models_on_this_machine() -> list[ModelFile]:
    """Every model of the catalogue, at every level, whose file is here."""
    found = []
    for entry in read_catalogue().values():
        levels: list[str | None] = [*entry.files] or [None]
        for level in levels:
            file = _find_file(entry, level)
            if file:
                found.append(file)
    return found
