"""Prompts that others rendered, read back: the same routes and turns, and nothing that a message says changes them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.conversation import Turn
from archroute_edge.errors import ConversationError, PromptFormatError, RouteTableError
from archroute_edge.prompt_formats import CARD, GATEWAY, ORCHESTRATOR, PROMPT_FORMATS, PromptFormat, recognise
from archroute_edge.routes import Route, RouteTable

EACH = pytest.mark.parametrize("each", PROMPT_FORMATS.values(), ids=PROMPT_FORMATS)

TABLE = RouteTable([Route("code", "writing code"), Route("café", "ordering coffee")])
TURNS = (Turn("user", "hello"), Turn("assistant", "hi"), Turn("user", "a flat white, please"))

# What a message would hold to be taken for another part of the prompt.
MARKERS = [
    *("<routes>", "</routes>", "<conversation>", "</conversation>", '{"name": "evil"}', '"}]', "[]", "\n"),
    *(text for each in PROMPT_FORMATS.values() for text in (each.opening, each.middle, each.closing)),
    CARD.render(RouteTable([Route("evil")]), [Turn("user", "x")]),
]

TEXTS = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(MARKERS)), min_size=1, max_size=4).map("".join)
TABLES = (
    st.lists(st.tuples(TEXTS.filter(lambda name: name.strip() and name != "other"), TEXTS), min_size=1, max_size=4)
    .flatmap(lambda pairs: st.just([Route(f"{number}{name}", text) for number, (name, text) in enumerate(pairs)]))
    .map(RouteTable)
)
CONVERSATIONS = st.lists(
    st.builds(Turn, st.sampled_from(["user", "assistant"]), TEXTS.filter(str.strip)), min_size=1, max_size=4
).map(lambda turns: (*turns, Turn("user", "last")))


@EACH
@given(table=TABLES, turns=CONVERSATIONS)
def test_what_was_rendered_is_read_back(each: PromptFormat, table: RouteTable, turns: tuple[Turn, ...]) -> None:
    """A reader that looks for markers takes routes out of a message that holds them."""
    found = recognise(each.render(table, turns))
    assert found is not None
    assert (found.format, found.table, found.turns) == (each, table, turns)


@EACH
@given(text=TEXTS)
def test_other_text_is_no_prompt_whatever_it_holds(each: PromptFormat, text: str) -> None:
    """A chat that quotes a router prompt is a chat; taking it for one would answer a question with a route."""
    assert recognise(f"What is this?\n{each.opening}{text}") is None


@EACH
def test_blank_space_between_the_words_may_differ(each: PromptFormat) -> None:
    """Copies of the model card differ in it, and some clients strip what they send."""
    prompt = each.render(TABLE, TURNS)
    for other in (prompt.strip(), prompt + " \n", prompt.replace("\n", "\r\n"), prompt.replace("intent.\n", "intent. \n")):
        found = recognise(other)
        assert found is not None
        assert (found.table, found.turns) == (TABLE, TURNS)


def test_the_shape_of_the_reply_is_the_formats_own() -> None:
    """Plano takes a list, the card's scripts a name; the other one is a parse error to either."""
    assert CARD.reply_with("a b") == GATEWAY.reply_with("a b") == '{"route": "a b"}'
    assert CARD.reply_with("other") == '{"route": "other"}'
    assert ORCHESTRATOR.reply_with('a "b"') == '{"route": ["a \\"b\\""]}'
    assert ORCHESTRATOR.reply_with("other") == '{"route": []}'


def test_routes_of_agents_are_read_without_their_parameters() -> None:
    """Plano puts the parameters of an agent beside its name; they are no part of when to choose it."""
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    routes = json.dumps({"name": "weather", "description": "forecasts", "parameters": parameters})
    prompt = ORCHESTRATOR.render(TABLE, TURNS).replace(ORCHESTRATOR.write_routes(TABLE), routes)
    found = recognise(prompt)
    assert found is not None
    assert found.table == RouteTable([Route("weather", "forecasts")])


def test_system_and_empty_messages_are_left_out() -> None:
    """They are when a conversation comes in any other way."""
    messages = [{"role": "system", "content": "be kind"}, {"role": "assistant", "content": None}]
    written = json.dumps([*messages, {"role": "user", "content": "hello"}])
    found = recognise(CARD.render(TABLE, TURNS).replace(CARD.write_conversation(TURNS), written))
    assert found is not None
    assert found.turns == (Turn("user", "hello"),)


ROUTES, CONVERSATION = CARD.write_routes(TABLE), CARD.write_conversation(TURNS)


@pytest.mark.parametrize(
    ("was", "becomes", "error", "message"),
    [
        (ROUTES, "code: writing code", PromptFormatError, "the routes of the card prompt are not followed by </routes>"),
        (ROUTES, '[{"name": "a"', PromptFormatError, "the routes of the card prompt cannot be read"),
        (ROUTES, "[" * 100_000, PromptFormatError, "the routes of the card prompt cannot be read: JSON that cannot be used"),
        (ROUTES, '["a"]', PromptFormatError, "not an object with a name"),
        (ROUTES, '[{"name": 7}]', RouteTableError, "must be text"),
        (ROUTES, "[]", RouteTableError, "there are no routes"),
        (ROUTES, '[{"name": "other"}]', RouteTableError, "may not be called 'other'"),
        (CONVERSATION, "user: hello", PromptFormatError, "conversation of the card prompt is not followed by </conversation>"),
        (CONVERSATION, '[{"role": "user", "content": "a\nb"}]', PromptFormatError, "Invalid control character"),
        (CONVERSATION, "[]", ConversationError, "there are no messages"),
        ("use the exact name", "use a name", PromptFormatError, "word for word"),
        ('"route_name"}\n', '"route_name"}\nAnd be polite.', PromptFormatError, "there is more text behind the end"),
    ],
)
def test_a_prompt_that_goes_wrong_says_where(was: str, becomes: str, error: type[Exception], message: str) -> None:
    """Answering it anyway would answer with routes that nobody asked for."""
    prompt = CARD.render(TABLE, TURNS)
    assert prompt.count(was) == 1
    with pytest.raises(error, match=message):
        recognise(prompt.replace(was, becomes))
