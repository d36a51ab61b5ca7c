"""Judge a checkpoint (in PyTorch) or a GGUF (through the router itself)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from training.tiny.questions import Question


def decide_all(model: Path, questions: list[Question]) -> list[str]:
    """The decision on each question; a folder is a checkpoint, a file a GGUF."""
    return _with_checkpoint(model, questions) if model.is_dir() else _with_router(model, questions)


def _with_checkpoint(folder: Path, questions: list[Question]) -> list[str]:
    from training.tiny.checkpoint import read_checkpoint
    from training.tiny.scoring import decide

    model, tokenizer = read_checkpoint(folder)
    return decide(model, tokenizer, questions)


def _with_router(path: Path, questions: list[Question]) -> list[str]:
    from archroute_edge import Route, Router

    decisions: list[str] = []
    started = time.monotonic()
    with Router(routes=[Route("any")], model=path, prompt_format="card", prefix_cache=False) as router:
        for number, question in enumerate(questions, start=1):
            routes = [Route(route["name"], route["description"]) for route in question.routes]
            decisions.append(router.route(question.messages, routes=routes).route)
            if number % 20 == 0 or number == len(questions):
                left = (time.monotonic() - started) / number * (len(questions) - number)
                print(f"\r{number}/{len(questions)} questions, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return decisions
