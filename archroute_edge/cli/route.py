"""``archroute route``."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.options import (
    Given,
    calibration_option,
    config_option,
    deadline_option,
    engine_options,
    json_option,
    message_options,
    model_option,
    open_router,
    prompt_format_option,
    read_config,
    read_message_options,
    switch_over_option,
)
from archroute_edge.cli.process import shown
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.config import parse_json, read_routes
from archroute_edge.conversation import Messages, read_messages
from archroute_edge.decision import Decision, ModelReason
from archroute_edge.errors import ArchRouteError, ConversationError, SettingsError
from archroute_edge.routes import RouteTable
from archroute_edge.routing import Router
from archroute_edge.targets import RequestFacts, no_text_decision

Result = TypeVar("Result")

_REASONS = {
    "low_confidence": "other for low confidence",
    "deadline": "no time for the language model",
    "unreachable": "no answer from the remote model",
}
# Why the first model of several is the first, if that is not their order in the file.
_MODEL_REASONS: dict[ModelReason | None, str] = {
    "weights": "drawn by weight",
    "ramp": "drawn by the ramp",
    "cheapest": "the cheapest one",
    "no_prices": "the first one, since no prices are known",
    "no_latencies": "the first one, since no latencies are known",
    "no_scores": "the first one, since no expected scores could be had",
    "quality": "the one with the best expected score for its price",
    "only_one_fits": "the only one that takes such a request",
    "none_fits": "the first one, though none takes such a request",
}
# Why no model decided.
_NO_DECISION = {
    "deadline": "no decision by the deadline, {:.0f} ms",
    "no_user_text": "no user text, so there was nothing to decide",
}


@click.command(
    cls=Command,
    epilog=examples(
        'archroute route "my test fails with an IndexError"',
        "archroute route --config routes.yaml --messages chat.json --json",
        "archroute route --config routes.yaml --batch questions.jsonl",
    ),
)
@message_options
@option("--batch", metavar="FILE", help='Decide each line of FILE, a JSON object {"messages": TEXT|LIST}; - is stdin.')
@config_option
@model_option
@prompt_format_option
@engine_options
@switch_over_option
@calibration_option
@deadline_option
@option("--scores", is_flag=True, help="Also print the probability of every route.")
@option("--explain", is_flag=True, help="Also print why the models stand in this order.")
@json_option
@click.pass_context
def route(
    ctx: click.Context,
    /,
    text: str | None,
    messages: str | None,
    batch: str | None,
    scores: bool,
    explain: bool,
    deadline: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the route of a conversation and the model for it.

    TEXT is a user message. Prints "route -> model" on stdout; confidence, tokens and time on stderr. With --batch, the exit
    status is 1 if a line could not be decided. --deadline counts from when the model is loaded and the routes are evaluated;
    a cascade's language model is loaded within it.
    """
    if batch is not None:
        if text is not None or messages is not None:
            raise SettingsError("--batch stands alone: give no message and no --messages with it")
        if explain:
            raise SettingsError("--explain is about one message; --batch prints all that is known of each line")
        with _open_batch(batch) as lines, open_router(options) as router:
            _get_ready(router, deadline)
            ctx.exit(_route_lines(router, lines, scores, deadline))
    decision = _decide(read_message_options(text, messages), scores, deadline, options)
    if as_json:
        click.echo(json.dumps(decision.to_dict()))
        return
    click.echo(shown(f"{decision.route} -> {decision.model or 'no model'}"))
    for name, score in sorted((decision.scores or {}).items(), key=lambda item: -item[1]):
        click.echo(shown(f"  {score:7.2%}  {name}"))
    if explain:
        for line in explanation(decision):
            click.echo(shown(line))
    click.echo(shown(summarise(decision)), err=True)


def explanation(decision: Decision) -> Iterator[str]:
    """Why the models stand in their order, a line each: by expected score and price if the route prefers quality."""
    if decision.targets is None:
        for number, model in enumerate(decision.models):
            yield f"  {model}" + (f"  {decision.model_reason}" if number == 0 else "")
        return
    for target in decision.targets:
        price = "no price" if target.price is None else f"${target.price:.6f}"
        yield f"  {target.value:7.4f}  {target.model}: expected score {target.expected_score:.4f}, {price}; {target.why}"


def _decide(given: Given, scores: bool, deadline: float | None, options: dict[str, Any]) -> Decision:
    read = read_messages(given.messages)
    if not read:
        # Without a model, which might take seconds to load and would not be asked.
        return no_text_decision(read_config(options["config"]).config, None, RequestFacts.of(read))
    chosen = read_config(options["config"])
    if given.table is not None:
        # The example routes are not what is decided by.
        chosen = replace(chosen, is_example=False)
    with open_router(options, chosen) as router:
        _get_ready(router, deadline, given.table)
        return router.route(read, routes=given.table, scores=scores, deadline=deadline)


def _get_ready(router: Router, deadline: float | None, routes: RouteTable | None = None) -> None:
    # In a process that lasts for one decision, work beyond the deadline would be lost every time.
    if deadline is not None:
        router.warm(routes=routes)


def summarise(decision: Decision) -> str:
    """One line on a decision: confidence, tokens, time and model."""
    tokens = decision.tokens
    if decision.decided_by is None:
        return _NO_DECISION[decision.reason or "deadline"].format(decision.timings.total_ms)
    trimmed = ", conversation trimmed" if decision.trimmed else ""
    reason = f", {_REASONS[decision.reason]}" if decision.reason else ""
    decided_by = f"decided by {decision.decided_by}" + (" with ik_llama.cpp" if decision.engine == "ik" else "")
    if decision.model_reason in _MODEL_REASONS:
        decided_by += f"; the model is {_MODEL_REASONS[decision.model_reason]}"
    return (
        f"confidence {decision.confidence:.2f}, {tokens.prompt} prompt tokens: {tokens.reused} reused; "
        f"{tokens.evaluated} evaluated, {decision.timings.total_ms:.0f} ms{trimmed}{reason}; {decided_by}"
    )


@contextmanager
def _open_batch(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(name).open("rb"))
        except OSError as exc:
            raise ConversationError(f"{name}: cannot be read ({exc.strerror or exc})") from exc
        yield file


def _route_lines(router: Router, lines: BinaryIO, scores: bool, deadline: float | None) -> int:
    """Answer every line in its place; 1 if any could not be."""
    failed = 0
    n_lines = None
    # Lines from a pipe are answered as they come: their writer may wait for the answer.
    at_once = router.batch_size if lines.seekable() and deadline is None else 1
    if lines.seekable() and not isinstance(lines, io.BytesIO):
        # The program that opened standard input may have read the beginning.
        start = lines.tell()
        n_lines = sum(1 for _ in lines)
        lines.seek(start)
    numbered = enumerate(lines, 1)
    with ProgressLine() as progress:
        while chunk := list(islice(numbered, at_once)):
            for answer in _answer(router, [each for each in chunk if each[1].strip()], scores, deadline):
                failed |= "error" in answer
                click.echo(json.dumps(answer))
            if n_lines:
                progress("deciding", chunk[-1][0], n_lines)
    return failed


def _answer(router: Router, lines: list[tuple[int, bytes]], scores: bool, deadline: float | None) -> list[dict[str, Any]]:
    """The answers to numbered lines, in order: decisions, or the error of a line."""
    read = [(number, _try(partial(_read_line, line, number), number)) for number, line in lines]
    plain = [case[0] for _, case in read if isinstance(case, tuple) and case[1] is None]
    try:
        # A deadline is a line's own.
        together = iter(router.route_many(plain, scores=scores) if deadline is None else ())
    except ArchRouteError:
        # One of them spoils it for all; alone each gets its own answer.
        together = iter(())
    answers = []
    for number, case in read:
        if isinstance(case, dict):
            answers.append(case)
            continue
        messages, table = case
        decision: Decision | dict[str, Any] | None = next(together, None) if table is None else None
        if decision is None:
            decision = _try(partial(_decide_line, router, messages, table, scores, deadline), number)
        answers.append(decision if isinstance(decision, dict) else decision.to_dict())
    return answers


def _decide_line(
    router: Router, messages: Messages, table: RouteTable | None, scores: bool, deadline: float | None
) -> Decision:
    if table is not None:
        _get_ready(router, deadline, table)
    return router.route(messages, routes=table, scores=scores, deadline=deadline)


def _try(call: Callable[[], Result], number: int) -> Result | dict[str, Any]:
    """The result of ``call``, or an object with the error of line ``number``."""
    try:
        return call()
    except ArchRouteError as exc:
        message = str(exc)
        return {"error": message if message.startswith("line ") else f"line {number}: {message}"}


def _read_line(line: bytes, number: int) -> tuple[Any, RouteTable | None]:
    case = parse_json(line, f"line {number}")
    if not isinstance(case, dict) or "messages" not in case:
        raise ConversationError(f'line {number}: expected an object with "messages"')
    routes = case.get("routes")
    return case["messages"], None if routes is None else read_routes(routes)
