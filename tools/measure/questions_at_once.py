"""What several questions about one conversation cost, beside one.

    python -m tools.measure.questions_at_once --model mini --questions 10 --words 150

Starts `archroute serve` and sends requests to `POST /v1/systemone`: one question or several, in turn, about fresh messages.
The options are the same in each request, so that their vectors, or the routes in the KV cache, are there after the first one.
Prints medians of the whole request in milliseconds as JSON, and their ratio. A language model reads the conversation again for
each question, since the routes stand before it in the prompt.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from typing import Any

import click
import httpx

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.evaluation import shipped_cases
from tools.measure.server_process import ServerProcess


def tables(number: int, options: int) -> list[dict[str, str]]:
    """Different options for so many questions."""
    names = {route.name: route.description for case in shipped_cases() for route in case.table}
    routes = list(names.items())
    return [dict(routes[(each * options + n) % len(routes)] for n in range(options)) for each in range(number)]


def body(message: str, asked: list[dict[str, str]]) -> dict[str, Any]:
    """A request about a message."""
    questions = {f"q{number}": {"type": "choice", "criteria": criteria} for number, criteria in enumerate(asked)}
    return {"model": "m", "state": message, "questions": questions}


@click.command()
@click.option("--model", default="mini", show_default=True, help="As for archroute serve.")
@click.option("--questions", type=click.IntRange(min=2), default=10, show_default=True, help="Of the larger requests.")
@click.option("--options", type=click.IntRange(min=1), default=5, show_default=True, help="Of each question.")
@click.option("--words", type=click.IntRange(min=1), default=150, show_default=True, help="Of each message.")
@click.option("--rounds", type=click.IntRange(min=3), default=200, show_default=True, help="Requests of each kind.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="As for archroute serve.")
def main(model: str, questions: int, options: int, words: int, rounds: int, threads: int) -> None:
    """Measure requests of one question and of several, and print medians as JSON."""
    asked = tables(questions, options)
    vocabulary = sorted({word for case in shipped_cases() for word in str(case.messages).split()})
    draw = random.Random(0)
    times: dict[int, list[float]] = {1: [], questions: []}
    with (
        # A machine that others use as well may take longer than servers allow.
        ServerProcess("--model", model, "--threads", str(threads), "--timeout", "3600") as server,
        httpx.Client(base_url=server.address, timeout=None) as client,
        ProgressLine() as progress,
    ):
        for each in range(-3, rounds):
            progress("requests", max(0, each), rounds)
            for number, found in times.items():
                message = " ".join(draw.choices(vocabulary, k=words))
                began = time.perf_counter()
                client.post("/v1/systemone", json=body(message, asked[:number])).raise_for_status()
                if each >= 0:
                    found.append(1000 * (time.perf_counter() - began))
    one, many = (statistics.median(found) for found in times.values())
    shown = {"one_ms": round(one, 2), "all_ms": round(many, 2), "ratio": round(many / one, 3)}
    print(json.dumps({"model": model, "questions": questions, "options": options, "words": words, **shown}, indent=2))


if __name__ == "__main__":
    main()
