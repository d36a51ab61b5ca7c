"""YAML or JSON text to a tree that knows its lines, within bounds that hold for files from strangers.

Nothing is constructed: a scalar keeps its text and how YAML 1.1 reads it, so ``yes`` and ``1.0`` are not lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from archroute_edge.config._source_text import MAX_BYTES, MAX_DEPTH, json_as_yaml
from archroute_edge.errors import ConfigError

MAX_NODES = 50_000
"""Most values in a file, each use of a YAML anchor counted with all that stands below it."""

_KINDS = {
    "tag:yaml.org,2002:str": "text",
    "tag:yaml.org,2002:value": "text",
    "tag:yaml.org,2002:merge": "text",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:null": "nothing",
}
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Scalar:
    """A value without parts: its text, and ``kind``, how YAML 1.1 reads it."""

    line: int
    kind: str
    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    line: int
    values: tuple[Value, ...]
    kind: str = "a list"


@dataclass(frozen=True)
class Entries:
    """A mapping: keys with their lines, and values."""

    line: int
    keys: tuple[Scalar, ...]
    values: tuple[Value, ...]
    kind: str = "a mapping"


Value = Scalar | Items | Entries


def parse_tree(text: str, *, path: Path | None = None) -> Value:
    """Parse one YAML or JSON document.

    Raises:
        ConfigError: malformed, empty, with a duplicate key or an unknown tag, or beyond the bounds of this module.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"larger than the {MAX_BYTES:,} bytes that a configuration may have", path=path)
    text = json_as_yaml(text.removeprefix("\ufeff"), path)
    try:
        loader = _BoundedLoader(text, path)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise ConfigError(_yaml_problem(exc), path=path, line=mark.line + 1 if mark else None) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise ConfigError("a character that text files may not hold; remove it", path=path, line=line) from exc
    except (ValueError, OverflowError) as exc:
        # PyYAML turns an escape such as "\UFFFFFFFF" into a character without checking that there is one.
        raise ConfigError("malformed YAML: an escape that names no character", path=path) from exc
    if node is None:
        raise ConfigError("the file is empty; write at least one route under 'routing_preferences'", path=path)
    return _Conversion(path).convert(node)


def _yaml_problem(exc: yaml.MarkedYAMLError) -> str:
    if exc.context == "expected a single document in the stream":
        return "more than one YAML document in the file; keep one"
    problem = " ".join((exc.problem or exc.context or "cannot be parsed").split())
    return f"malformed YAML: {problem}"


class _BoundedLoader(yaml.SafeLoader):
    """Composes nodes, counting what aliases stand for before anything expands them."""

    def __init__(self, text: str, path: Path | None) -> None:
        super().__init__(text)
        self._path = path
        self._depth = 0
        self._count = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        before = self._count
        self._count += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", path=self._path, line=line)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise ConfigError(f"the anchor {event.anchor!r} contains itself", path=self._path, line=line)
            self._count += self._sizes[id(node)]
        else:
            self._sizes[id(node)] = self._count - before
        if self._count > MAX_NODES:
            message = f"more than {MAX_NODES:,} values, uses of YAML anchors counted in full"
            raise ConfigError(message, path=self._path, line=line)
        self._depth -= 1
        return node


class _Conversion:
    """Nodes to values; a node that several aliases share is converted once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._done: dict[int, Value] = {}

    def convert(self, node: yaml.Node) -> Value:
        if id(node) not in self._done:
            self._done[id(node)] = self._convert(node)
        return self._done[id(node)]

    def _convert(self, node: yaml.Node) -> Value:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return Items(line, tuple(self.convert(item) for item in node.value))
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node)
        raise self._unknown_tag(node)

    def _scalar(self, node: yaml.ScalarNode) -> Scalar:
        if node.tag not in _KINDS:
            raise self._unknown_tag(node)
        text = node.value
        if any("\ud800" <= char <= "\udfff" for char in text):
            # JSON writes characters beyond U+FFFF as two escapes, which YAML takes for two characters.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return Scalar(node.start_mark.line + 1, _KINDS[node.tag], text)

    def _mapping(self, node: yaml.MappingNode) -> Entries:
        own: dict[tuple[str, str], tuple[Scalar, Value]] = {}
        merged: dict[tuple[str, str], tuple[Scalar, Value]] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError("a key must be plain text, not a list or a mapping", path=self._path, line=line)
            key = self._scalar(key_node)
            identity = (key.kind, key.text)
            if identity in own:
                first = own[identity][0].line
                message = f"the key {shorten(key.text)} appears twice in one mapping (first on line {first})"
                raise ConfigError(message, path=self._path, line=line)
            value = self.convert(value_node)
            own[identity] = (key, value)
            if key_node.tag == _MERGE:
                self._merge(value, merged)
        if merged:
            own = {**merged, **{identity: entry for identity, entry in own.items() if identity[1] != "<<"}}
        entries = tuple(own.values())
        return Entries(node.start_mark.line + 1, tuple(key for key, _ in entries), tuple(value for _, value in entries))

    def _merge(self, value: Value, into: dict[tuple[str, str], tuple[Scalar, Value]]) -> None:
        """YAML 1.1's ``<<``: earlier mappings win over later ones."""
        for source in value.values if isinstance(value, Items) else (value,):
            if not isinstance(source, Entries):
                message = "'<<' merges a mapping or a list of mappings"
                raise ConfigError(message, path=self._path, line=source.line)
            for key, item in zip(source.keys, source.values, strict=True):
                into.setdefault((key.kind, key.text), (key, item))

    def _unknown_tag(self, node: yaml.Node) -> ConfigError:
        tag = shorten(node.tag.replace("tag:yaml.org,2002:", "!!"))
        return ConfigError(f"the YAML tag {tag} is not allowed here", path=self._path, line=node.start_mark.line + 1)


def shorten(text: str) -> str:
    """A name as messages show it: quoted, escaped, on one line and of bounded length."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
