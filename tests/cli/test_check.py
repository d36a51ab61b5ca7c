"""``archroute check``: what it says of good configurations."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import archroute_edge.quality
from archroute_edge.config import load_config
from archroute_edge.errors import QualityError
from archroute_edge.quality import Predictor
from archroute_edge.targets import _route_advice as route_advice
from archroute_edge.targets._route_advice import Embed
from tests.cli.conftest import Run
from tests.fake_predictor import FakePredictor

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples" / "configs").glob("*.yaml"))


@pytest.fixture(autouse=True)
def one_encoder(embed: Embed, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests have one encoder; that each command loads its own is tested elsewhere."""
    monkeypatch.setattr(route_advice, "bundled_encoder", lambda: nullcontext(embed))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_sound(run: Run, path: Path) -> None:
    result = run("check", str(path))
    config = load_config(path)
    assert result.exit_code == 0
    assert f"{path}: {len(config.table)} routes, default model {config.default_model}, 0 warnings" in result.stdout
    for line in result.stderr.splitlines():
        assert line.startswith((f"{path}: ignored in ", f"{path}: serve --forward needs environment variables"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_can_be_forwarded_by_if_their_keys_are_set(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "ANTHROPIC", "GROQ"):
        monkeypatch.setenv(f"{provider}_API_KEY", "a-key-of-a-test")
    assert json.loads(run("check", str(path), "--json").stdout)["forwarding"] == []


def test_advice_is_a_warning_with_its_line_and_leaves_the_exit_code(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("routing_preferences:\n  - name: a\n    description: things\n", encoding="utf-8")
    result = run("check", str(path))
    assert result.exit_code == 0
    assert f"{path}:2: warning: route 'a' has a very short description" in result.stderr
    n_warnings = len(result.stderr.splitlines())
    assert result.stdout.startswith(f"{path}: 1 route, default model none, {n_warnings} warning")


def test_json(run: Run, routes: str) -> None:
    result = run("check", routes, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert report["file"] == routes
    assert report["format"] == "own"
    assert report["ignored"] == []
    assert report["routes"] == ["bug_fixing", "traducción"]
    assert report["default_model"] == "openai/gpt-4o-mini"
    for warning in report["warnings"]:
        assert {"message", "line"} <= set(warning)


FORWARDED = """model_providers:
  - {model: openai/gpt-5-mini, access_key: $SOME_KEY, default: true}
  - {model: openai/gpt-5, access_key: $SOME_KEY}
  - {model: anthropic/claude-sonnet-4-6}
routing_preferences: [{name: writing, description: "Writing of letters, articles and stories"}]
archroute: {keys: [{name: alice, key: $ALICES_KEY}]}
"""


class TestForwarding:
    """What ``serve --forward`` lacks, of a file that is made for it."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "gateway.yaml"
        path.write_text(FORWARDED, encoding="utf-8")
        return path

    def test_each_variable_once_and_what_else_is_missing(self, run: Run, path: Path) -> None:
        result = run("check", str(path))
        assert result.exit_code == 0
        needed = "SOME_KEY (lines 2, 3), ALICES_KEY (line 6)"
        assert f"{path}: serve --forward needs environment variables that are not set: {needed}\n" in result.stderr
        assert f"{path}:4: serve --forward: 'anthropic/claude-sonnet-4-6' cannot be reached: anthropic" in result.stderr
        assert result.stdout == f"{path}: 1 route, default model openai/gpt-5-mini, 0 warnings\n"

    def test_json(self, run: Run, path: Path, routes: str) -> None:
        found = json.loads(run("check", str(path), "--json").stdout)["forwarding"]
        assert [each["line"] for each in found] == [2, 3, 4, 6]
        assert json.loads(run("check", routes, "--json").stdout)["forwarding"] is None

    def test_without_a_default_model_the_one_that_stands_in_is_named(self, run: Run, path: Path) -> None:
        path.write_text("model_providers: [{model: ollama/one}, {model: ollama/two}]\n" + FORWARDED.split("\n")[4], "utf-8")
        said = "requests that fit no route go to 'ollama/one', the first model, since there is no default model"
        assert f"{path}: serve --forward: {said}\n" in run("check", str(path)).stderr

    def test_values_are_not_shown(self, run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOME_KEY", "the-value\n")
        monkeypatch.setenv("ALICES_KEY", "another-value")
        result = run("check", str(path))
        assert "-value" not in result.stderr + result.stdout
        assert "not set" not in result.stderr


GATEWAY = """version: v0.4.0
listeners: []
model_providers:
  - {model: acme/one, stream: true, default: true}
  - {model: acme/two, stream: true}
semantic_cache: {enabled: true}
routing_preferences:
  - {name: general_questions, description: General questions on any subject, models: [acme/two], tier: 1}
"""


def test_ignored_keys_are_counted_and_named_with_their_lines(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "plano.yaml"
    path.write_text(GATEWAY, encoding="utf-8")
    result = run("check", str(path))
    assert result.exit_code == 0
    assert result.stdout == f"{path}: 1 route, default model acme/one, 2 warnings, 5 ignored keys\n"
    assert result.stderr.splitlines() == [
        f"{path}:6: warning: the key 'semantic_cache' in the configuration is ignored",
        f"{path}:8: warning: the key 'tier' in a route is ignored",
        f"{path}: ignored in the configuration: 'version' (line 1), 'listeners' (line 2), 'semantic_cache' (line 6)",
        f"{path}: ignored in a model provider: 'stream' (lines 4, 5)",
        f"{path}: ignored in a route: 'tier' (line 8)",
    ]


def test_what_a_terminal_would_obey_is_escaped(run: Run, tmp_path: Path) -> None:
    """A file from elsewhere could clear the screen, or write another line over a warning."""
    path = tmp_path / "plano.yaml"
    path.write_text(
        "model_providers:\n  - {model: acme/two, access_key: $NO_SUCH_KEY}\n"
        '  - {model: "acme/\\e[2J", access_key: $NO_SUCH_KEY, default: true, "stream\\e[2J": 1, '
        "routing_preferences: [{name: talk, description: Small talk}]}\n"
        "routing_preferences: [{name: talk, description: Small talk of all kinds, models: [acme/two]}]\n"
    )
    result = run("check", str(path))
    assert result.exit_code == 0, result.stderr
    assert all(char.isprintable() or char == "\n" for char in result.output)
    assert r"default model acme/\x1b[2J" in result.stdout
    assert r"so its place under acme/\x1b[2J adds nothing" in result.stderr


def test_json_has_each_ignored_key(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "plano.yaml"
    path.write_text(GATEWAY, encoding="utf-8")
    report = json.loads(run("check", str(path), "--json").stdout)
    assert report["format"] == "gateway"
    assert [(each["key"], each["where"], each["line"], each["known"]) for each in report["ignored"]] == [
        ("version", "the configuration", 1, True),
        ("listeners", "the configuration", 2, True),
        ("stream", "a model provider", 4, True),
        ("stream", "a model provider", 5, True),
        ("semantic_cache", "the configuration", 6, False),
        ("tier", "a route", 8, False),
    ]


def test_a_key_under_many_models_does_not_fill_the_screen(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "plano.yaml"
    providers = "".join(f"  - {{model: acme/m{index}, stream: true}}\n" for index in range(300))
    path.write_text(GATEWAY.replace("semantic_cache", providers + "semantic_cache"), encoding="utf-8")
    result = run("check", str(path))
    assert result.exit_code == 0
    assert "'stream' (lines 4, 5, 6, 7, 8, 9, 10, 11 and 294 more)" in result.stderr


def test_the_routes_of_chat_ui(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    path.write_text(
        '[{"name": "small_talk", "description": "Casual small talk", "primary_model": "acme/one"}]', encoding="utf-8"
    )
    result = run("check", str(path))
    assert result.exit_code == 0
    assert result.stdout == f"{path}: 1 route, default model none, 1 warning\n"
    assert "a route called 'default' gives one" in result.stderr


def test_a_predictor_that_cannot_be_used_is_an_error_with_the_line_of_its_policy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server would not start with it."""
    path = tmp_path / "routes.yaml"
    path.write_text(
        "default_model: a/b\nrouting_preferences:\n  - name: flights\n    description: flights and airports of Europe\n"
        "    models: [a/b, c/d]\n    selection_policy: {prefer: quality, predictor: my.safetensors}\n"
    )

    def load(file: Path) -> Predictor:
        raise QualityError(f"{file}: no predictor")

    monkeypatch.setattr(archroute_edge.quality, "load_predictor", load)
    result = run("check", str(path))
    assert result.exit_code == 2
    assert result.stderr == f"archroute: error: {path}:6: route 'flights': {tmp_path / 'my.safetensors'}: no predictor\n"
    predictor = FakePredictor(("b", "d"), sample=np.array([[0.9, 0.1]]))
    monkeypatch.setattr(archroute_edge.quality, "load_predictor", lambda _file: predictor)
    result = run("check", str(path))
    assert result.exit_code == 0
    assert f"{path}:3: warning: route 'flights' lists 'c/d', which never comes first" in result.stderr
