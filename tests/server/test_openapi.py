"""The OpenAPI document is true: made-up requests get what it says, and every decision is a route of its table."""

from __future__ import annotations

from archroute_edge.routing import RoutingService
from tests.server.conftest import Client
from tests.server.test_guard import App
from tools.measure.server_process import ServerProcess


def test_made_up_requests_are_answered_as_the_document_says(server: ServerProcess) -> None:
    """`python -m tools.measure.server_fuzz` does the same with thousands of them."""
    # Here, so that it is loaded where this runs, and not by every process that collects tests: it takes two seconds.
    from tools.measure.server_fuzz import Findings, fuzz_decisions, fuzz_document

    findings = Findings()
    fuzz_document(server.address, 8, 1, findings)
    fuzz_decisions(server.address, 6, 1, findings)
    assert findings.failures == []
    assert {"200", "400"} <= set(findings.statuses)


def test_every_operation_documents_its_errors(client: Client) -> None:
    document = client("GET", "/openapi.json").json()
    posts = {path: operations["post"] for path, operations in document["paths"].items() if "post" in operations}
    assert posts
    for path, operation in posts.items():
        more = {"422"} if path in ("/v1/systemone", "/v1/decisions") else set()
        assert set(operation["responses"]) == {"200", "400", "401", "403", "408", "413", "415", "429", "503"} | more
        assert operation["description"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert "securitySchemes" not in document["components"]


def test_a_key_is_documented_where_one_is_needed(app_over: App, service: RoutingService) -> None:
    client = app_over(service, api_key="k")
    paths = client("GET", "/openapi.json", headers={"Authorization": "Bearer k"}).json()["paths"]
    needs = {path for path, operations in paths.items() for operation in operations.values() if operation.get("security")}
    assert needs == set(paths) - {"/healthz", "/readyz"}
