"""Requests made up from the server's own OpenAPI document, and decisions on made-up routes: nothing may break it.

    python -m tools.measure.server_fuzz --cases 2000
    python -m tools.measure.server_fuzz --cases 1000 --path '/v1/(systemone|decisions)'

Starts ``archroute serve`` with the bundled model. Half of the requests that schemathesis makes follow the document, half break
it. These count as failures: answers that the document does not describe, broken requests that are accepted, any 5xx except the
documented 503, and routes that are in no table. The exit code is 1 if there is a failure.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.conversation import Turn
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.routes import OTHER, Route, RouteTable
from tools.measure.server_process import ServerProcess

_CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
_MODES = ("positive", "negative")
_MOST_SHOWN = 20
# A request without a body has hardly anything to vary.
_CASES_WITHOUT_BODY = 4
# Dozens of made-up options are texts that no encoder has seen before, and the machine may be busy.
_TIMEOUT_S = 120

Report = Callable[[str], None]


@dataclass
class Findings:
    """The findings of a run."""

    cases: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def count(self, what: str, status: int) -> None:
        """Count an answer; 5xx is a failure unless it is the documented 503."""
        self.cases += 1
        self.statuses[str(status)] += 1
        if status >= 500 and status != 503:
            self.failures.append(f"{what}: answered with {status}")

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "cases": self.cases,
            "statuses": dict(sorted(self.statuses.items())),
            "failures": len(self.failures),
            "examples": self.failures[:_MOST_SHOWN],
        }


def fuzz_document(
    address: str, cases: int, seed: int, findings: Findings, report: Report = lambda _what: None, path: str = ""
) -> None:
    """At least ``cases`` requests from the document at ``address``, sent there; failures go into ``findings``.

    Only to paths in which the pattern ``path`` is found.
    """
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", timeout=_TIMEOUT_S).include(path_regex=path)
    # A stream has no end that could be waited for.
    operations = [
        result.ok() for result in schema.exclude(path_regex="/stream$").get_all_operations() if isinstance(result, Ok)
    ]
    with_body = [operation for operation in operations if operation.method == "post"]
    share = -(-cases // (2 * len(with_body)))
    for operation in operations:
        has_body = operation in with_body
        for mode in _MODES:
            if not has_body and mode == "negative":
                continue
            send = partial(_send, address, f"{operation.method.upper()} {operation.path} {mode}", findings, report)
            _run(
                operation.as_strategy(generation_mode=GenerationMode(mode)),
                send,
                share if has_body else _CASES_WITHOUT_BODY,
                seed,
            )


def _send(address: str, what: str, findings: Findings, report: Report, case: schemathesis.Case[Any]) -> None:
    response = case.call(base_url=address, timeout=_TIMEOUT_S)
    findings.count(what, response.status_code)
    report("from the document")
    try:
        case.validate_response(response, checks=_CHECKS)
    except FailureGroup as group:
        findings.failures += [f"{what}: {failure.title}: {failure.message}" for failure in group.exceptions]


_TEXTS = st.text(min_size=1, max_size=30).filter(lambda text: bool(text.strip()))
_TABLES = st.lists(st.tuples(_TEXTS, st.text(max_size=30)), min_size=1, max_size=6).map(
    lambda pairs: RouteTable(Route(f"{number}{name}", text) for number, (name, text) in enumerate(pairs))
)
_TURNS = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), _TEXTS), max_size=4).map(
    lambda turns: (*turns, Turn("user", "go on"))
)


def fuzz_decisions(address: str, cases: int, seed: int, findings: Findings, report: Report = lambda _what: None) -> None:
    """``cases`` conversations on made-up routes, by each way to ask in turn: always a route of the table."""
    formats = list(PROMPT_FORMATS.values())
    with httpx.Client(base_url=address, timeout=_TIMEOUT_S) as client:

        def send(case: tuple[RouteTable, tuple[Turn, ...]]) -> None:
            table, turns = case
            names = {*table.names, OTHER}
            messages = [{"role": turn.role, "content": turn.content} for turn in turns]
            each = formats[findings.cases % len(formats)]
            routes = [{"name": route.name, "description": route.description} for route in table]
            direct = client.post("/v1/route", json={"messages": messages, "routes": routes})
            prompt = [{"role": "user", "content": each.render(table, turns)}]
            ready = client.post("/v1/chat/completions", json={"messages": prompt})
            report("decisions")
            for answer in (direct, ready):
                findings.count(f"POST {answer.request.url.path}", answer.status_code)
                if answer.status_code != 200:
                    findings.failures.append(f"{answer.request.url.path}: {answer.status_code} for {routes!r}, {messages!r}")
            if direct.status_code == ready.status_code == 200:
                value = json.loads(ready.json()["choices"][0]["message"]["content"])["route"]
                named = value if isinstance(value, str) else (*value, OTHER)[0]
                if named not in names or direct.json()["route"] not in names:
                    findings.failures.append(f"a route that is in no table: {named!r}, {direct.json()['route']!r}")

        _run(st.tuples(_TABLES, _TURNS), send, cases // 2, seed)


def _run(strategy: st.SearchStrategy[Any], send: Callable[[Any], None], cases: int, seed: int) -> None:
    # Failures are collected, so nothing is ever shrunk or tried again.
    chosen = settings(
        max_examples=cases, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    hypothesis_seed(seed)(chosen(given(strategy)(lambda case: send(case))))()


@contextmanager
def _server(model: str) -> Iterator[ServerProcess]:
    with ServerProcess("--model", model) as server:
        yield server


@click.command()
@click.option("--cases", type=click.IntRange(min=20), default=2000, show_default=True, help="Requests made from the document.")
@click.option("--decisions", type=click.IntRange(min=2), help="Requests on made-up routes.  [default: 500; none with --path]")
@click.option("--path", metavar="PATTERN", help="Only requests from the document to such paths.")
@click.option("--seed", default=0, show_default=True, help="Of everything that is made up.")
@click.option("--model", default="tiny", show_default=True, help="As for archroute serve.")
def main(cases: int, decisions: int | None, path: str | None, seed: int, model: str) -> None:
    """Send made-up requests to a server and print what came of it as JSON."""
    if path is not None and decisions is not None:
        raise click.UsageError("--path asks for some paths alone, and --decisions for requests on another; give one of them")
    n_decisions = 0 if path is not None else decisions or 500
    findings = Findings()
    total = cases + n_decisions
    with _server(model) as server, ProgressLine() as progress:

        def report(what: str) -> None:
            progress(what, min(findings.cases, total), total)

        fuzz_document(server.address, cases, seed, findings, report, path or "")
        if n_decisions:
            fuzz_decisions(server.address, n_decisions, seed, findings, report)
    print(json.dumps({"model": model, "seed": seed, **findings.to_dict()}, indent=2))
    sys.exit(1 if findings.failures else 0)


if __name__ == "__main__":
    main()
