"""The same made-up conversations and tables through every door: the same decision, or the same error.

    python -m tools.measure.doors --count 5000

Asks Python, ``archroute route --batch``, ``archroute serve --stdio`` and ``archroute serve``, each a process of its own over
the same model. Errors are compared word for word, except for the place in front. Over HTTP, it also asks the decision endpoint
and, if a conversation can be written into a router prompt, the router model. The exit code is 1 if two doors differ.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import httpx

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.config import RoutingConfig, parse_config, read_routes
from archroute_edge.conversation import read_messages
from archroute_edge.errors import ArchRouteError
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.routes import OTHER
from archroute_edge.routing import Router
from tools.measure.door_cases import Case, make_cases
from tools.measure.server_process import PROGRAM, ServerProcess

CONFIG: Final = """\
default_model: acme/small
routing_preferences:
  - {name: bug_fixing, description: finding and fixing errors in program code, models: [acme/coder, acme/large]}
  - {name: translation, description: translating text from one language into another, models: [acme/small]}
  - {name: poems, description: writing poems and verse}
"""
_MOST_SHOWN: Final = 20
_COMPARED: Final = (
    "route",
    "matched",
    "model",
    "models",
    "trimmed",
    "dropped_turns",
    "cut_turns",
    "decided_by",
    "reason",
    "model_reason",
)
_PLACE: Final = re.compile(r"^(?:line \d+: )?")
# Fewer than the requests that may wait in a server.
_IN_FLIGHT: Final = 32

Answers = list[tuple[Any, ...]]
Report = Callable[[str, int], None]


@dataclass(frozen=True)
class Outcome:
    """The findings of a run."""

    decided: int
    refused: int
    kinds: Counter[str]
    differences: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "decided": self.decided,
            "refused": self.refused,
            "decisions_by_reason": dict(sorted(self.kinds.items())),
            "differences": len(self.differences),
            "examples": self.differences[:_MOST_SHOWN],
        }


def compare(cases: Sequence[Case], model: str, report: Report = lambda _door, _done: None) -> Outcome:
    """Ask every door about every case."""
    config = parse_config(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "routes.yaml"
        path.write_text(CONFIG, encoding="utf-8")
        options = ("--config", str(path), "--model", model)
        answers = {
            "python": list(_counted(_through_python(cases, config, model), "python", report)),
            "command line": list(_counted(_through_command_line(cases, Path(folder), options), "command line", report)),
            "stdio": list(_counted(_through_stdio(cases, options), "stdio", report)),
        }
        with ServerProcess(*options) as server, httpx.Client(base_url=server.address, timeout=60) as client:
            answers["http"] = list(_counted((_through_http(client, case) for case in cases), "http", report))
            right = answers["python"]
            differences = [
                f"{door} says {said!r}, python {expected!r}: {json.dumps(case.__dict__)[:600]}"
                for door, all_said in answers.items()
                for case, said, expected in zip(cases, all_said, right, strict=True)
                if said != expected
            ]
            for number, (case, expected) in enumerate(zip(cases, right, strict=True)):
                differences += _neighbours(client, config, case, expected, number)
                report("neighbours", number + 1)
    decided = [answer for answer in right if answer[0] == "decision"]
    kinds = Counter(str(answer[1 + _COMPARED.index("reason")] or "by the model") for answer in decided)
    return Outcome(len(decided), len(right) - len(decided), kinds, differences)


def _counted(answers: Iterator[tuple[Any, ...]], door: str, report: Report) -> Iterator[tuple[Any, ...]]:
    for done, answer in enumerate(answers, 1):
        report(door, done)
        yield answer


def _decision(value: dict[str, Any]) -> tuple[Any, ...]:
    return ("decision", *(tuple(value[key]) if key == "models" else value[key] for key in _COMPARED))


def _error(message: str) -> tuple[Any, ...]:
    return ("error", _PLACE.sub("", message))


def _through_python(cases: Sequence[Case], config: RoutingConfig, model: str) -> Iterator[tuple[Any, ...]]:
    with Router(config=config, model=model, prefix_cache=False) as router:
        for case in cases:
            try:
                routes = None if case.routes is None else read_routes(case.routes)
                yield _decision(router.route(case.messages, routes=routes).to_dict())
            except ArchRouteError as exc:
                yield _error(str(exc))


def _through_command_line(cases: Sequence[Case], folder: Path, options: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    path = folder / "batch.jsonl"
    path.write_text("".join(json.dumps(case.__dict__) + "\n" for case in cases), encoding="utf-8")
    command = [*PROGRAM, "route", "--batch", str(path), "--no-prefix-cache", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8") as process:
        assert process.stdout
        for line in process.stdout:
            value = json.loads(line)
            yield _error(value["error"]) if "error" in value else _decision(value)


def _through_stdio(cases: Sequence[Case], options: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    command = [*PROGRAM, "serve", "--stdio", "--no-prefix-cache", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin
        assert process.stdout
        for first in range(0, len(cases), _IN_FLIGHT):
            chunk = cases[first : first + _IN_FLIGHT]
            for number, case in enumerate(chunk):
                request = {"jsonrpc": "2.0", "id": number, "method": "route", "params": case.__dict__}
                process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            replies = {reply["id"]: reply for reply in (json.loads(process.stdout.readline()) for _ in chunk)}
            for number in range(len(chunk)):
                reply = replies[number]
                yield _decision(reply["result"]) if "result" in reply else _error(reply["error"]["message"])
        process.stdin.close()


def _through_http(client: httpx.Client, case: Case) -> tuple[Any, ...]:
    answer = client.post("/v1/route", **_body(case.__dict__))
    return _decision(answer.json()) if answer.status_code == 200 else _error(answer.json()["error"]["message"])


def _body(value: Any) -> dict[str, Any]:
    # httpx writes non-ASCII text as it is, which half a surrogate pair cannot be.
    return {"content": json.dumps(value).encode(), "headers": {"Content-Type": "application/json"}}


def _neighbours(
    client: httpx.Client, config: RoutingConfig, case: Case, expected: tuple[Any, ...], number: int
) -> Iterator[str]:
    """Errors in the answers of the endpoints in the shapes of other programs, for a case that has a decision."""
    if expected[0] != "decision":
        return
    route, models = (expected[1 + _COMPARED.index(name)] for name in ("route", "models"))
    body = {"messages": case.messages, "routing_preferences": case.routes}
    value = client.post("/routing/v1/chat/completions", **_body(body)).json()
    if (value.get("route") or OTHER, tuple(value.get("models", ()))) != (route, models):
        yield f"the decision endpoint says {value!r}, python {expected!r}: {json.dumps(case.__dict__)[:600]}"
    each = list(PROMPT_FORMATS.values())[number % len(PROMPT_FORMATS)]
    table = config.table if case.routes is None else read_routes(case.routes)
    prompt = each.render(table, read_messages(case.messages))
    answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": prompt}]}).json()
    said = json.loads(answer["choices"][0]["message"]["content"])["route"] if "choices" in answer else answer
    if said not in (route, [route] if route != OTHER else []):
        yield f"a {each.name} prompt says {said!r}, python {expected!r}: {json.dumps(case.__dict__)[:600]}"


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=5000, show_default=True, help="Conversations.")
@click.option("--seed", default=0, show_default=True, help="Of everything that is made up.")
@click.option("--model", default="mini", show_default=True, help="As for archroute route.")
def main(count: int, seed: int, model: str) -> None:
    """Ask every door the same and print where their answers differ, as JSON."""
    with ProgressLine() as progress:
        outcome = compare(make_cases(count, seed), model, lambda door, done: progress(door, done, count))
    print(json.dumps({"model": model, "count": count, "seed": seed, **outcome.to_dict()}, indent=2))
    sys.exit(1 if outcome.differences else 0)


if __name__ == "__main__":
    main()
