"""Entries as OpenTelemetry spans: one of the gateway with the decision, and below it one of each try.

Attributes have the names of the record's columns. Those of generative AI are strings of ours, since no Python package has them
(open-telemetry/semantic-conventions-genai v0.1.0, docs/gen-ai).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from archroute_edge import __version__
from archroute_edge.errors import SettingsError
from archroute_edge.record import _rows as rows
from archroute_edge.record._entry import Entry, Try
from archroute_edge.record._export import turns_of
from archroute_edge.system import OwnProcess

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE: Final = "archroute-edge"
"""The service's name, unless ``OTEL_SERVICE_NAME`` or ``OTEL_RESOURCE_ATTRIBUTES`` has another."""
_END_S: Final = 5.0
# Where the conventions call a provider otherwise than configurations do.
_PROVIDERS: Final = {
    "amazon_bedrock": "aws.bedrock",
    "azure_openai": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "xai": "x_ai",
}
_MODULES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_ONCE: Final = (rows.TIME, rows.SCORES, rows.EXPECTED_SCORES, rows.DURATION)
"""Attributes that a span has otherwise, or in another form."""


def open_spans() -> Spans:
    """The sink that exports as the ``OTEL_*`` variables say.

    Raises:
        SettingsError: OpenTelemetry is not installed, or a variable asks for what there is not.
    """
    for module in _MODULES:
        if not _is_installed(module):
            raise SettingsError(f"--otel needs {module}, which is not installed: pip install 'archroute-edge[otel]'")
    return Spans(_exporter())


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def _exporter() -> SpanExporter | None:
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if wanted == "none":
        return None
    if wanted == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if wanted != "otlp":
        raise SettingsError(f"OTEL_TRACES_EXPORTER={wanted}: this program exports to otlp, console or none")
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(variable, "http/protobuf")
        if protocol != "http/protobuf":
            raise SettingsError(f"{variable}={protocol}: this program speaks http/protobuf alone")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


class Spans:
    """A sink that makes spans of entries and exports them on a thread of OpenTelemetry's, in batches.

    What waits is bounded (``OTEL_BSP_MAX_QUEUE_SIZE``); further spans are dropped. In a forked process it makes none.

    Args:
        exporter: takes the spans; None exports nothing.
    """

    def __init__(self, exporter: SpanExporter | None) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        self._process = OwnProcess()
        self._provider = TracerProvider(
            resource=Resource.create({} if named else {"service.name": SERVICE}), shutdown_on_exit=False
        )
        if exporter is not None:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE, __version__)

    def add(self, entry: Entry) -> None:
        """Take one more."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        if not self._process.is_this:
            return
        begin = entry.time
        # Without a parent: what else is traced in this thread has nothing to do with it.
        with_no_parent: Any = _no_context()
        span = self._tracer.start_span(
            f"gateway {entry.asked_model}" if entry.asked_model else "gateway",
            context=with_no_parent,
            kind=SpanKind.SERVER,
            attributes=_of_entry(entry),
            start_time=_nanoseconds(begin),
        )
        _set_status(span, entry.outcome == "failed", _last_error(entry))
        below, at = set_span_in_context(span, with_no_parent), begin + (entry.decision_ms or 0.0) / 1000
        for place, each in enumerate(entry.tries):
            answered = entry.model is not None and place == len(entry.tries) - 1
            child = self._tracer.start_span(
                f"chat {each.model}",
                context=below,
                kind=SpanKind.CLIENT,
                attributes=_of_try(each, entry if answered else None),
                start_time=_nanoseconds(at),
            )
            _set_status(child, each.error is not None, each.error)
            at += each.total_ms / 1000
            child.end(_nanoseconds(at))
        span.end(_nanoseconds(begin + entry.total_ms / 1000))

    def close(self) -> None:
        """Export what waits, and end; takes 5 s at most, for a collector that does not answer."""
        if self._process.is_this:
            ending = threading.Thread(target=self._provider.shutdown, name="archroute spans", daemon=True)
            ending.start()
            ending.join(_END_S)


def _of_entry(entry: Entry) -> Mapping[str, Any]:
    found = _known((each.name, each.get(entry)) for each in rows.REQUEST if each.name not in _ONCE)
    for route, score in (entry.scores or {}).items():
        found[f"{rows.SCORES}.{route}"] = score
    for model, score in (entry.expected_scores or {}).items():
        found[f"{rows.EXPECTED_SCORES}.{model}"] = score
    if entry.outcome == "failed":
        found[rows.ERROR] = _last_error(entry) or str(entry.status)
    if entry.content is not None:
        found["gen_ai.input.messages"] = json.dumps(
            [{"role": turn.role, "parts": [{"type": "text", "content": turn.content}]} for turn in turns_of(entry)],
            ensure_ascii=False,
        )
        found |= _known([(rows.ANSWER_BODY, entry.content.answer)])
    return found


def _of_try(one: Try, entry: Entry | None) -> Mapping[str, Any]:
    """Of the try that answered, also what its entry says of the answer."""
    found = _known((each.name, each.get(one)) for each in rows.TRY if each.name not in _ONCE)
    found |= {
        rows.OPERATION: "chat",
        rows.ASKED_MODEL: one.model.partition("/")[2] or one.model,
        rows.PROVIDER: _PROVIDERS.get(one.provider, one.provider),
    }
    if entry is not None:
        usage = entry.usage
        found |= _known(
            (
                (rows.STREAMED, entry.streamed),
                (rows.RESPONSE_MODEL, entry.response_model),
                (rows.INPUT_TOKENS, usage.input),
                (rows.OUTPUT_TOKENS, usage.output),
                (rows.CACHED_TOKENS, usage.cached),
                (rows.COST, entry.cost),
            )
        )
    return found


def _known(attributes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in attributes if value is not None}


def _last_error(entry: Entry) -> str | None:
    return entry.tries[-1].error if entry.tries else None


def _set_status(span: Any, is_error: bool, why: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    if is_error:
        span.set_status(Status(StatusCode.ERROR, why))


def _no_context() -> Any:
    from opentelemetry.context import Context

    return Context()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
