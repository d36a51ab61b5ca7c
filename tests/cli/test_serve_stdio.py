"""``archroute serve --stdio`` before it serves: what is wrong is one line on stderr, and no reply."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run, one_line


def test_options_that_are_for_http_are_refused(run: Run) -> None:
    """A host that asks for a port would wait for it."""
    for option in ("--port", "--affinity-ttl"):
        assert one_line(run("serve", "--stdio", option, "7")).startswith(f"{option} is for HTTP")


def test_a_wrong_configuration_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("routes: 7\n")
    assert "routes.yaml:1" in one_line(run("serve", "--stdio", "--config", str(tmp_path / "routes.yaml")))
