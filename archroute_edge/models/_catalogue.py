"""The catalogue: which models can be called by name, and where their files come from."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from archroute_edge.config import Keys, Node, parse_tree, read_text, shorten
from archroute_edge.errors import ConfigError
from archroute_edge.models._levels import LEVELS
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.system import bundled_folder, expanded, own_folder

CHECKPOINT = "checkpoint"
"""Stands in the place of a level for the checkpoint that a model's GGUFs are made from."""

_TOP = Keys("the catalogue", read=frozenset({"models"}))
_ENTRY = Keys(
    "a model of the catalogue",
    read=frozenset(
        {"description", "licence", "licence_url", "kind", "prompt_format", "file", "sha256"}
        | {"repo", "revision", "files", "default_level", "checkpoint"}
    ),
    hints={"license": "it is spelled 'licence'", "license_url": "it is spelled 'licence_url'"},
)
_FILE = Keys("a file of the catalogue", read=frozenset({"file", "size", "sha256"}), needed=("file",))
_CHECKPOINT = Keys("a checkpoint of the catalogue", read=frozenset({"repo", "revision", "size"}), needed=("repo",))

KINDS = ("generative", "encoder")
"""What a model of the catalogue can be."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_LEVEL = re.compile(r"[A-Z0-9_]+")
_REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_SIZE = re.compile(r"\d+(\.\d+)? [kMG]B")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CataloguedFile:
    """A GGUF of a repository: its name there, about how large it is (``986 MB``), and its SHA-256 in hex."""

    name: str
    size: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The repository of a model's safetensors, at a branch, tag or commit (None: ``main``)."""

    repo: str
    revision: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class CatalogueEntry:
    """A model of the catalogue.

    Attributes:
        prompt_format: how a generative model was trained to be asked; None for an encoder, which is given no prompt.
        file: name of a GGUF in one of the model folders, for a model that no repository has; ``sha256`` is its hash.
        repo: repository of the published GGUFs, at ``revision`` (None: ``main``).
        files: quantization levels to files of ``repo``.
        default_level: the level meant by the bare name.
        checkpoint: what the levels that are not published can be made from.
    """

    name: str
    description: str
    licence: str
    prompt_format: str | None
    licence_url: str | None = None
    file: str | None = None
    sha256: str | None = None
    repo: str | None = None
    revision: str | None = None
    files: Mapping[str, CataloguedFile] = field(default_factory=dict)
    default_level: str | None = None
    checkpoint: Checkpoint | None = None

    @property
    def file_names(self) -> Mapping[str, str]:
        """The file of every level, those included that can be made here from the checkpoint."""
        names = {level: file.name for level, file in self.files.items()}
        if self.checkpoint is not None:
            model = self.checkpoint.repo.partition("/")[2]
            for level in LEVELS.values():
                names.setdefault(level.name, level.file_for(model))
        return names

    @property
    def usual_level(self) -> str | None:
        """The level meant by the bare name; None for a model without published levels."""
        return self.default_level or next(iter(self.files), None)


def own_catalogue() -> Path:
    """Where a user's own catalogue is looked for: ``$ARCHROUTE_CATALOGUE``, or the user's folder of settings."""
    override = os.environ.get("ARCHROUTE_CATALOGUE")
    return expanded(override) if override else own_folder("config") / "catalogue.yaml"


def read_catalogue(path: Path | None = None) -> dict[str, CatalogueEntry]:
    """The models of the file at ``path``; by default the shipped ones and the user's own, which replace those of their name.

    Raises:
        ConfigError: a file cannot be read, or an entry is malformed; with the line.
    """
    if path is not None:
        return _read(path)
    own = own_catalogue()
    shipped = _read(bundled_folder() / "catalogue.yaml")
    if not os.environ.get("ARCHROUTE_CATALOGUE"):
        try:
            own.stat()
        except OSError:  # also a folder that may not be searched, as services without a home have it
            return shipped
    return {**shipped, **_read(own)}


def _read(path: Path) -> dict[str, CatalogueEntry]:
    return dict(_parsed(read_text(path), path))


@functools.lru_cache(maxsize=4)
def _parsed(text: str, path: Path) -> Mapping[str, CatalogueEntry]:
    # Every model that is looked for by name asks the catalogue, and parsing takes most of the time that this takes.
    if not text.strip():
        raise ConfigError("the catalogue is empty; it needs a mapping called 'models'", path=path)
    root = parse_tree(text, path=path)
    models = root.fields(_TOP).get("models")
    if models is None:
        raise root.error("the catalogue needs a mapping called 'models'")
    found = {}
    for key, value in models.entries():
        name = key.content
        if not _NAME.fullmatch(name) or name == "auto":
            form = "use letters, digits, '.', '_' and '-', and not 'auto'"
            raise key.error(f"{shorten(name)} cannot be a model's name: {form}")
        found[name] = _entry(name, value.fields(_ENTRY, f"model {name!r}"), value)
    return found


def _entry(name: str, fields: dict[str, Node], value: Node) -> CatalogueEntry:
    def fail(message: str, key: str = "") -> NoReturn:
        at = fields.get(key)
        raise value.error_inside(f"model {name!r}: {message}") if at is None else at.error(f"model {name!r}: {message}")

    kind, prompt_format = _text(fields, "kind") or "generative", _text(fields, "prompt_format")
    if kind not in KINDS:
        fail(f"kind {shorten(kind)} is none of {', '.join(KINDS)}", "kind")
    if kind == "generative" and prompt_format not in PROMPT_FORMATS:
        fail(f"needs a prompt_format out of {', '.join(PROMPT_FORMATS)}")
    if kind == "encoder" and prompt_format is not None:
        fail("an encoder is asked without a prompt; leave out prompt_format", "prompt_format")
    if ("file" in fields) == ("repo" in fields or "checkpoint" in fields):
        fail("needs either a file, or a repo with files or a checkpoint")
    for key, needed in (("repo", "files"), ("files", "repo"), ("revision", "repo"), ("sha256", "file")):
        if key in fields and needed not in fields:
            fail(f"has a {key!r} without {needed!r}", key)
    files = {}
    for level, item in fields["files"].entries() if "files" in fields else ():
        if not _LEVEL.fullmatch(level.content):
            fail(f"{shorten(level.content)} is no quantization level; they are written like Q4_K_M", "files")
        what = f"model {name!r}: the file of {level.content}"
        of_file = item.fields(_FILE, what) if item.kind == "a mapping" else {"file": item.called(what)}
        files[level.content] = CataloguedFile(_file_name(of_file["file"]), _size(of_file), _sha256(of_file))
    if "files" in fields and not files:
        fail("files must map levels to file names", "files")
    default = _text(fields, "default_level")
    if default is not None and default not in files:
        fail(f"default_level {shorten(default)} is none of its files: {', '.join(files) or 'none'}", "default_level")
    checkpoint = None
    if "checkpoint" in fields:
        of_checkpoint = fields["checkpoint"].fields(_CHECKPOINT, f"model {name!r}: its checkpoint")
        checkpoint = Checkpoint(_repo(of_checkpoint) or "", _text(of_checkpoint, "revision"), _size(of_checkpoint))
    return CatalogueEntry(
        name=name,
        description=" ".join((_text(fields, "description") or "").split()),
        licence=" ".join((_text(fields, "licence") or "").split()),
        prompt_format=prompt_format,
        licence_url=_matching(fields, "licence_url", re.compile(r"https?://\S+"), "a link"),
        file=_file_name(fields["file"]) if "file" in fields else None,
        sha256=_sha256(fields),
        repo=_repo(fields),
        revision=_text(fields, "revision"),
        files=files,
        default_level=default,
        checkpoint=checkpoint,
    )


def _file_name(value: Node) -> str:
    text = value.name()
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or path.suffix != ".gguf":
        problem = f"{shorten(text)} is no file name: it must end in .gguf and stay inside its folder"
        raise value.error_inside(f"{value.what}: {problem}")
    return text


def _repo(fields: Mapping[str, Node]) -> str | None:
    return _matching(fields, "repo", _REPO, "owner/name")


def _size(fields: Mapping[str, Node]) -> str | None:
    return _matching(fields, "size", _SIZE, "written like 986 MB")


def _sha256(fields: Mapping[str, Node]) -> str | None:
    return _matching(fields, "sha256", _SHA256, "64 hexadecimal digits in small letters")


def _matching(fields: Mapping[str, Node], key: str, pattern: re.Pattern[str], form: str) -> str | None:
    text = _text(fields, key)
    if text is not None and not pattern.fullmatch(text):
        raise fields[key].error(f"{fields[key].what} must be {form}, not {shorten(text)}")
    return text


def _text(fields: Mapping[str, Node], key: str) -> str | None:
    return fields[key].name() if key in fields else None
