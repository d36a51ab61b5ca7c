"""What it costs that LiteLLM's auto router sends a text of its own form to the server, in place of the conversation.

    python -m tools.measure.litellm_environment build/litellm
    python -m tools.measure.litellm_texts build/litellm

Takes the text that LiteLLM sends for each shipped case, asks ``/v1/systemone`` about it and ``/v1/route`` about the
conversation, over the case's routes. Prints the share of cases that each decides as labelled, and that both decide alike.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import click

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.evaluation import Case, shipped_cases
from tools.measure.server_process import ServerProcess
from tools.release.environments import plain_environment

_OTHER = {"other": "Anything else"}


def texts_of(environment: Path, conversations: list[Any]) -> list[str]:
    """What LiteLLM writes for a classifier."""
    done = subprocess.run(
        [environment / "bin" / "python", Path(__file__).with_name("litellm_text_requests.py")],
        input=json.dumps(conversations),
        stdout=subprocess.PIPE,
        env={**plain_environment(), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        encoding="utf-8",
        check=True,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def decide(address: str, case: Case, text: str) -> tuple[str, str]:
    """The routes by LiteLLM's text, and by the conversation."""
    routes = [{"name": each.name, "description": each.description} for each in case.table]
    criteria = {**{each["name"]: each["description"] for each in routes}, **_OTHER}
    body = {"model": "english", "state": text, "questions": {"tier": {"type": "choice", "criteria": criteria}}}
    by_text = _post(f"{address}/v1/systemone", body)["answers"]["tier"]["choice"]
    by_messages = _post(f"{address}/v1/route", {"messages": case.messages, "routes": routes})["route"]
    return str(by_text), str(by_messages)


@click.command()
@click.argument("environment", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(1), help="Only so many cases.")
def main(environment: Path, limit: int | None) -> None:
    """Compare decisions on LiteLLM's texts with those on the conversations."""
    cases = shipped_cases()[:limit]
    texts = texts_of(environment, [case.messages for case in cases])
    routes = []
    with ServerProcess("--model", "mini") as server, ProgressLine() as progress:
        for number, (case, text) in enumerate(zip(cases, texts, strict=True), start=1):
            routes.append(decide(server.address, case, text))
            progress("deciding", number, len(cases))
    wanted = [case.route for case in cases]
    shares = {
        "right by LiteLLM's text": [text == route for (text, _), route in zip(routes, wanted, strict=True)],
        "right by the conversation": [messages == route for (_, messages), route in zip(routes, wanted, strict=True)],
        "decided alike": [text == messages for text, messages in routes],
    }
    print(
        json.dumps({"cases": len(cases), **{name: round(sum(each) / len(each), 3) for name, each in shares.items()}}, indent=2)
    )


if __name__ == "__main__":
    main()
