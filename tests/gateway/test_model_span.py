"""A body goes upstream byte for byte, but for the value of the top-level ``model``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archroute_edge.gateway._model_span import model_span, replace_model


def replaced(raw: bytes, model: str) -> bytes:
    span = model_span(raw)
    assert span is not None
    return replace_model(raw, span, model)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model": "auto", "messages": []}', b'{"model": "m", "messages": []}'),
        (b'\xef\xbb\xbf \n{ "model"\t:\r\n"auto" }', b'\xef\xbb\xbf \n{ "model"\t:\r\n"m" }'),
        (b'{"messages":[{"model":"auto"}],"model":"auto"}', b'{"messages":[{"model":"auto"}],"model":"m"}'),
        (b'{"mod\\u0065l":"auto"}', b'{"mod\\u0065l":"m"}'),
        (
            b'{"a":{"model":"x"},"\\u006D\\u006f\\u0064\\u0065\\u006C" : "auto"}',
            b'{"a":{"model":"x"},"\\u006D\\u006f\\u0064\\u0065\\u006C" : "m"}',
        ),
        (
            b'{"model":"auto","text":"\\u006dodel: \\"model\\":\\"x\\""}',
            b'{"model":"m","text":"\\u006dodel: \\"model\\":\\"x\\""}',
        ),
        (b'{"a":"model","model":"model"}', b'{"a":"model","model":"m"}'),
        (b'{"a":"say \\"model","model":"au\\"to\\\\"}', b'{"a":"say \\"model","model":"m"}'),
        (b'{"tools":{"properties":{"model":{"type":"string"}}},"model":"a"}',) * 1
        + (b'{"tools":{"properties":{"model":{"type":"string"}}},"model":"m"}',),
    ],
)
def test_only_the_model_changes(before: bytes, after: bytes) -> None:
    assert replaced(before, "m") == after


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"one","x":1.0e5,"model":"two"}',
        b'{"model":"one","a":{"model":1},"mode\\u006c":"two"}',
        b'{"model":5,"model":"two"}',
    ],
)
def test_two_models_are_none(raw: bytes) -> None:
    """Would break if an upstream read another of them than the one that was decided on."""
    assert model_span(raw) is None


@pytest.mark.parametrize("also", [b"", b'"b":{"model":1},'])
def test_a_long_body_is_looked_through_once(also: bytes) -> None:
    """Would break if what is tried anew at each quote, or at each backslash, made a body of megabytes take minutes."""
    raw = b'{"a":"' + b'\\"model\\" ' * 300_000 + b'",' + also + b'"model":"auto"}'
    assert replaced(raw, "m") == raw[:-7] + b'"m"}'


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='model"\\:{}[], é\u2028', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "a", "mod", '"model"']), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=100)
@given(
    others=st.dictionaries(st.text(alphabet='abmodel"\\', max_size=6).filter(lambda key: key != "model"), _VALUES, max_size=3),
    place=st.integers(0, 3),
    ascii_only=st.booleans(),
)
def test_any_body_parses_to_itself_with_another_model(others: dict[str, Any], place: int, ascii_only: bool) -> None:
    """A nested ``model``, one in a text, or one behind escapes must not be taken for it."""
    items = list(others.items())
    items.insert(place, ("model", "auto"))
    raw = json.dumps(dict(items), ensure_ascii=ascii_only).encode()
    changed = replaced(raw, 'new "one"')
    assert json.loads(changed) == {**dict(items), "model": 'new "one"'}
    assert len(changed) - len(raw) == len(json.dumps('new "one"')) - len('"auto"')
