"""``archroute route`` for one message or conversation."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Router
from archroute_edge.config import load_config
from archroute_edge.deciders._route_vectors import RouteVectors
from archroute_edge.routes import RouteTable
from tests.cli.conftest import Run, one_line
from tests.gate import Gate

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hello, what can I do?"},
    {"role": "user", "content": "my test fails with an IndexError"},
]


def test_route_and_model_on_stdout_and_the_rest_on_stderr(run: Run, model: tuple[str, ...], routes: str) -> None:
    result = run("route", "fix my code", "--config", routes, *model)
    assert result.exit_code == 0
    route, arrow, chosen = result.stdout.rstrip("\n").split(" ")
    assert arrow == "->"
    expected = {"bug_fixing": "openai/gpt-4o", "traducción": "mistral/large", "other": "openai/gpt-4o-mini"}
    assert chosen == expected[route]
    assert "prompt tokens: 0 reused" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_a_terminal_would_obey_is_escaped(run: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    """JSON has names as they are."""
    path = tmp_path / "routes.yaml"
    path.write_text(
        'default_model: "acme/\\e[2J"\n'
        'routing_preferences: [{name: bugs, description: bugs in code, models: ["acme/\\e[2J"]}]\n'
    )
    result = run("route", "fix my code", "--config", str(path), *model, "--explain", "--scores")
    assert result.exit_code == 0
    assert all(char.isprintable() or char == "\n" for char in result.output)
    first, *others = result.stdout.splitlines()
    assert first.endswith(r" -> acme/\x1b[2J")
    assert any(line.startswith(r"  acme/\x1b[2J") for line in others)
    assert json.loads(run("route", "fix my code", "--config", str(path), *model, "--json").stdout)["model"] == "acme/\x1b[2J"


def test_json_is_what_the_router_returns(run: Run, model: tuple[str, ...], routes: str, random_model: Path) -> None:
    result = run("route", "fix my code", "--config", routes, *model, "--json")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    printed = json.loads(result.stdout)
    with Router(config=load_config(routes), model=random_model, threads=1, prefix_cache=False) as router:
        expected = router.route("fix my code").to_dict()
    assert list(printed) == list(expected)
    assert list(printed["timings"]) == list(expected["timings"])
    assert {**printed, "timings": 0} == {**expected, "timings": 0}


def test_scores_are_of_every_route_and_sum_to_one(run: Run, model: tuple[str, ...], routes: str) -> None:
    printed = json.loads(run("route", "fix my code", "--config", routes, *model, "--json", "--scores").stdout)
    assert set(printed["scores"]) == {"bug_fixing", "traducción", "other"}
    assert sum(printed["scores"].values()) == pytest.approx(1.0, abs=1e-6)
    assert printed["confidence"] == printed["scores"][printed["route"]]


def test_scores_as_text(run: Run, model: tuple[str, ...], routes: str) -> None:
    first, *lines = run("route", "fix my code", "--config", routes, *model, "--scores").stdout.splitlines()
    shares = [float(line.split("%")[0]) for line in lines]
    assert {line.split()[-1] for line in lines} == {"bug_fixing", "traducción", "other"}
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.02)
    assert first.split()[0] in {"bug_fixing", "traducción", "other"}


@pytest.mark.parametrize("message", ["fix my code", "hola, ¿qué tal?", "{}", "a" * 300])
def test_both_decoders_give_the_same_route(run: Run, model: tuple[str, ...], routes: str, message: str) -> None:
    answers = []
    for decoder in ("fast", "grammar"):
        result = run("route", message, "--config", routes, *model, "--json", "--decoder", decoder)
        answers.append(json.loads(result.stdout))
    assert answers[0]["route"] == answers[1]["route"]
    assert answers[0]["confidence"] == pytest.approx(answers[1]["confidence"], abs=0.01)


@pytest.mark.parametrize("form", ["list", "object", "bom"])
@pytest.mark.parametrize("stdin", [True, False])
def test_messages_from_a_file_or_stdin(
    run: Run, model: tuple[str, ...], routes: str, tmp_path: Path, form: str, stdin: bool
) -> None:
    document = json.dumps(MESSAGES if form == "list" else {"model": "none", "messages": MESSAGES}).encode()
    raw = b"\xef\xbb\xbf" + document if form == "bom" else document
    path = tmp_path / "messages.json"
    path.write_bytes(raw)
    place = "-" if stdin else str(path)
    result = run("route", "--messages", place, "--config", routes, *model, "--json", stdin=raw if stdin else None)
    assert result.exit_code == 0, result.stderr
    with Router(config=load_config(routes), model=model[1], threads=1, prefix_cache=False) as router:
        expected = router.route(MESSAGES)
    printed = json.loads(result.stdout)
    assert (printed["route"], printed["tokens"]["prompt"]) == (expected.route, expected.tokens.prompt)


def test_a_file_of_messages_may_have_routes_of_its_own(run: Run, model: tuple[str, ...], routes: str) -> None:
    """They were passed over without a word."""
    document = json.dumps({"messages": "fix my code", "routes": [{"name": "poems"}, {"name": "songs"}]})
    for config in (("--config", routes), ()):
        done = run("route", "--messages", "-", *config, *model, "--scores", "--json", stdin=document)
        assert set(json.loads(done.stdout)["scores"]) == {"poems", "songs", "other"}
        assert "example routes" not in done.stderr
    assert '"songs"' in run("prompt", "--messages", "-", "--model", model[1], stdin=document).stdout
    wrong = json.dumps({"messages": "fix my code", "routes": [{"name": "a"}, {"name": "a"}]})
    assert one_line(run("route", "--messages", "-", *model, stdin=wrong)).startswith("standard input: ")


@pytest.mark.parametrize("prompt_format", ["card", "gateway", "orchestrator"])
def test_the_prompt_format_can_be_chosen(run: Run, model: tuple[str, ...], routes: str, prompt_format: str) -> None:
    result = run("route", "hello", "--config", routes, *model, "--json", "--prompt-format", prompt_format)
    assert json.loads(result.stdout)["prompt_format"] == prompt_format


def test_without_a_config_the_example_routes_are_used_and_that_is_said(run: Run, model: tuple[str, ...]) -> None:
    result = run("route", "hello", *model, "--json", "--scores")
    assert result.exit_code == 0
    assert "bug_fixing" in json.loads(result.stdout)["scores"]
    assert "no --config given" in result.stderr


def test_an_object_with_a_text_is_taken_as_in_a_line_of_a_batch(run: Run, model: tuple[str, ...], routes: str) -> None:
    one, line = (
        json.loads(run("route", *options, "--config", routes, *model, "--scores", stdin='{"messages": "fix"}').stdout)
        for options in (("--messages", "-", "--json"), ("--batch", "-"))
    )
    assert one["scores"] == pytest.approx(line["scores"])


def test_the_budget_trims_and_the_decision_says_so(run: Run, model: tuple[str, ...], routes: str) -> None:
    long = "the code " * 2000
    printed = json.loads(run("route", long, "--config", routes, *model, "--budget", "64", "--json").stdout)
    assert printed["trimmed"] is True
    assert printed["cut_turns"] == 1
    shown = run("route", long, "--config", routes, *model, "--budget", "64")
    assert "conversation trimmed" in shown.stderr


def test_a_second_run_starts_from_the_saved_prefix(run: Run, model: tuple[str, ...], routes: str) -> None:
    cached = [each for each in model if each != "--no-prefix-cache"]
    cold, warm = (json.loads(run("route", "fix it", "--config", routes, *cached, "--json").stdout) for _ in range(2))
    assert cold["tokens"]["reused"] == 0
    assert warm["tokens"]["reused"] > warm["tokens"]["prompt"] // 4
    assert warm["route"] == cold["route"]
    without = json.loads(run("route", "fix it", "--config", routes, *model, "--json").stdout)
    assert without["tokens"]["reused"] == 0


def test_a_deadline_that_is_kept(run: Run, model: tuple[str, ...], routes: str) -> None:
    """The routes are evaluated before it is counted: in a process of its own each decision would else be the first one."""
    plain = run("route", "fix my code", "--config", routes, *model)
    result = run("route", "fix my code", "--config", routes, *model, "--deadline", "60")
    assert (result.exit_code, result.stdout) == (0, plain.stdout)
    assert "prompt tokens: 0 reused" not in result.stderr


def test_a_deadline_that_is_not_kept(
    run: Run, model: tuple[str, ...], routes: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The default model stands in; of a batch in each line on its own."""
    gate = Gate(monkeypatch)
    command = importlib.import_module("archroute_edge.cli.route")
    monkeypatch.setattr(command, "_get_ready", lambda *_arguments: gate.close())
    result = run("route", "fix my code", "--config", routes, *model, "--deadline", "0.05")
    assert (result.exit_code, result.stdout) == (0, "other -> openai/gpt-4o-mini\n")
    assert result.stderr.startswith("no decision by the deadline, ")
    batch = tmp_path / "batch.jsonl"
    batch.write_text('{"messages": "fix my code"}\n' * 2)
    result = run("route", "--batch", str(batch), "--config", routes, *model, "--deadline", "0.05")
    assert [json.loads(line)["reason"] for line in result.stdout.splitlines()] == ["deadline"] * 2


def test_a_lines_own_routes_are_evaluated_before_its_deadline_is_counted(
    run: Run, random_encoder: Path, routes: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each line with routes of its own would else get the default model."""
    vectors = RouteVectors.of

    def slow(self: RouteVectors, table: RouteTable, **options: Any) -> Any:
        if not self.is_known(table):
            time.sleep(1)
        return vectors(self, table, **options)

    monkeypatch.setattr(RouteVectors, "of", slow)
    batch = tmp_path / "batch.jsonl"
    lines = [{"messages": "fix my code", "routes": [{"name": name}]} for name in ("poems", "songs")]
    batch.write_text("\n".join(map(json.dumps, lines)))
    result = run("route", "--batch", str(batch), "--config", routes, "--model", str(random_encoder), "--deadline", "0.5")
    assert [json.loads(line)["decided_by"] for line in result.stdout.splitlines()] == ["random-encoder.gguf"] * 2


@pytest.mark.parametrize("deadline", ["0", "-1", "soon", "1e9"])
def test_deadlines_that_are_no_times(run: Run, model: tuple[str, ...], deadline: str) -> None:
    result = run("route", "fix my code", *model, "--deadline", deadline)
    assert result.exit_code == 2
    assert "--deadline" in result.stderr


def test_ignored_keys_of_a_gateways_file_are_counted_in_one_line(run: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    """Else what a file asks for and does not get is known to those alone who run `archroute check`."""
    path = tmp_path / "plano.yaml"
    path.write_text(
        "version: v0.4.0\nmodel_providers:\n  - {model: a/one, stream: true}\n  - {model: a/two, stream: true}\n"
        "routing_preferences: [{name: poems, description: writing of poems, models: [a/one]}]\n",
        encoding="utf-8",
    )
    said = run("route", "hello", "--config", str(path), *model).stderr.splitlines()
    assert said[0] == f"{path}: 2 keys have no effect here; archroute check says which"
    assert len(said) == 2
