"""The bodies of requests, as pydantic models: what is checked is what the OpenAPI document says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from archroute_edge.routes import MAX_ROUTES, Route, RouteTable
from archroute_edge.server.settings import MAX_BATCH
from archroute_edge.setting_limits import LONGEST_DEADLINE_S

AS_TEXT, AS_LIST = "as text", "as a list"
"""What pydantic calls the two shapes of a value in the place of an error; a caller's body has nothing of that name."""


def _shape(value: Any) -> str | None:
    return AS_TEXT if isinstance(value, str) else AS_LIST if isinstance(value, list) else None


# Told apart by the type, so that an error in a list says what is wrong in it, and not that it is no text.
_ByShape = Discriminator(_shape, "text_or_list", "Input should be a text or a list")


class _Request(BaseModel):
    # Texts are texts and numbers are numbers: nothing is guessed.
    model_config = ConfigDict(strict=True)


class ContentPart(_Request):
    """A part of a message. Parts that are not text are left out."""

    type: str = "text"
    text: str | None = None


class ChatMessage(_Request):
    """A message as OpenAI's API has it; what else stands in it, such as tool calls, is not looked at."""

    role: Literal["user", "assistant", "system", "developer", "tool", "function"]
    content: Annotated[Annotated[str, Tag(AS_TEXT)] | Annotated[list[ContentPart], Tag(AS_LIST)], _ByShape] | None = None

    def plain(self) -> dict[str, Any]:
        """The message as the router takes it."""
        return self.model_dump()


Chat = Annotated[list[ChatMessage], Field(min_length=1)]
Caller = Annotated[
    str | None,
    Field(max_length=256, description="Who asks: callers take turns, and a warm-up replaces an earlier one of its caller."),
]


class StreamOptions(_Request):
    """What a streamed reply has beside its text."""

    include_usage: bool | None = None


class ChatRequest(_Request):
    """A chat completion of the router model: one user message that holds a router prompt.

    Parameters of sampling and length have no effect: the reply is the best one that the routes allow, whole.
    """

    model: str | None = Field(None, description="Any name; the reply carries it. The server has one model.")
    messages: Chat
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = Field(None, description="Not given here: POST /v1/route has probabilities.")
    user: Caller = None


class InlineRoute(_Request):
    """A route that comes with a request."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    models: list[Annotated[str, Field(min_length=1)]] = []


class RoutingPreference(InlineRoute):
    """A route as Plano's ``routing_preferences`` have it."""

    selection_policy: dict[str, Any] | None = Field(
        None, description="Taken and without effect: prices and latencies are not known here, so models keep their order."
    )


class DecisionRequest(_Request):
    """An ordinary chat body; what it would be answered with is not looked at."""

    model: str | None = Field(None, description="Answered as the model to ask where no route fits and there is no default.")
    messages: Chat
    routing_preferences: Annotated[list[RoutingPreference], Field(min_length=1, max_length=MAX_ROUTES)] | None = None
    user: Caller = None


Conversation = Annotated[
    Annotated[str, Field(min_length=1), Tag(AS_TEXT)] | Annotated[list[ChatMessage], Field(min_length=1), Tag(AS_LIST)],
    _ByShape,
]
Routes = Annotated[list[InlineRoute], Field(min_length=1, max_length=MAX_ROUTES)]


class RouteRequest(_Request):
    """A conversation to route."""

    model_config = ConfigDict(strict=True, extra="forbid")

    messages: Conversation
    routes: Routes | None = Field(None, description="Other routes than the server's own.")
    scores: bool = False
    key: str | None = Field(
        None, max_length=256, description="Names the conversation; keeps it on one of several weighted models."
    )
    deadline: float | None = Field(
        None,
        gt=0,
        le=LONGEST_DEADLINE_S,
        allow_inf_nan=False,
        description="Seconds after which the fallback is answered; the server's own also holds.",
    )
    user: Caller = None


class BatchRequest(_Request):
    """Conversations to route, one answer each."""

    model_config = ConfigDict(strict=True, extra="forbid")

    conversations: Annotated[list[Conversation], Field(min_length=1, max_length=MAX_BATCH)]
    routes: Routes | None = None
    scores: bool = False
    user: Caller = None


class WarmRequest(_Request):
    """What is typed so far, or nothing: then the routes alone are evaluated."""

    model_config = ConfigDict(strict=True, extra="forbid")

    messages: Conversation | None = None
    routes: Routes | None = None
    user: Caller = None


def read_conversation(conversation: str | list[ChatMessage]) -> str | list[dict[str, Any]]:
    """A conversation as the router takes it."""
    return conversation if isinstance(conversation, str) else [message.plain() for message in conversation]


def read_routes(routes: list[InlineRoute] | list[RoutingPreference] | None) -> RouteTable | None:
    """The table of routes that came with a request.

    Raises:
        RouteTableError: they cannot be used together.
    """
    return None if routes is None else RouteTable(Route(each.name, each.description, tuple(each.models)) for each in routes)
