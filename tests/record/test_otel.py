"""Spans of entries, as an exporter gets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from archroute_edge.errors import SettingsError
from archroute_edge.record import Content, Entry, Spans, open_spans
from tests.record.entries import NOON, entry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


def spans(*entries: Entry) -> list[ReadableSpan]:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    with closing(Spans(exporter)) as sink:
        for each in entries:
            sink.add(each)
    return list(exporter.get_finished_spans())


def test_a_request_is_a_span_with_the_decision_and_one_of_each_try() -> None:
    from opentelemetry.trace import SpanKind

    first, second, gateway = spans(replace(entry(0), content=None))
    assert (gateway.name, gateway.kind, gateway.parent) == ("gateway auto", SpanKind.SERVER, None)
    assert gateway.start_time == int(NOON * 1e9)
    assert gateway.end_time == pytest.approx(int((NOON + 0.1155) * 1e9), abs=1000)
    said = dict(gateway.attributes or {})
    assert said["archroute.route"] == "bug_fixing"
    assert said["archroute.scores.other"] == 0.25
    assert said["archroute.expected_scores.openai/two"] == 0.875
    assert "archroute.expected_scores" not in said
    assert said["gen_ai.conversation.id"] == "ab" * 16
    assert said["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.0405)
    assert "archroute.shadow_of" not in said
    for child in (first, second):
        assert child.parent is not None and gateway.context is not None
        assert child.parent.span_id == gateway.context.span_id
        assert child.kind == SpanKind.CLIENT
    assert (first.name, first.status.is_ok, (first.attributes or {})["error.type"]) == (
        "chat openai/one",
        False,
        "server_error",
    )
    assert dict(second.attributes or {}) == {
        "archroute.model": "openai/two",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "two",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "two-2026",
        "gen_ai.response.time_to_first_chunk": 0.025,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "http.response.status_code": 200,
        "archroute.cost": 0.0125,
    }
    assert first.end_time == second.start_time


def test_a_failure_is_an_error_and_a_decision_alone_one_span() -> None:
    tries = entry().tries[:1]
    *_, failed = spans(entry(tries=tries, model=None, outcome="failed", status=502))
    assert not failed.status.is_ok
    assert (failed.attributes or {})["error.type"] == "server_error"
    [alone] = spans(Entry("a", NOON, "route", "completed", 200))
    assert (alone.name, alone.status.is_ok) == ("gateway", True)


def test_texts_are_exported_only_where_the_entry_has_them() -> None:
    content = Content('{"messages": [{"role": "user", "content": "my loop fails"}]}', "answer")
    *_, with_texts = spans(entry(content=content))
    messages = json.loads(str((with_texts.attributes or {})["gen_ai.input.messages"]))
    assert messages == [{"role": "user", "parts": [{"type": "text", "content": "my loop fails"}]}]
    assert not any("messages" in name or "body" in name for name in spans(entry(content=None))[-1].attributes or {})


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    yield


def test_the_service_has_a_name_that_variables_change(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spans(entry())[0].resource.attributes["service.name"] == "archroute-edge"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert spans(entry())[0].resource.attributes["service.name"] == "mine"


@pytest.mark.parametrize(("variable", "value"), [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")])
def test_variables_that_ask_for_what_there_is_not_are_errors(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable}={value}"):
        open_spans()


def test_without_the_extra_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archroute_edge.record._otel.find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"pip install 'archroute-edge\[otel\]'"):
        open_spans()
