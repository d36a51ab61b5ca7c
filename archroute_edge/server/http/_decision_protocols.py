"""``/v1/systemone`` and ``/v1/decisions``: choices between given options, as TypeSafe's and OpenAI's clients ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from archroute_edge.decision import Decision
from archroute_edge.routes import MAX_ROUTES, OTHER
from archroute_edge.server import MAX_NAME, OPTIONS
from archroute_edge.server.http._api_errors import unavailable
from archroute_edge.server.http._bodies import read_body_by
from archroute_edge.server.http._choice_questions import (
    MAX_QUESTIONS,
    Asked,
    ChoiceQuestion,
    Value,
    read_decisions,
    read_system_one,
)
from archroute_edge.server.http._reply_bodies import DecisionsReply, SystemOneReply
from archroute_edge.server.http._served_route import ServedRoute
from archroute_edge.server.http._serving import Serving, caller_of, responses_of_protocols

SYSTEM_ONE, DECISIONS = "/v1/systemone", "/v1/decisions"
PATHS = (SYSTEM_ONE, DECISIONS)

# Letters of an option in the record.
_LONGEST_KEPT: Final = 256
_ANYTHING: Final = {"description": "Not looked at: the options and their descriptions say what is asked."}
_MODEL: Final = {"type": ["string", "null"], "description": "Any name; it is answered."}
_CONTENT: Final = {"type": ["string", "object", "array", "null"]}
_NAME: Final = {"type": "string", "maxLength": MAX_NAME}
_SYSTEM_ONE_QUESTION: Final = {
    "type": "object",
    "required": ["type", "criteria"],
    "properties": {
        "type": {"const": "choice"},
        "instructions": _ANYTHING,
        "criteria": {
            "type": "object",
            "description": "Options, and when each applies. `other` is the answer if none of the others does.",
            "minProperties": 1,
            "maxProperties": MAX_ROUTES,
            "propertyNames": {"minLength": 1},
            "additionalProperties": _CONTENT,
        },
    },
}
_LISTED_QUESTION: Final = {
    "type": "object",
    "required": ["type", "choices"],
    "properties": {
        "type": {"const": "choice"},
        "name": {"type": ["string", "null"], "maxLength": MAX_NAME},
        "instructions": _ANYTHING,
        "choices": {
            "type": "array",
            "description": "Options, and when each applies. `other` is the answer if none of the others does.",
            "minItems": 1,
            "maxItems": MAX_ROUTES,
            "items": {
                "type": "object",
                "required": ["value"],
                "properties": {
                    "value": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "boolean"}]},
                    "description": {"type": ["string", "null"]},
                },
            },
        },
    },
}


def _body(description: str, subject: str, schema: Any, questions: dict[str, Any]) -> dict[str, Any]:
    """What an endpoint's entry in the OpenAPI document says of its body."""
    properties = {"model": _MODEL, subject: schema, "questions": questions}
    body = {"type": "object", "description": description, "required": [subject, "questions"], "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}


_SYSTEM_ONE_BODY: Final = _body(
    "Choices about a state, which may be text, messages, or any other JSON.",
    "state",
    {"type": ["string", "object", "array"]},
    {
        "type": "object",
        "minProperties": 1,
        "maxProperties": MAX_QUESTIONS,
        "propertyNames": {**_NAME, "minLength": 1},
        "additionalProperties": _SYSTEM_ONE_QUESTION,
    },
)
_DECISIONS_BODY: Final = _body(
    "Choices about an input, which may be text, or messages.",
    "input",
    OPTIONS["input"].schema,
    {"type": "array", "minItems": 1, "maxItems": MAX_QUESTIONS, "items": _LISTED_QUESTION},
)


@dataclass(frozen=True)
class Answered:
    """The answer to a question.

    Args:
        question: it.
        probabilities: of its options, in their order; they sum to 1.
        more: what is known beyond the protocol.
    """

    question: ChoiceQuestion
    probabilities: list[float]
    more: dict[str, Any]

    @property
    def choice(self) -> Value:
        """The most probable option, the first of equal ones."""
        return self.question.values[self.probabilities.index(max(self.probabilities))]

    @property
    def confidence(self) -> float:
        """How far the largest probability is from that of a guess, on the way to 1."""
        guess = 1 / len(self.probabilities)
        return 1.0 if guess == 1 else max(0.0, (max(self.probabilities) - guess) / (1 - guess))


def decision_protocols(serving: Serving) -> APIRouter:
    """The endpoints over ``serving``."""
    router = APIRouter(tags=["decisions"], route_class=ServedRoute)
    responses = responses_of_protocols()

    @router.post(SYSTEM_ONE, response_model=SystemOneReply, responses=responses, openapi_extra=_SYSTEM_ONE_BODY)
    async def system_one(request: Request) -> Response:
        """Choose between given options, as TypeSafe's System One does."""
        return await _answer(serving, request, read_system_one, _system_one_reply)

    @router.post(DECISIONS, response_model=DecisionsReply, responses=responses, openapi_extra=_DECISIONS_BODY)
    async def decisions(request: Request) -> Response:
        """Choose between given options, as OpenAI's Decisions API does."""
        return await _answer(serving, request, read_decisions, _decisions_reply)

    return router


async def _answer(
    serving: Serving,
    request: Request,
    read: Callable[[Any], Asked],
    reply: Callable[[list[Answered], list[Decision]], dict[str, Any]],
) -> Response:
    asked = await read_body_by(request, read)
    decisions = await _decide(serving, request, asked)
    found = iter(decisions)
    answers = [_answered(serving, question, next(found) if question.table else None) for question in asked.questions]
    return JSONResponse({"model": asked.model or serving.model_name, **reply(answers, decisions)})


async def _decide(serving: Serving, request: Request, asked: Asked) -> list[Decision]:
    """The decisions on the questions that have a table."""
    tables = [question.table for question in asked.questions if question.table is not None]
    if not tables:
        return []
    caller, deadline = caller_of(request, None), serving.settings.deadline
    future = serving.service.submit_by_tables(asked.conversation, tables=tables, scores=True, deadline=deadline, caller=caller)
    decisions = await serving.wait(request, future)
    for decision in decisions:
        serving.metrics.decided(decision, is_inline=True)
    if any(decision.reason == "deadline" and decision.decided_by is None for decision in decisions):
        # These protocols have no fallback to answer with.
        raise unavailable(f"no decision within {deadline:g} s", "timeout")
    for decision in decisions:
        serving.note(request, _to_keep(decision), asked.conversation, asked_model=asked.model)
    return decisions


def _to_keep(decision: Decision) -> Decision:
    """A decision as the record keeps it: options may be as long as descriptions."""
    if decision.scores is None or max(map(len, decision.scores)) <= _LONGEST_KEPT:
        return decision
    return replace(decision, route=decision.route[:_LONGEST_KEPT], scores=None)


def _answered(serving: Serving, question: ChoiceQuestion, decision: Decision | None) -> Answered:
    scores = (decision.scores if decision is not None else None) or {OTHER: 1.0}
    weights = [scores.get(answer, 0.0) for answer in question.answers]
    total = sum(weights)
    # System One is closed: what lies on none of the options is shared out between them.
    probabilities = [weight / total for weight in weights] if total else [1 / len(weights)] * len(weights)
    more: dict[str, Any] = {
        "matched": decision is not None and decision.matched,
        "confidence": 1.0 if decision is None else decision.confidence,
        "other": scores.get(OTHER, 0.0),
        "calibrated": decision is not None and serving.is_calibrated(decision),
        "decided_by": None if decision is None else decision.decided_by,
        "reason": None if decision is None else decision.reason,
    }
    return Answered(question, probabilities, more)


def _tokens(decisions: list[Decision]) -> tuple[int, int, int]:
    """Of prompts, of these in a cache, and of answers."""
    tokens = [decision.tokens for decision in decisions]
    return sum(each.prompt for each in tokens), sum(each.reused for each in tokens), sum(each.answer for each in tokens)


def _system_one_reply(answers: list[Answered], decisions: list[Decision]) -> dict[str, Any]:
    prompt, _, answer = _tokens(decisions)
    found = {
        each.question.name: {
            "type": "choice",
            "choice": each.choice,
            "confidence": each.confidence,
            "probabilities": dict(zip(each.question.values, each.probabilities, strict=True)),
            "archroute": each.more,
        }
        for each in answers
    }
    return {"answers": found, "usage": {"input_tokens": prompt, "output_tokens": answer}}


def _decisions_reply(answers: list[Answered], decisions: list[Decision]) -> dict[str, Any]:
    prompt, reused, answer = _tokens(decisions)
    found = [
        {
            "type": "choice",
            "name": each.question.name,
            "choice": each.choice,
            "confidence": each.confidence,
            "probabilities": [
                {"value": value, "probability": probability}
                for value, probability in zip(each.question.values, each.probabilities, strict=True)
            ],
            "archroute": each.more,
        }
        for each in answers
    ]
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": reused, "cache_write_tokens": 0},
        "output_tokens": answer,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + answer,
    }
    return {"answers": found, "usage": usage}
