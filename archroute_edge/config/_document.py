"""A parsed file, asked for values of a given type; whatever is of another type becomes an error with its line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from archroute_edge.config._known_keys import Level
from archroute_edge.config._schema import Advice, IgnoredKey
from archroute_edge.config._yaml_tree import Entries, Items, Scalar, Value, parse_tree, shorten
from archroute_edge.errors import ConfigError

_TRUE = {"true", "yes", "on"}


@dataclass(frozen=True)
class Field:
    """A value and the line of the key that it stands under."""

    line: int
    value: Value


@dataclass(frozen=True)
class Document:
    """One file: its tree, and where it came from.

    Args:
        root: the tree.
        path: the file.
        foreign: whether it is another program's file, which grows with each release of that program: a key that
            is not known there is noted and passed over. In ours it is an error.
        notes: what reading it had to decide; grows while it is read.
        ignored: the keys that were passed over, by their place and line; grows while it is read.
    """

    root: Value
    path: Path | None = None
    foreign: bool = False
    notes: list[Advice] = field(default_factory=list, compare=False, repr=False)
    ignored: dict[tuple[str, str], dict[int, IgnoredKey]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, *, path: Path | None = None) -> Document:
        """Parse YAML or JSON text.

        Raises:
            ConfigError: see :func:`~archroute_edge.config.parse_tree`.
        """
        return cls(parse_tree(text, path=path), path)

    def error(self, message: str, line: int | None) -> ConfigError:
        """An error at a line of this file."""
        return ConfigError(message, path=self.path, line=line)

    def fields(self, value: Value, level: Level) -> dict[str, Field]:
        """The entries of a mapping that are read; those that other programs read are left out, and so are empty ones.

        Raises:
            ConfigError: not a mapping, or an unknown key: any in our own format; in another program's one that
                is a slip of a key that is read and not there.
        """
        found: dict[str, Field] = {}
        entries = self.entries(value, level.what)
        present = {key.text for key, _ in entries}
        for key, item in entries:
            if key.text not in level.read:
                self._pass_over(key, level, present)
            elif not _is_nothing(item):
                found[key.text] = Field(key.line, item)
        return found

    def _pass_over(self, key: Scalar, level: Level, present: set[str]) -> None:
        known = level.knows(key.text)
        if not known:
            what = f"{shorten(key.text)} in {level.what}"
            meant = level.meant(key.text)
            if not self.foreign or (meant is not None and meant not in present):
                advice = level.remark(key.text) or level.suggestion(key.text)
                raise self.error(f"unknown key {what}{advice}", key.line)
            if (level.what, key.text) not in self.ignored:
                # One warning for a key that stands under hundreds of models.
                self.notes.append(Advice(f"the key {what} is ignored{level.remark(key.text)}", line=key.line))
        lines = self.ignored.setdefault((level.what, key.text), {})
        lines[key.line] = IgnoredKey(key.text, level.what, key.line, known)

    def ignored_keys(self) -> tuple[IgnoredKey, ...]:
        """The keys that were passed over so far, in the order of their lines."""
        return tuple(sorted((key for lines in self.ignored.values() for key in lines.values()), key=lambda key: key.line))

    def entries(self, value: Value, what: str) -> list[tuple[Scalar, Value]]:
        """The entries of a mapping whose keys are text that is not blank.

        Raises:
            ConfigError: not a mapping, or a key that is blank or that YAML does not read as text.
        """
        if not isinstance(value, Entries):
            raise self.error(f"{what} must be a mapping (key: value), not {value.kind}", value.line)
        for key in value.keys:
            self.name(key, f"a key of {what}")
        return list(zip(value.keys, value.values, strict=True))

    def items(self, value: Value, what: str) -> tuple[Value, ...]:
        """The values of a list.

        Raises:
            ConfigError: not a list.
        """
        if not isinstance(value, Items):
            raise self.error(f"{what} must be a list, not {value.kind}", value.line)
        return value.values

    def text(self, value: Value, what: str) -> str:
        """A text.

        Raises:
            ConfigError: not text, text that YAML 1.1 reads as something else and that has to be quoted, or not Unicode.
        """
        if not isinstance(value, Scalar) or value.kind == "nothing":
            raise self.error(f"{what} must be text, not {value.kind}", value.line)
        if value.kind != "text":
            quoted = f'"{value.text[:80]}"'
            raise self.error(f"{what} must be text, but YAML reads it as {value.kind}: write {quoted}", value.line)
        if any("\ud800" <= char <= "\udfff" for char in value.text):
            raise self.error(f"{what} holds a lone surrogate, which is not valid Unicode", value.line)
        return value.text

    def name(self, value: Value, what: str) -> str:
        """A text that is not blank.

        Raises:
            ConfigError: not text, or blank.
        """
        text = self.text(value, what)
        if not text.strip():
            raise self.error(f"{what} is empty", value.line)
        return text

    def flag(self, value: Value, what: str) -> bool:
        """True or false.

        Raises:
            ConfigError: anything else, a quoted "true" included.
        """
        if not isinstance(value, Scalar) or value.kind != "true or false":
            raise self.error(f"{what} must be true or false, not {value.kind}", value.line)
        return value.text.lower() in _TRUE

    def number(self, value: Value, what: str) -> float:
        """A finite number.

        Raises:
            ConfigError: anything else.
        """
        if isinstance(value, Scalar) and value.kind == "a number":
            try:
                number = float(value.text.replace("_", ""))
            except ValueError:
                number = math.nan
            if math.isfinite(number):
                return number
            raise self.error(f"{what} must be a finite decimal number", value.line)
        raise self.error(f"{what} must be a number, not {value.kind}", value.line)


def _is_nothing(value: Value) -> bool:
    return isinstance(value, Scalar) and value.kind == "nothing"
