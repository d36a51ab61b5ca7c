"""Replies of the three APIs as bytes, written so that reading and writing them again would change them."""

from __future__ import annotations

import json

TEXT = "It is the loop\u2019s last index."
"""What the upstreams of tests say."""


def chat_reply(text: str = TEXT, model: str = "stub-1", *, cached: int = 4) -> bytes:
    """A chat completion: keys in no usual order, spaces, an escaped letter, and keys that no one has heard of."""
    details = f'{{"cached_tokens": {cached}}}'
    usage = f'{{"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19, "prompt_tokens_details": {details}}}'
    message = f'{{"role":"assistant","content":{json.dumps(text)},"refusal":null}}'
    return (
        f'{{ "object":"chat.completion",\n  "id": "chatcmpl-stub", "created":1,  "model": {json.dumps(model)},'
        f' "choices": [{{"index":0,"finish_reason":"stop","logprobs":null,"message":{message}}}],'
        f' "usage": {usage}, "x_new_key": 1.10, "sum": "\\u03a3" }}\n'
    ).encode()


def chat_events(text: str = TEXT, model: str = "stub-1", *, with_usage: bool = True) -> list[bytes]:
    """A streamed chat completion: a word an event, a comment, the usage, ``[DONE]``."""
    head = '"id":"chatcmpl-stub",  "object":"chat.completion.chunk","created":1,"model":' + json.dumps(model)
    words = [word if not number else f" {word}" for number, word in enumerate(text.split(" "))]
    deltas = [f'{{"content": {json.dumps(word, ensure_ascii=False)}}}' for word in words]
    choices = [
        f'[{{"index":0,"delta":{delta},"finish_reason":null}}]' for delta in ['{"role":"assistant","content":""}', *deltas]
    ]
    choices.append('[{"index":0,"delta":{},"finish_reason":"stop"}]')
    events = [": the upstream is thinking\n\n", *(f'data: {{{head},"choices":{each}}}\n\n' for each in choices)]
    if with_usage:
        usage = '{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19,"prompt_tokens_details":{"cached_tokens":4}}'
        events.append(f'data: {{{head},"choices":[],"usage":{usage}}}\n\n')
    return [event.encode() for event in [*events, "data: [DONE]\n\n"]]


def responses_reply(text: str = TEXT, model: str = "stub-1") -> bytes:
    """An answer of the Responses API."""
    return json.dumps(_response(text, model, "completed"), indent=1).encode()


def responses_events(text: str = TEXT, model: str = "stub-1") -> list[bytes]:
    """A streamed one; its API has no ``[DONE]``."""
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    done = _response(text, model, "completed")
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": {**_response("", model, "in_progress"), "output": [], "usage": None}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        {"type": "response.output_text.delta", **at, "delta": text, "logprobs": []},
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.completed", "response": done},
    ]
    return [_named({**event, "sequence_number": number}) for number, event in enumerate(events)]


def messages_reply(text: str = TEXT, model: str = "stub-1") -> bytes:
    """An answer of Anthropic's Messages API."""
    return json.dumps({**_message(model), "stop_reason": "end_turn", "content": [{"type": "text", "text": text}]}).encode()


def messages_events(text: str = TEXT, model: str = "stub-1") -> list[bytes]:
    """A streamed one, with its pings."""
    usage = {"output_tokens": 7}
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": _message(model)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return [_named(event) for event in events]


def reply_to(path: str, body: bytes) -> bytes | list[bytes]:
    """What the API at ``path`` answers to ``body``: a body, or the events of a stream."""
    try:
        asked = json.loads(body or b"{}")
    except ValueError:
        asked = {}
    is_stream, model = asked.get("stream") is True, str(asked.get("model", "stub-1"))
    if path.endswith("/responses"):
        return responses_events(model=model) if is_stream else responses_reply(model=model)
    if path.endswith("/messages"):
        return messages_events(model=model) if is_stream else messages_reply(model=model)
    return chat_events(model=model) if is_stream else chat_reply(model=model)


def _named(event: dict[str, object]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _response(text: str, model: str, status: str) -> dict[str, object]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": model,
        "output": [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 12,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 19,
        },
    }


def _message(model: str) -> dict[str, object]:
    usage = {"input_tokens": 8, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 7}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
