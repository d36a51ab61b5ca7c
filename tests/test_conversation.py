"""Which messages and parts a model gets to see."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.conversation import Turn, read_messages, read_user_text
from archroute_edge.errors import ConversationError

USER = {"role": "user", "content": "hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


KEPT = [
    pytest.param("hello", [("user", "hello")], id="text"),
    pytest.param([USER], [("user", "hello")], id="one-message"),
    pytest.param((USER,), [("user", "hello")], id="tuple"),
    pytest.param(
        [USER, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "yes"}],
        [("user", "hello"), ("assistant", "hi"), ("user", "yes")],
        id="order",
    ),
    *(
        pytest.param([{"role": role, "content": "x"}, USER], [("user", "hello")], id=f"dropped-{role}")
        for role in ("system", "developer", "tool", "function")
    ),
    pytest.param([USER, {"role": "tool", "tool_call_id": "1", "content": None}], [("user", "hello")], id="tool-result"),
    pytest.param(
        [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], [("user", "hello")], id="tool-call-only"
    ),
    pytest.param([USER, {"role": "assistant"}], [("user", "hello")], id="no-content"),
    pytest.param([USER, {"role": "user", "content": " \n\t"}], [("user", "hello")], id="blank"),
    pytest.param([USER, {"role": "user", "content": []}], [("user", "hello")], id="no-parts"),
    pytest.param([{"role": "user", "content": [text("a"), text("b")]}], [("user", "a\nb")], id="parts-are-joined"),
    pytest.param([{"role": "user", "content": [text("a"), IMAGE, text("b")]}], [("user", "a\nb")], id="image-between"),
    pytest.param([USER, {"role": "user", "content": [IMAGE]}], [("user", "hello")], id="image-only-message"),
    pytest.param(
        [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"text": "b"}, "c"]}],
        [("user", "a\nb\nc")],
        id="other-spellings-of-text-parts",
    ),
    pytest.param([{"role": "user", "content": "  indented\n", "name": "bob"}], [("user", "  indented\n")], id="verbatim"),
]

SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
NOTHING_TO_READ = [
    pytest.param([], "there are no messages", id="none"),
    pytest.param("", "no user message with text", id="empty-text"),
    pytest.param(" \n", "no user message with text", id="blank-text"),
    pytest.param([{"role": "system", "content": "x"}], "no user message with text", id="only-system"),
    pytest.param([{"role": "assistant", "content": "x"}], "no user message with text", id="only-assistant"),
    pytest.param([{"role": "user", "content": [IMAGE, IMAGE]}], "no user message with text", id="only-images"),
    pytest.param([{"role": "user", "content": [SOUND]}], "no user message with text", id="only-sound"),
    pytest.param([{"role": "assistant", "content": "x"}, {"role": "user", "content": [IMAGE]}], "no user", id="image-last"),
]

REFUSED = [
    pytest.param(None, "must be a text or a list", id="null"),
    pytest.param(b"hello", "must be a text or a list", id="bytes"),
    pytest.param(USER, "must be a text or a list", id="one-bare-message"),
    pytest.param(["hello"], "message 0 is a str", id="texts"),
    pytest.param([USER, None], "message 1 is a NoneType", id="null-message"),
    pytest.param([USER, {"content": "x"}], "message 1 has the role None", id="no-role"),
    pytest.param([USER, {"role": "usr", "content": "x"}], "message 1 has the role 'usr'", id="unknown-role"),
    pytest.param([USER, {"role": ["user"], "content": "x"}], r"message 1 has the role \['user'\]", id="role-list"),
    pytest.param([{"role": "user", "content": 5}], "message 0: content is an int", id="number"),
    pytest.param([{"role": "user", "content": {"text": "x"}}], "message 0: content is a dict", id="mapping"),
    pytest.param([USER, {"role": "user", "content": [text("a"), 5]}], "message 1: part 1 is an int", id="number-part"),
    pytest.param(
        [{"role": "user", "content": [{"type": "text"}]}], "message 0: part 0 is a text part without text", id="textless-part"
    ),
]


@pytest.mark.parametrize(("messages", "turns"), KEPT)
def test_what_is_kept(messages: Any, turns: Sequence[tuple[str, str]]) -> None:
    """The model was trained on conversations cleaned like this; a tool's output or a system prompt misleads it."""
    assert [(turn.role, turn.content) for turn in read_messages(messages)] == turns


@pytest.mark.parametrize("innermost", [IMAGE, text("a")], ids=["image", "text"])
def test_parts_nested_deeper_than_the_stack(innermost: Any) -> None:
    """One such message would end an application, or a batch, with an error that says nothing about messages."""
    part: Any = innermost
    role: Any = "user"
    for _ in range(2 * sys.getrecursionlimit()):
        part, role = {"type": "tool_result", "content": [part]}, [role]
    assert read_messages([{"role": "user", "content": [text("fix"), part]}]).has_images == (innermost is IMAGE)
    with pytest.raises(ConversationError, match=r"message 0 has the role \[\["):
        read_messages([{"role": role, "content": "x"}])


def test_parts_that_hold_themselves() -> None:
    """As a program's own lists may by mistake; it would wait without end."""
    parts: list[Any] = [text("fix")]
    parts.append({"type": "tool_result", "content": parts})
    assert not read_messages([{"role": "user", "content": parts}]).has_images


@pytest.mark.parametrize(("messages", "message"), NOTHING_TO_READ)
def test_without_user_text_there_are_no_turns(messages: Any, message: str) -> None:
    """A picture alone is a conversation, and the caller has to ask some model about it; labelled cases need text."""
    assert read_messages(messages) == ()
    with pytest.raises(ConversationError, match=message):
        read_user_text(messages)


class Part:
    """What a client's package has in the place of a part of a message."""

    def __init__(self, kind: str, text: str | None = None) -> None:
        self.type, self.text = kind, text


class Reply:
    """What a client's package has in the place of a message."""

    def __init__(self, role: object, content: object) -> None:
        self.role, self.content, self.tool_calls = role, content, None


class Role(Enum):
    ASSISTANT = "assistant"


@pytest.mark.parametrize("role", ["assistant", Role.ASSISTANT])
def test_messages_may_be_objects(role: object) -> None:
    """Programs send a reply back as history in the form in which they were given it."""
    reply = Reply(role, [Part("text", "hi"), Part("refusal"), Part("output_text", "there")])
    assert read_messages([USER, reply, Reply("tool", {"exit": 1}), Reply("user", None)]) == (
        Turn("user", "hello"),
        Turn("assistant", "hi\nthere"),
    )


def test_messages_of_openais_package_are_taken() -> None:
    from openai.types.chat import ChatCompletionMessage

    assistant = ChatCompletionMessage(role="assistant", content="hi")
    assert read_messages([USER, assistant]) == (Turn("user", "hello"), Turn("assistant", "hi"))


@pytest.mark.parametrize("content", [{"exit_code": 1}, 7, True, [1, None], [{"type": "text"}]])
@pytest.mark.parametrize("role", ["tool", "function", "system", "developer"])
def test_what_is_left_out_may_hold_any_json(role: str, content: object) -> None:
    """Tools answer with objects, and nothing of a tool message is looked at."""
    assert read_messages([USER, {"role": role, "content": content}]) == (Turn("user", "hello"),)


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ({}, ""),
        ([USER, 7], "1"),
        ([{"role": "bot"}], "0.role"),
        ([USER, {"role": "user", "content": 5}], "1.content"),
        ([{"role": "user", "content": ["a", 5]}], "0.content.1"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "0.content.0.text"),
    ],
)
def test_an_error_has_its_place(messages: Any, place: str) -> None:
    """Over HTTP it is the error's ``param``, by which programs find the mistake."""
    with pytest.raises(ConversationError) as caught:
        read_messages(messages)
    assert caught.value.place == place


@pytest.mark.parametrize(("messages", "message"), REFUSED)
def test_what_cannot_be_routed_is_refused_and_says_where(messages: Any, message: str) -> None:
    """A conversation without a user's words would be routed on nothing, and a malformed one raise a TypeError."""
    with pytest.raises(ConversationError, match=message) as caught:
        read_messages(messages)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\udc00", "\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\U0001f600\ud83d", "\U0001f600\ufffd"),
    ],
)
def test_lone_surrogates_become_the_replacement_character(content: str, read: str) -> None:
    """JSON can carry half a character; encoding it later raises UnicodeEncodeError in the middle of a decision."""
    assert read_messages(content) == (Turn("user", read),)
    assert read_messages([{"role": "user", "content": [text(content)]}]) == (Turn("user", read),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), inner),
    max_leaves=12,
)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "x", None])


@given(JSON | st.lists(st.fixed_dictionaries({"role": ROLES, "content": JSON})))
def test_any_json_is_turns_or_a_conversation_error(document: Any) -> None:
    """A request body of the wrong shape must be the caller's error, never a TypeError of ours."""
    try:
        turns = read_messages(document)
    except ConversationError:
        return
    assert not turns or any(turn.role == "user" for turn in turns)
    assert all(turn.role in ("user", "assistant") and turn.content.strip() for turn in turns)


def test_the_messages_are_not_changed() -> None:
    """Applications send the same list on to the model that was chosen."""
    messages: list[Mapping[str, Any]] = [USER, {"role": "user", "content": [text("a\ud800"), IMAGE]}]
    before = repr(messages)
    read_messages(messages)
    assert repr(messages) == before
