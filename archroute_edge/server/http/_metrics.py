"""What ``/metrics`` shows, in Prometheus' text format. Texts that a client chooses are never a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from archroute_edge.decision import Decision
from archroute_edge.record import Entry
from archroute_edge.routing import RoutingService

INLINE = "inline"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ANSWER_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_PHASES = ("total", "wait", "prompt", "evaluate", "score")
_TOKENS = ("prompt", "reused", "evaluated", "answer")


class Metrics:
    """Counters of one server, apart from any other in the process.

    Args:
        service: asked for its own figures whenever they are read.
        paths: the paths that requests are counted by; all others are counted together.
    """

    def __init__(self, service: RoutingService, paths: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self._paths = frozenset(paths)
        counter = partial(Counter, registry=self.registry)
        self._requests = counter("archroute_http_requests", "Answers by path and status.", ("path", "status"))
        self._decisions = counter(
            "archroute_decisions",
            "Decisions by route; those on routes that came with a request are counted together.",
            ("table", "route"),
        )
        self._engines = counter("archroute_engine_decisions", "Decisions by the library that evaluated.", ("engine",))
        self._fallbacks = counter("archroute_fallbacks", "Decisions in which the fallback stood in.", ("reason",))
        self._tokens = counter("archroute_tokens", "Tokens of decisions.", ("kind",))
        self._timeouts = counter("archroute_timeouts", "Requests given up at the time limit.")
        self._pinned = counter("archroute_pinned_decisions", "Requests answered with an earlier decision of their session.")
        self._reloads = counter("archroute_config_reloads", "New configurations, taken or refused.", ("outcome",))
        self._seconds = Histogram(
            "archroute_decision_seconds", "Time by phase.", ("phase",), buckets=_SECONDS, registry=self.registry
        )
        self._forwarded = counter(
            "archroute_forwarded_requests", "Forwarded requests by model and status.", ("model", "status")
        )
        self._tries = counter("archroute_forward_tries", "Tries of targets by how they ended.", ("model", "outcome"))
        self._first_byte = Histogram(
            "archroute_forward_first_byte_seconds",
            "From a request to the first byte of its answer.",
            ("model",),
            buckets=_ANSWER_SECONDS,
            registry=self.registry,
        )
        self.sessions = Gauge("archroute_affinity_sessions", "Sessions remembered.", registry=self.registry)
        # So that rates are 0 and not missing until the first of a kind.
        for phase in _PHASES:
            self._seconds.labels(phase)
        for kind in _TOKENS:
            self._tokens.labels(kind)
        for outcome in ("taken", "refused"):
            self._reloads.labels(outcome)
        self.registry.register(_ServiceCollector(service))
        ProcessCollector(registry=self.registry)

    def answered(self, path: str, status: int) -> None:
        """Count an answer to a request."""
        self._requests.labels(path if path in self._paths else "other", str(status)).inc()

    def decided(self, decision: Decision, *, is_inline: bool) -> None:
        """Count a decision, on the server's own routes or on inline ones."""
        table, route = (INLINE, INLINE) if is_inline else ("config", decision.route)
        self._decisions.labels(table, route).inc()
        if decision.engine is not None:
            self._engines.labels(decision.engine).inc()
        if decision.reason is not None:
            self._fallbacks.labels(decision.reason).inc()
        for phase in _PHASES:
            self._seconds.labels(phase).observe(getattr(decision.timings, f"{phase}_ms") / 1000)
        for kind in _TOKENS:
            self._tokens.labels(kind).inc(getattr(decision.tokens, kind))

    def forwarded(self, entry: Entry, label: Callable[[str], str]) -> None:
        """Count a forwarded request that has ended; copies to shadow models count as tries alone."""
        for each in entry.tries:
            self._tries.labels(label(each.model), each.error or "answered").inc()
        if entry.shadow_of is not None:
            return
        last = label(entry.tries[-1].model) if entry.tries else "none"
        self._forwarded.labels(last, str(entry.status)).inc()
        if entry.first_byte_ms is not None:
            self._first_byte.labels(last).observe(entry.first_byte_ms / 1000)

    def timed_out(self) -> None:
        """Count a request given up at the time limit."""
        self._timeouts.inc()

    def pinned(self) -> None:
        """Count a decision that was repeated for its session."""
        self._pinned.inc()

    def reloaded(self, *, taken: bool) -> None:
        """Count a new configuration."""
        self._reloads.labels("taken" if taken else "refused").inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)


class ForwardedMetrics:
    """Counts entries of forwarded requests.

    Args:
        metrics: counts.
        label: what stands for a model; a name that a client has chosen does not.
    """

    def __init__(self, metrics: Metrics, label: Callable[[str], str]) -> None:
        self._metrics = metrics
        self._label = label

    def add(self, entry: Entry) -> None:
        """Count one."""
        if entry.operation != "route":
            self._metrics.forwarded(entry, self._label)


class _ServiceCollector(Collector):
    """The service's own figures, as they are when asked."""

    def __init__(self, service: RoutingService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        stats = self._service.stats()
        yield GaugeMetricFamily("archroute_queue_waiting", "Requests that wait.", value=stats.waiting)
        yield GaugeMetricFamily("archroute_running", "Decisions being made.", value=stats.running)
        for name, text, value in (
            ("archroute_queue_refused", "Requests that found the queue full.", stats.refused),
            ("archroute_deadlines", "Decisions answered at their deadline.", stats.deadlines),
            ("archroute_cancelled", "Requests called off, such as by a client that went away.", stats.cancelled),
            ("archroute_warmups", "Warm-ups finished.", stats.warmed),
            ("archroute_warmups_preempted", "Warm-ups stopped by a decision.", stats.preempted),
            ("archroute_evictions", "Sequences that gave way to others in the KV cache.", stats.evictions),
        ):
            yield CounterMetricFamily(name, text, value=value)
