"""The catalogue: which models can be called by name, and where their files come from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from archroute_edge.config import Document, Field, Value, read_text, shorten
from archroute_edge.config import Level as Keys
from archroute_edge.errors import ConfigError
from archroute_edge.models._levels import LEVELS
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.system import bundled_folder, own_folder

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
_FILE = Keys("a file of the catalogue", read=frozenset({"file", "size", "sha256"}))
_CHECKPOINT = Keys("a checkpoint of the catalogue", read=frozenset({"repo", "revision", "size"}))

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
    return Path(override) if override else own_folder("config") / "catalogue.yaml"


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
    text = read_text(path)
    if not text.strip():
        raise ConfigError("the catalogue is empty; it needs a mapping called 'models'", path=path)
    document = Document.parse(text, path=path)
    models = document.fields(document.root, _TOP).get("models")
    if models is None:
        raise document.error("the catalogue needs a mapping called 'models'", document.root.line)
    found = {}
    for key, value in document.entries(models.value, "'models'"):
        name = document.name(key, "the name of a model")
        if not _NAME.fullmatch(name) or name == "auto":
            message = f"{shorten(name)} cannot be a model's name: use letters, digits, '.', '_' and '-', and not 'auto'"
            raise document.error(message, key.line)
        found[name] = _EntryReader(document, name).read(value)
    return found


class _EntryReader:
    """Reads one entry; ``what`` in its messages begins with the model's name."""

    def __init__(self, document: Document, name: str) -> None:
        self._document = document
        self._name = name

    def read(self, value: Value) -> CatalogueEntry:
        line = value.line
        fields = self._document.fields(value, _ENTRY)
        kind, prompt_format = self._text(fields, "kind") or "generative", self._text(fields, "prompt_format")
        if kind not in KINDS:
            raise self._error(f"kind {shorten(kind)} is none of {', '.join(KINDS)}", fields["kind"].line)
        if kind == "generative" and prompt_format not in PROMPT_FORMATS:
            raise self._error(f"needs a prompt_format out of {', '.join(PROMPT_FORMATS)}", line)
        if kind == "encoder" and prompt_format is not None:
            raise self._error("an encoder is asked without a prompt; leave out prompt_format", fields["prompt_format"].line)
        if ("file" in fields) == ("repo" in fields or "checkpoint" in fields):
            raise self._error("needs either a file, or a repo with files or a checkpoint", line)
        for key, needed in (("repo", "files"), ("files", "repo"), ("revision", "repo"), ("sha256", "file")):
            if key in fields and needed not in fields:
                raise self._error(f"has a {key!r} without {needed!r}", fields[key].line)
        files = self._files(fields["files"].value) if "files" in fields else {}
        default = self._text(fields, "default_level")
        if default is not None and default not in files:
            message = f"default_level {shorten(default)} is none of its files: {', '.join(files) or 'none'}"
            raise self._error(message, fields["default_level"].line)
        file = self._text(fields, "file")
        return CatalogueEntry(
            name=self._name,
            description=" ".join((self._text(fields, "description") or "").split()),
            licence=" ".join((self._text(fields, "licence") or "").split()),
            prompt_format=prompt_format,
            licence_url=self._matching(fields, "licence_url", re.compile(r"https?://\S+"), "a link"),
            file=None if file is None else self._file_name(file, fields["file"].line),
            sha256=self._sha256(fields),
            repo=self._repo(fields),
            revision=self._text(fields, "revision"),
            files=files,
            default_level=default,
            checkpoint=self._checkpoint(fields["checkpoint"].value) if "checkpoint" in fields else None,
        )

    def _files(self, value: Value) -> dict[str, CataloguedFile]:
        found = {}
        for key, item in self._document.entries(value, f"model {self._name!r}: files"):
            if not _LEVEL.fullmatch(key.text):
                raise self._error(f"{shorten(key.text)} is no quantization level; they are written like Q4_K_M", key.line)
            if item.kind == "a mapping":
                fields = self._document.fields(item, _FILE)
                name = self._text(fields, "file")
            else:
                fields, name = {}, self._document.name(item, f"model {self._name!r}: the file of {key.text}")
            if name is None:
                raise self._error(f"{key.text} needs a file", key.line)
            found[key.text] = CataloguedFile(self._file_name(name, item.line), self._size(fields), self._sha256(fields))
        if not found:
            raise self._error("files must map levels to file names", value.line)
        return found

    def _checkpoint(self, value: Value) -> Checkpoint:
        fields = self._document.fields(value, _CHECKPOINT)
        repo = self._repo(fields)
        if repo is None:
            raise self._error("its checkpoint needs a repo", value.line)
        return Checkpoint(repo, self._text(fields, "revision"), self._size(fields))

    def _file_name(self, text: str, line: int) -> str:
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts or "\\" in text or path.suffix != ".gguf":
            raise self._error(f"{shorten(text)} is no file name: it must end in .gguf and stay inside its folder", line)
        return text

    def _repo(self, fields: Mapping[str, Field]) -> str | None:
        return self._matching(fields, "repo", _REPO, "owner/name")

    def _size(self, fields: Mapping[str, Field]) -> str | None:
        return self._matching(fields, "size", _SIZE, "written like 986 MB")

    def _sha256(self, fields: Mapping[str, Field]) -> str | None:
        return self._matching(fields, "sha256", _SHA256, "64 hexadecimal digits in small letters")

    def _matching(self, fields: Mapping[str, Field], key: str, pattern: re.Pattern[str], form: str) -> str | None:
        text = self._text(fields, key)
        if text is not None and not pattern.fullmatch(text):
            raise self._error(f"{key} must be {form}, not {shorten(text)}", fields[key].line)
        return text

    def _text(self, fields: Mapping[str, Field], key: str) -> str | None:
        return self._document.name(fields[key].value, f"model {self._name!r}: {key}") if key in fields else None

    def _error(self, message: str, line: int) -> ConfigError:
        return self._document.error(f"model {self._name!r}: {message}", line)
