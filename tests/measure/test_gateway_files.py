"""``python -m tools.measure.gateway_files`` finds what every release has, and says which of it cannot be forwarded by."""

from __future__ import annotations

import subprocess
from pathlib import Path

from click.testing import CliRunner

from tools.measure.gateway_files import main

GOOD = """version: v0.4.0
model_providers:
  - {model: openai/large, access_key: $GATEWAY_FILES_KEY, default: true}
  - {model: small, name: office/small, provider_interface: openai, base_url: "https://llm.office.example/llm/v1", access_key: k}
  - {model: plano/router, base_url: "http://localhost:8000"}
routing_preferences:
  - {name: poems, description: writing of poems, models: [office/small, openai/large]}
"""
BAD = GOOD.replace("provider_interface: openai", "provider_interface: nobodys")
WITHOUT_ROUTES = GOOD[: GOOD.index("routing_preferences")]


def release(repository: Path, tag: str, **files: str) -> None:
    """A commit with ``files`` and nothing else, and a tag."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=repository, check=True, capture_output=True)

    repository.mkdir(exist_ok=True)
    git("init", "-q")
    for old in repository.glob("*.yaml"):
        old.unlink()
    for name, text in files.items():
        (repository / f"{name}.yaml").write_text(text, encoding="utf-8")
    git("add", "-A")
    git("commit", "-q", "-m", tag)
    git("tag", tag)


def test_every_release_is_read_each_text_tried_once_and_what_does_not_start_is_named(tmp_path: Path) -> None:
    for name in ("one", "fork"):
        release(tmp_path / name, "0.1", good=GOOD, plain=WITHOUT_ROUTES, poem="roses: red\n")
        release(tmp_path / name, "0.2", good=GOOD, bad=BAD)
    result = CliRunner().invoke(main, [str(tmp_path / "one"), str(tmp_path / "fork")], catch_exceptions=False)
    problem, *figures = result.output.splitlines()
    assert problem.startswith("0.2:bad.yaml:4: ")
    assert "unknown provider_interface 'nobodys'" in problem
    assert figures == [
        "3 files of 2 tags define routes, 2 of them different",
        "read: 3 of 3, 2 of 2 different",
        "started: 2 of 3, 1 of 2 different",
        "answered: 2 of 3, 1 of 2 different",
        "requests: 4, failed: 0",
    ]
    assert result.exit_code == 1
