"""The one reader of values from outside: what is right comes back, what is wrong is an error with its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from archroute_edge.config import Keys, Node, Source, parse_json, parse_tree
from archroute_edge.errors import ArchRouteError, ConfigError, ConversationError, RequestError

KEYS = Keys("a thing", read=frozenset({"name", "values"}), ignored=frozenset({"seen"}), needed=("name",), hints={"x": "no"})
Read = Callable[[Node], Any]


def fields(node: Node) -> dict[str, Node]:
    return node.fields(KEYS)


def values(node: Node) -> list[Node]:
    return fields(node)["values"].items()


def refused(message: str, place: object, _path: object) -> RequestError:
    return RequestError(f"{place}: {message}")


def of_request(value: Any, *, foreign: bool = False) -> Node:
    return Node.of(value, Source(foreign=foreign, error=refused), "it")


def of_file(text: str) -> Node:
    return parse_tree(f"# a file\n{text}", path=None).called("it")


SOUND: list[tuple[str, Any, Read, Any]] = [
    ("hello", "hello", Node.text, "hello"),
    ("''", "", Node.text, ""),
    ('"yes"', "yes", Node.name, "yes"),
    ("yes", True, Node.flag, True),
    ("Off", False, Node.flag, False),
    ("1_000", 1000, Node.number, 1000.0),
    ("-2.5e+3", -2500.0, Node.number, -2500.0),
    ("[a, b]", ["a", "b"], lambda node: [each.text() for each in node.items()], ["a", "b"]),
    ("{a: 1, b: c}", {"a": 1, "b": "c"}, lambda node: [key.content for key, _ in node.entries()], ["a", "b"]),
    ("{name: n, seen: [1], values: }", {"name": "n", "seen": [1], "values": None}, lambda node: [*node.fields(KEYS)], ["name"]),
    ('"\\ud83c\\udf89"', "\ud83c\udf89", Node.text, "🎉"),
]


@pytest.mark.parametrize(("text", "value", "read", "expected"), SOUND)
def test_what_is_right_comes_back(text: str, value: Any, read: Read, expected: Any) -> None:
    assert read(of_file(text)) == read(of_request(value)) == expected


WRONG: list[tuple[str, Any, Read, str]] = [
    ("[a]", ["a"], Node.text, "it must be text, not a list"),
    ("", None, Node.text, "it must be text, not nothing"),
    ("{a: b}", {"a": "b"}, Node.text, "it must be text, not a mapping"),
    ("''", "", Node.name, "it is empty"),
    ("' '", " ", Node.name, "it is empty"),
    ("'true'", "true", Node.flag, "it must be true or false, not text"),
    ("1", 1, Node.flag, "it must be true or false, not a number"),
    ("high", "high", Node.number, "it must be a number, not text"),
    ("yes", True, Node.number, "it must be a number, not true or false"),
    (".inf", float("inf"), Node.number, "it must be a finite decimal number"),
    ("x", "x", Node.items, "it must be a list, not text"),
    ("{a: b}", {"a": "b"}, Node.items, "it must be a list, not a mapping"),
    ("[a]", ["a"], lambda node: [*node.entries()], "it must be a mapping (key: value), not a list"),
    ("{'': a}", {"": "a"}, lambda node: [*node.entries()], "a key of it is empty"),
    ("[a]", ["a"], fields, "a thing must be a mapping (key: value), not a list"),
    ("{seen: 1}", {"seen": 1}, fields, "a thing without 'name'"),
    ("{name: }", {"name": None}, lambda node: fields(node)["name"].text(), "a thing: name must be text, not nothing"),
    ("{name: n, valeus: 1}", {"name": "n", "valeus": 1}, fields, "unknown key 'valeus' in a thing; did you mean 'values'?"),
    ("{name: n, Seen: 1}", {"name": "n", "Seen": 1}, fields, "unknown key 'Seen' in a thing; did you mean 'seen'?"),
    ("{name: n, q: 1}", {"name": "n", "q": 1}, fields, "unknown key 'q' in a thing; known here: name, values"),
    ("{name: n, x: 1}", {"name": "n", "x": 1}, fields, "unknown key 'x' in a thing; no"),
    ("{name: n, values: 1}", {"name": "n", "values": 1}, values, "thing 'n': values must be a list, not a number"),
    ("{name: [n]}", {"name": ["n"]}, lambda node: node.fields(KEYS)["name"].text(), "a thing: name must be text, not a list"),
]


@pytest.mark.parametrize(("text", "value", "read", "message"), WRONG)
def test_what_is_wrong_is_the_same_error_in_a_file_and_in_a_request(text: str, value: Any, read: Read, message: str) -> None:
    if text:
        with pytest.raises(ConfigError) as in_file:
            read(of_file(text))
        assert (in_file.value.message, in_file.value.line) == (message, 2)
    with pytest.raises(RequestError) as in_request:
        read(of_request(value))
    assert str(in_request.value).partition(": ")[2] == message


@pytest.mark.parametrize(
    ("text", "kind"), [("yes", "true or false"), ("No", "true or false"), ("1.0", "a number"), ("2024-05-01", "a date")]
)
def test_what_yaml_takes_for_something_else_has_to_be_quoted(text: str, kind: str) -> None:
    """A route called `no` is false to YAML 1.1, and it is nowhere to be seen."""
    with pytest.raises(ConfigError, match=f'YAML reads it as {kind}: write "{text}"'):
        of_file(text).text()
    with pytest.raises(ConfigError, match=f'a key of it must be text, but YAML reads it as {kind}: write "{text}"'):
        list(of_file(f"{{{text}: x}}").entries())


def test_half_a_character_is_an_error_in_a_file_and_replaced_in_a_request() -> None:
    """Files are written by people, and programs cut texts into halves."""
    with pytest.raises(ConfigError, match="lone surrogate"):
        of_file('"a\\ud83d"').text()
    assert of_request("a\ud83d").text() == "a\ufffd"


def test_an_error_has_its_line_or_its_path() -> None:
    text = "name: n\nvalues:\n  - [a,\n     1]\n"
    with pytest.raises(ConfigError) as in_file:
        of_file(text).fields(KEYS)["values"].items()[0].items()[1].text()
    assert in_file.value.line == 5
    with pytest.raises(RequestError, match=r"^values\.0\.1: "):
        of_request({"name": "n", "values": [["a", 1]]}).fields(KEYS)["values"].items()[0].items()[1].text()


def test_unknown_keys_of_another_program_are_noted_unless_they_are_slips() -> None:
    """Its later releases have keys that this one cannot know; a slip would cost what it was meant to say."""
    node = of_request({"name": "n", "later": 1, "seen": 2}, foreign=True)
    assert [*node.fields(KEYS)] == ["name"]
    assert [note.message for note in node.source.notes] == ["the key 'later' in a thing is ignored"]
    assert [(each.key, each.known) for each in node.source.ignored_keys()] == [("later", False), ("seen", True)]
    with pytest.raises(ArchRouteError, match="did you mean 'values'"):
        of_request({"name": "n", "value": 1}, foreign=True).fields(KEYS)
    assert of_request({"name": "n", "value": 1, "values": []}, foreign=True).fields(KEYS)["values"].items() == []


@pytest.mark.parametrize("value", [1.0, True, "1"])
def test_a_whole_number_is_no_other_kind_of_number(value: Any) -> None:
    assert of_request(1).whole() == 1
    with pytest.raises(ArchRouteError, match="a whole number"):
        of_request(value).whole()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "line 3: empty; expected JSON"),
        (b'[\n{"a": }]', "line 3:2: not JSON"),
        (b"\xff", r"line 3: not UTF-8 \(byte 0\)"),
        (b"[" * 100_000, "line 3: JSON that cannot be used: nested too deep"),
        (b"9" * 5000, "line 3: JSON that cannot be used: a number too long"),
        (b"NaN", "line 3:1: not JSON: NaN is no value of it"),
        (b'{"true": true, "NaN": "1e999",\n"a": [2e5,\n-Infinity]}', "line 3:3: not JSON: -Infinity is no value of it"),
        (b'[1.5,\n"1e999", -1e999]', "line 3:2: JSON that cannot be used: -1e999 is too large a number"),
        (
            b'{"a": {"b": 1},\n"b": 2, "c": ":",\n"\\u0061": 3}',
            r"line 3:3: .* 'a' appears twice in one object \(first on line 1\)",
        ),
        (b'[{"a": {"b": 1, "b": 1}}]', "line 3:1: JSON that cannot be used: the key 'b' appears twice in one object$"),
    ],
)
def test_what_is_no_json_is_an_error_with_its_place(raw: bytes, message: str) -> None:
    with pytest.raises(ConversationError, match=message):
        parse_json(raw, "line 3")


def test_what_others_judge_may_have_a_key_twice() -> None:
    assert parse_json(b'{"a": 1, "b": {"a": 2}, "a": 3}', "x", may_repeat=True) == {"a": 3, "b": {"a": 2}}
    with pytest.raises(ConversationError, match=r"^x:2: .* 1e999 is too large"):
        parse_json(b'{"a": 1,\n"a": 1e999}', "x", may_repeat=True)


def test_json_may_begin_with_a_byte_order_mark() -> None:
    assert parse_json(b"\xef\xbb\xbf[1]", "x") == [1]
