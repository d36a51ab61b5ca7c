"""A value from outside that knows its place: asked for what it has to be, it gives that, or an error with the place.

The one reader of everything that is not Python: configurations, the catalogue, labelled cases, routes and options of requests.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archroute_edge.config._schema import Advice, IgnoredKey
from archroute_edge.conversation import replace_surrogates
from archroute_edge.errors import ArchRouteError, ConfigError

_SLIP = 0.83
"""How alike an unknown key and one that is read must be to count as a slip: one letter swapped, left out or added."""
_TRUE = ("true", "yes", "on")
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}
_KINDS.update({list: "a list", dict: "a mapping"})

Place = int | str | None
"""A line of a file, counted from 1, or the path of a value in a request, such as ``0.name``."""


@dataclass(frozen=True)
class Keys:
    """The keys of one kind of mapping.

    Args:
        what: what the mapping is, for messages: "a route", or "the configuration".
        read: keys that are read.
        ignored: keys that other programs read.
        needed: keys that have to be there.
        others: whether any other key may stand there, too.
        hints: keys that people are likely to write, and what to know about them.
        strict: whether an unknown key is an error in another program's file, too, since no other program reads the mapping.
    """

    what: str
    read: frozenset[str]
    ignored: frozenset[str] = frozenset()
    needed: tuple[str, ...] = ()
    hints: dict[str, str] = field(default_factory=dict)
    others: bool = False
    strict: bool = False

    def meant(self, key: str) -> str | None:
        """The key that is read and that an unknown one is a slip of the pen of, if it is so close to one."""
        return next(iter(difflib.get_close_matches(key, self.read, n=1, cutoff=_SLIP)), None)

    def hint(self, key: str) -> str:
        """What to know about an unknown key, as the end of a sentence; nothing about most."""
        return f"; {self.hints[key]}" if key in self.hints else ""

    def suggestion(self, key: str) -> str:
        """What to write in place of an unknown key, as the end of a sentence."""
        if key in self.hints:
            return self.hint(key)
        close = difflib.get_close_matches(key.lower(), sorted(self.read) + sorted(self.ignored), n=1)
        known = f"known here: {', '.join(sorted(self.read))}" if self.read else "there are none"
        return f"; did you mean {close[0]!r}?" if close else f"; {known}"


def _config_error(message: str, place: Place, path: Path | None) -> ArchRouteError:
    return ConfigError(message, path=path, line=place if isinstance(place, int) else None)


@dataclass
class Source:
    """A file or a request that nodes come from.

    Args:
        path: the file.
        foreign: whether it is another program's, which grows with each release of that program: a key that is not known
            there is noted and passed over. In ours it is an error.
        error: makes an error of a message, a place and ``path``.
    """

    path: Path | None = None
    foreign: bool = False
    error: Callable[[str, Place, Path | None], ArchRouteError] = _config_error
    notes: list[Advice] = field(default_factory=list)
    """What reading had to decide."""
    _ignored: dict[tuple[str, str], dict[Place, IgnoredKey]] = field(default_factory=dict)

    def pass_over(self, key: Node, keys: Keys, present: dict[str, Node]) -> None:
        """Note a key that is not read.

        Raises:
            ArchRouteError: it is not known: any in our own format; in another program's a slip of one that is not there.
        """
        name, is_known = str(key.content), key.content in keys.ignored
        if not is_known:
            what, meant = f"{shorten(name)} in {keys.what}", keys.meant(name)
            if not self.foreign or keys.strict or (meant is not None and meant not in present):
                raise key.error(f"unknown key {what}{keys.suggestion(name)}")
            if (keys.what, name) not in self._ignored:
                # One warning for a key that stands under hundreds of models.
                self.notes.append(Advice(f"the key {what} is ignored{keys.hint(name)}", line=key.line))
        places = self._ignored.setdefault((keys.what, name), {})
        places[key.place] = IgnoredKey(name, keys.what, key.line or 0, is_known)

    def ignored_keys(self) -> tuple[IgnoredKey, ...]:
        """The keys that were passed over so far, in the order of their lines."""
        return tuple(sorted((key for places in self._ignored.values() for key in places.values()), key=lambda key: key.line))


@dataclass(frozen=True, eq=False)
class Node:
    """A value and its place. What is asked for and is not there is an error of :attr:`source`.

    Args:
        kind: "text", "a list", "a mapping" and so on; of a scalar in a file, how YAML 1.1 reads it.
        content: of a scalar in a file its text, whatever the kind; of a list or mapping its nodes or plain values; else the
            plain value.
        place: where it stands.
        source: what it comes from.
        what: what it is, for messages.
        at: where its key stands, if it has one.
    """

    kind: str
    content: Any
    place: Place
    source: Source
    what: str = "the value"
    at: Place = None

    @classmethod
    def of(cls, value: Any, source: Source, what: str, place: str = "") -> Node:
        """A JSON value of a request; lone surrogates, which some clients cut texts into, become U+FFFD."""
        if isinstance(value, str) and not value.isascii():
            value = replace_surrogates(value)
        return cls(_KINDS.get(type(value), f"a {type(value).__name__}"), value, place, source, what, place)

    @property
    def line(self) -> int | None:
        """Its line, or its key's; None in a request."""
        place = self.place if self.at is None else self.at
        return place if isinstance(place, int) else None

    @property
    def is_nothing(self) -> bool:
        """Whether it is a null, or the blank space behind a key."""
        return self.kind == "nothing"

    def called(self, what: str) -> Node:
        """It under another name, for messages."""
        return replace(self, what=what)

    def error(self, message: str) -> ArchRouteError:
        """An error about this value, at its key if it has one."""
        return self.source.error(message, self.place if self.at is None else self.at, self.source.path)

    def error_inside(self, message: str) -> ArchRouteError:
        """An error about what stands in this value, at the value's own beginning."""
        return self.source.error(message, self.place, self.source.path)

    def wrong(self, expected: str) -> ArchRouteError:
        """An error that says what it has to be instead of what it is."""
        return self.error_inside(f"{self.what} must be {expected}, not {self.kind}")

    def entries(self) -> Iterator[tuple[Node, Node]]:
        """Keys and values of a mapping; a key is a text that is not blank."""
        if self.kind != "a mapping":
            raise self.wrong("a mapping (key: value)")
        pairs = self.content
        if isinstance(pairs, dict):
            # A place is sent back, so it has no half characters either.
            places = {key: f"{self.place}.{replace_surrogates(str(key)[:60])}".lstrip(".") for key in pairs}
            pairs = [
                (Node.of(key, self.source, "", places[key]), Node.of(value, self.source, "", places[key]))
                for key, value in pairs.items()
            ]
        for key, value in pairs:
            key.called(f"a key of {self.what}").name()
            yield key, replace(value, what=str(key.content), at=key.place)

    def fields(self, keys: Keys, own: str = "") -> dict[str, Node]:
        """The entries that are read; those that other programs read are left out, and so are empty ones.

        Args:
            keys: which there may be.
            own: what this mapping is, for messages; said of ``keys`` and with its ``name`` by default.

        Raises:
            ArchRouteError: not a mapping, a key that is needed and missing, or one that is not known.
        """
        entries = list(self.called(keys.what).entries())
        found = {key.content: value for key, value in entries}
        for key, _ in entries:
            if key.content not in keys.read and not keys.others:
                self.source.pass_over(key, keys, found)
        for needed in keys.needed:
            if needed not in found:
                place = self.place if isinstance(self.place, int) else f"{self.place or ''}.{needed}".lstrip(".")
                raise self.source.error(f"{own or keys.what} without {needed!r}", place, self.source.path)
        found = {
            key: value for key, value in found.items() if key in keys.read and (not value.is_nothing or key in keys.needed)
        }
        if own or keys.what.startswith("a "):
            name = found.get("name")
            if not own:
                own = f"{keys.what[2:]} {shorten(name.content)}" if name is not None and name.kind == "text" else keys.what
            found = {key: value.called(f"{own}: {key}") for key, value in found.items()}
        return found

    def items(self, what: str = "") -> list[Node]:
        """The values of a list; ``what`` says what each is."""
        if self.kind != "a list":
            raise self.wrong("a list")
        found = self.content
        if isinstance(found, list):
            found = [Node.of(each, self.source, "", f"{self.place}.{index}".lstrip(".")) for index, each in enumerate(found)]
        return [each.called(what or self.what) for each in found]

    def text(self) -> str:
        """A text; what YAML 1.1 reads as something else has to be quoted."""
        if self.kind != "text":
            if isinstance(self.content, str) and not self.is_nothing:
                kind, quoted = self.kind, f'"{self.content[:80]}"'
                raise self.error_inside(f"{self.what} must be text, but YAML reads it as {kind}: write {quoted}")
            raise self.wrong("text")
        if any("\ud800" <= char <= "\udfff" for char in self.content):
            raise self.error_inside(f"{self.what} holds a lone surrogate, which is not valid Unicode")
        return str(self.content)

    def name(self) -> str:
        """A text that is not blank."""
        text = self.text()
        if not text.strip():
            raise self.error_inside(f"{self.what} is empty")
        return text

    def secret(self) -> str:
        """A text that is not blank and stands in no message."""
        if self.kind != "text":
            raise self.wrong("text in quotes")
        return self.name()

    def flag(self) -> bool:
        """True or false; a quoted "true" is neither."""
        if self.kind != "true or false":
            raise self.wrong("true or false")
        return self.content.lower() in _TRUE if isinstance(self.content, str) else bool(self.content)

    def number(self) -> float:
        """A finite number."""
        if self.kind != "a number":
            raise self.wrong("a number")
        try:
            number = float(self.content.replace("_", "") if isinstance(self.content, str) else self.content)
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.error_inside(f"{self.what} must be a finite decimal number")
        return number

    def whole(self) -> int:
        """A whole number of a request."""
        if type(self.content) is not int:
            raise self.wrong("a whole number")
        return self.content


def shorten(text: str) -> str:
    """A name as messages show it: quoted, escaped, on one line and of bounded length."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
