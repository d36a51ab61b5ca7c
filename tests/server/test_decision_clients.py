"""The official packages for System One and Decisions against a running server: only the base URL is another."""

from __future__ import annotations

import pytest

from tests.server.test_decision_protocols import BUG, OPTIONS
from tools.measure.server_process import ServerProcess

KEY = "none"


def test_typesafe_asks_it_as_its_own(server: ServerProcess) -> None:
    """Short bodies, and longer ones, which its package compresses."""
    import typesafe_sdk
    from typesafe_sdk import Choice, TypeSafeClient

    with TypeSafeClient(api_key=KEY, base_url=server.address) as client:
        assert [model.name for model in client.models.list().models] == ["tiny"]
        for state in (BUG, BUG + " in my code" * 200):
            reply = client.system_one(
                model="jev-latest",
                state=state,
                questions={"route": Choice(instructions="Which route?", criteria={**OPTIONS, "other": None})},
            )
            answer = reply.answers["route"]
            assert isinstance(answer, typesafe_sdk.ChoiceAnswer)
            assert answer.choice in {*OPTIONS, "other"}
            assert 0 <= answer.confidence <= 1
            assert sum(answer.probabilities.values()) == pytest.approx(1)
            assert reply.usage.input_tokens


def test_typesafe_hears_what_is_not_answered(server: ServerProcess) -> None:
    import typesafe_sdk
    from typesafe_sdk import Choice, Noul, TypeSafeClient

    with TypeSafeClient(api_key=KEY, base_url=server.address) as client:
        with pytest.raises(typesafe_sdk.TypeSafeUnprocessableEntityError, match="made for 'noul'"):
            client.system_one(model="m", state=BUG, questions={"urgent": Noul(instructions="Is it urgent?")})
        with pytest.raises(typesafe_sdk.TypeSafeBadRequestError, match="300 options"):
            client.system_one(
                model="m", state=BUG, questions={"q": Choice(instructions="?", criteria={str(n): None for n in range(300)})}
            )


def test_openai_asks_it_as_its_own(server: ServerProcess) -> None:
    import openai

    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        reply = client.decisions.create(
            model="gpt-6-luna",
            input=[{"role": "user", "content": BUG}],
            questions=[
                {
                    "type": "choice",
                    "name": "route",
                    "instructions": "Which route?",
                    "choices": [{"value": name, "description": text} for name, text in OPTIONS.items()],
                },
                {"type": "choice", "instructions": "Is it code?", "choices": [{"value": True}, {"value": False}]},
            ],
        )
        route, code = reply.answers
        assert route.type == "choice" and route.name == "route" and route.choice in OPTIONS
        assert code.type == "choice" and code.name is None and isinstance(code.choice, bool)
        assert [each.value for each in code.probabilities] == [True, False]
        assert reply.usage.input_tokens > 0
        with pytest.raises(openai.UnprocessableEntityError, match="predicate") as caught:
            client.decisions.create(model="m", input=BUG, questions=[{"type": "predicate", "instructions": "Is it urgent?"}])
        assert (caught.value.code, caught.value.param) == ("unsupported_question", "questions.0.type")
