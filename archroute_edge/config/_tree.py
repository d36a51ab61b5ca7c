"""The text of a file, YAML or JSON, to nodes that know their lines, within bounds that hold for files from strangers.

Nothing is constructed: a scalar keeps its text and how YAML 1.1 reads it, so ``yes`` and ``1.0`` are not lost.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from archroute_edge.config._node import Node, Source, shorten
from archroute_edge.errors import ConfigError

MAX_BYTES = 1 << 20
"""Largest file that is read, in bytes; 256 routes with long descriptions take a fifth of it."""
MAX_DEPTH = 64
"""Deepest nesting of lists and mappings."""
MAX_NODES = 50_000
"""Most values in a file, each use of a YAML anchor counted with all that stands below it."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_KINDS = {"str": "text", "value": "text", "merge": "text", "bool": "true or false", "int": "a number", "float": "a number"}
_KINDS.update(timestamp="a date", null="nothing")
_JSON_TEXT = re.compile(r'("(?:[^"\\]|\\.)*")(?:(\s+):)?')
"""A text and, if it is a key that does not end in its colon, what stands between the two."""
_NOT_OF_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufffe\uffff]")
"""Characters that texts of JSON may hold as they are."""


def read_text(path: Path) -> str:
    """Read a file that holds a configuration.

    Raises:
        ConfigError: missing, a folder, unreadable, too large, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("no such file", path=path) from None
    except IsADirectoryError:
        raise ConfigError("this is a folder, not a configuration file", path=path) from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot be read: {getattr(exc, 'strerror', None) or exc}", path=path) from exc
    _check_size(len(data), path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError("not UTF-8 text; save the file as UTF-8", path=path, line=line) from exc


def _check_size(size: int, path: Path | None) -> None:
    if size > MAX_BYTES:
        raise ConfigError(f"larger than the {MAX_BYTES:,} bytes that a configuration may have", path=path)


def parse_tree(text: str, *, path: Path | None = None) -> Node:
    """Parse one YAML or JSON document.

    Raises:
        ConfigError: malformed, empty, with a duplicate key or an unknown tag, or beyond the bounds of this module.
    """
    _check_size(len(text), path)
    text = text.removeprefix("\ufeff")
    is_json = _is_json(text, path)
    if is_json:
        text = _json_as_yaml(text)
    try:
        node = _BoundedLoader(text, path).get_single_node()
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
    return _Conversion(Source(path), is_json).convert(node)


def _json_as_yaml(text: str) -> str:
    """JSON without the tabs, characters and line ends that PyYAML refuses or folds, line for line."""
    text = _JSON_TEXT.sub(lambda found: found[1] + (f":{found[2]}" if found[2] else ""), text.replace("\t", " "))
    return _NOT_OF_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _is_json(text: str, path: Path | None) -> bool:
    is_json_file = path is not None and path.suffix.lower() == ".json"
    if not (is_json_file or text.lstrip().startswith(("{", "["))):
        return False
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", path=path) from None
    except json.JSONDecodeError as exc:
        if is_json_file and text.strip():
            raise ConfigError(f"malformed JSON: {exc.msg}", path=path, line=exc.lineno) from exc
        return False
    return True


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
    """PyYAML's nodes to ours; one that several aliases share is converted once."""

    def __init__(self, source: Source, is_json: bool) -> None:
        self._source = source
        self._is_json = is_json
        self._done: dict[int, Node] = {}

    def convert(self, node: yaml.Node) -> Node:
        if id(node) not in self._done:
            self._done[id(node)] = self._convert(node)
        return self._done[id(node)]

    def _convert(self, node: yaml.Node) -> Node:
        line, tag = node.start_mark.line + 1, node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode) and tag in _KINDS:
            text, kind = node.value, _KINDS[tag]
            if self._is_json and kind == "text" and node.style is None:
                # All texts of JSON have quotes. YAML 1.1 wants a dot and a sign in 1e3.
                kind = "a number"
            if any("\ud800" <= char <= "\udfff" for char in text):
                # JSON writes characters beyond U+FFFF as two escapes, which YAML takes for two characters.
                text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
            return Node(kind, text, line, self._source)
        if isinstance(node, yaml.SequenceNode) and tag == "seq":
            return Node("a list", tuple(self.convert(item) for item in node.value), line, self._source)
        if isinstance(node, yaml.MappingNode) and tag == "map":
            return Node("a mapping", self._entries(node), line, self._source)
        tag = shorten(node.tag.replace(_TAG, "!!"))
        raise self._source.error(f"the YAML tag {tag} is not allowed here", line, self._source.path)

    def _entries(self, node: yaml.MappingNode) -> tuple[tuple[Node, Node], ...]:
        own: dict[tuple[str, str], tuple[Node, Node]] = {}
        merged: dict[tuple[str, str], tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                line = key_node.start_mark.line + 1
                raise self._source.error("a key must be plain text, not a list or a mapping", line, self._source.path)
            key = self._convert(key_node)
            identity = (key.kind, key.content)
            if identity in own:
                first = own[identity][0].line
                raise key.error(f"the key {shorten(key.content)} appears twice in one mapping (first on line {first})")
            value = self.convert(value_node)
            own[identity] = (key, value)
            if key_node.tag == _MERGE:
                _merge(value, merged)
        if merged:
            own = {**merged, **{identity: entry for identity, entry in own.items() if identity[1] != "<<"}}
        return tuple(own.values())


def _merge(value: Node, into: dict[tuple[str, str], tuple[Node, Node]]) -> None:
    """YAML 1.1's ``<<``: earlier mappings win over later ones."""
    for source in value.content if value.kind == "a list" else (value,):
        if source.kind != "a mapping":
            raise source.error("'<<' merges a mapping or a list of mappings")
        for key, item in source.content:
            into.setdefault((key.kind, key.content), (key, item))
