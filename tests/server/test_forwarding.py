"""What goes up and what comes back: bytes, the model's name, headers, and who is asked for which name."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from archroute_edge.conversation import Turn
from archroute_edge.prompts import CARD
from archroute_edge.routes import Route, RouteTable
from tests.server.gateway_server import BUG, CHAT, NEITHER, TRANSLATION, GatewayServer, two_models
from tests.upstream import Upstream, as_asked, gzipped, plain, streamed
from tests.upstream_replies import chat_events, chat_reply

Start = Callable[..., GatewayServer]

ODD_BODY = (
    (
        '{ "messages":[{"role":"user","content":[{"type":"text","text":"TEXT \\u00e9 é"},'
        '{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],\n\t"model" : "auto",'
        ' "metadata":{"model": "auto"}, "tools":[{"type":"function","function":{"name":"model","parameters":{}}}],'
        '"response_format":{"type":"json_object"}, "seed":1.0, "n_new":123456789012345678901234567890, "top_p":1e-0}  '
    )
    .replace("TEXT", BUG)
    .encode()
)
"""What no program writes: spaces, escapes, numbers that lose their digits if they are read, parameters of tomorrow."""


def test_a_request_goes_up_as_it_came_but_for_the_model(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url))
    assert server.send(ODD_BODY).status_code == 200
    arrival = one.next_arrival()
    assert (arrival.method, arrival.path) == ("POST", CHAT)
    assert arrival.body == ODD_BODY.replace(b'"model" : "auto"', b'"model" : "big"')
    assert arrival.header("content-type") == "application/json"
    assert arrival.header("authorization") == "Bearer sk-one-secret"
    assert not two.arrivals


ODD_MODELS = [
    b'{"\\u006dodel": "auto", "messages": [{"role": "user", "content": "hi"}]}',
    b'{"messages": [{"role": "user", "content": "\\"model\\": \\"auto\\""}], "model": "\\u0061uto"}',
    b'{"model":"auto","messages":[{"role":"user","content":"hi"}],"a":{"model":"b","c":[{"model":"auto"}]}}',
]
"""An escaped key, an escaped name, and others deeper down."""


def test_the_model_is_found_however_it_is_written(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if the model were looked for in the text: a message that quotes a request would be changed."""
    server = forwarding(two_models(one.url, two.url))
    for body in ODD_MODELS:
        assert server.send(body).status_code == 200
        arrived = two.next_arrival().body
        assert json.loads(arrived) == {**json.loads(body), "model": "small"}
        assert len(arrived) - len(body) in (len("small") - len("auto"), len("small") - len("\\u0061uto"))


def test_a_body_that_names_two_models_goes_nowhere(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if an upstream read the other of two names than the one that was decided on."""
    server = forwarding(two_models(one.url, two.url))
    answer = server.send(b'{"model": "one/big", "messages": [{"role": "user", "content": "hi"}], "model": "auto"}')
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert not one.arrivals + two.arrivals


def test_an_answer_comes_back_as_it_is(forwarding: Start, one: Upstream, two: Upstream) -> None:
    reply = chat_reply(model="big-2026-01-01")
    one.will(plain(reply, headers=[("x-request-id", "r1"), ("X-RateLimit-Remaining-Requests", "9")]))
    answer = forwarding(two_models(one.url, two.url)).ask()
    assert (answer.status_code, answer.content) == (200, reply)
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["x-request-id"], answer.headers["x-ratelimit-remaining-requests"]) == ("r1", "9")


PIECES = {
    "events": chat_events(),
    "in one": [b"".join(chat_events())],
    "bytes": [bytes([byte]) for byte in b"".join(chat_events("é\u2028\U0001f600"))],
    "CRLF": [b"\xef\xbb\xbfdata: {}\r\n\r\n", b"data:[DONE]\r\n\r\n"],
    "odd": [b"data: not JSON\n\n", b"event: new\nid: 7\nretry: 1\n\n", b"data: \xff\xfe\n\n", b"data: [DONE]"],
}


def test_a_stream_comes_back_as_it_is(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url))
    for name, pieces in PIECES.items():
        one.will(streamed(pieces))
        answer = server.ask(model="one/big", stream=True)
        assert answer.status_code == 200
        assert answer.content == b"".join(pieces), name
        assert answer.headers["content-type"].startswith("text/event-stream")


def test_each_event_of_a_stream_comes_when_it_was_sent(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if events were collected: the gate opens only when the first ones have come."""
    events = chat_events()
    one.will(streamed(events, gate_after=2))
    server = forwarding(two_models(one.url, two.url))
    with server.client.stream("POST", CHAT, json={"model": "auto", "messages": BUG_MESSAGES, "stream": True}) as answer:
        came = b""
        parts = answer.iter_raw()
        while came != events[0] + events[1]:
            came += next(parts)
        one.open_gate()
        assert came + b"".join(parts) == b"".join(events)


BUG_MESSAGES = [{"role": "user", "content": BUG}]


def test_the_answer_says_what_was_decided(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url))
    answer = server.ask()
    said = {name: answer.headers[f"x-archroute-{name}"] for name in ("route", "model", "decided-by", "tries")}
    assert said == {"route": "bug_fixing", "model": "one/big", "decided-by": "mini", "tries": "1"}
    assert 0.0 < float(answer.headers["x-archroute-confidence"]) <= 1.0
    streamed_answer = server.ask(TRANSLATION, stream=True)
    assert streamed_answer.headers["x-archroute-route"] == "translation"
    assert streamed_answer.headers["x-archroute-model"] == "two/small"


def test_without_a_route_the_default_model_answers(forwarding: Start, one: Upstream, two: Upstream) -> None:
    answer = forwarding(two_models(one.url, two.url)).ask(NEITHER)
    assert answer.status_code == 200
    assert (answer.headers["x-archroute-route"], answer.headers["x-archroute-model"]) == ("other", "two/small")


ALIASES = "model_aliases:\n  strong.v1: {target: one/big}\n"


def test_a_model_or_alias_is_asked_directly(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url, more=ALIASES))
    for asked, model, upstream in (("one/big", "one/big", one), ("strong.v1", "one/big", one), ("two/small", "two/small", two)):
        answer = server.ask(model=asked)
        assert answer.status_code == 200
        assert answer.headers["x-archroute-model"] == model
        assert "x-archroute-confidence" not in answer.headers
        assert upstream.next_arrival().json()["model"] == model.partition("/")[2]
    assert len(one.arrivals + two.arrivals) == 3


def test_another_name_is_not_found(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url))
    for model in ("gpt-unknown", "one/other", "Auto", "", "one/", "auto "):
        answer = server.ask(model=model)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), model
    assert not one.arrivals + two.arrivals


def test_a_wildcard_stands_for_every_model_of_its_provider(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url).replace("one/big", "one/*", 1))
    assert server.ask(model="one/any/thing:7b").status_code == 200
    assert one.next_arrival().json()["model"] == "any/thing:7b"


def test_a_name_with_blanks_at_its_ends_stands_in_a_header(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if a name went into a header as it is: no header can begin or end with a blank."""
    server = forwarding(
        two_models(one.url, two.url).replace("one/big", "one/*", 1).replace("name: bug_fixing", 'name: " bugs "')
    )
    assert server.ask(model="one/x ").headers["x-archroute-model"] == "one/x%20"
    assert server.ask().headers["x-archroute-route"] == "%20bugs%20"


def test_a_list_of_models_names_all_that_can_be_asked_for(forwarding: Start, one: Upstream, two: Upstream) -> None:
    listed = forwarding(two_models(one.url, two.url, more=ALIASES)).client.get("/v1/models").json()
    assert {"auto", "strong.v1", "one/big", "two/small"} <= {each["id"] for each in listed["data"]}
    assert all(each["object"] == "model" for each in listed["data"])


def test_a_router_prompt_is_still_answered_by_the_router(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if a gateway that asks this server for its decisions had them answered by a paid model."""
    server = forwarding(two_models(one.url, two.url))
    table = RouteTable([Route("bug_fixing", "Identifying and fixing errors"), Route("poems", "Writing poems")])
    prompt = CARD.render(table, [Turn("user", BUG)])
    answer = server.ask(prompt, model="mini")
    assert json.loads(answer.json()["choices"][0]["message"]["content"].replace("'", '"')) == {"route": "bug_fixing"}
    assert not one.arrivals + two.arrivals


def test_without_the_option_nothing_leaves(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url), forward=False)
    assert server.ask().json()["error"]["code"] == "not_a_router_prompt"
    assert server.ask(model="one/big").status_code == 400
    assert [server.client.post(path, json={"model": "auto"}).status_code for path in ("/v1/responses", "/v1/messages")] == [
        404
    ] * 2
    assert not one.arrivals + two.arrivals


def test_what_is_compressed_stays_so(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if the gateway offered an encoding that the client did not, or took a body's encoding off."""
    reply = chat_reply()
    one.will(gzipped(reply), gzipped(reply))
    server = forwarding(two_models(one.url, two.url))
    answer = server.ask(headers={"Accept-Encoding": "identity"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == reply
    assert "gzip" not in (one.next_arrival().header("accept-encoding") or "")
    assert server.ask(headers={"Accept-Encoding": "gzip"}).content == reply


@pytest.mark.parametrize("base", ["{}/v1", "{}", "{}/v1/", "{}/"])
def test_an_address_is_completed_as_other_gateways_do(forwarding: Start, one: Upstream, two: Upstream, base: str) -> None:
    server = forwarding(two_models(base.format(one.address), two.url))
    assert server.ask().status_code == 200
    assert one.next_arrival().path == CHAT


def test_the_path_of_an_address_replaces_the_providers_own(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(f"{one.address}/a/b", two.url))
    assert server.ask().status_code == 200
    assert one.next_arrival().path == "/a/b/chat/completions"


def test_headers_of_the_apis_and_of_the_file_go_up_others_stay(forwarding: Start, one: Upstream, two: Upstream) -> None:
    config = two_models(one.url, two.url).replace("access_key: $ONE_KEY", 'access_key: $ONE_KEY, headers: {X-Team: "blue"}')
    kept = {"OpenAI-Beta": "a=v1", "Accept": "text/event-stream"}
    dropped = {
        "Cookie": "session=1",
        "X-Forwarded-For": "10.0.0.9",
        "Connection": "keep-alive, x-hop",
        "X-Hop": "1",
        "TE": "trailers",
    }
    server = forwarding(config)
    assert server.ask(headers={**kept, **dropped}).status_code == 200
    arrival = one.next_arrival()
    assert {name: arrival.header(name) for name in kept} == kept
    assert arrival.header("x-team") == "blue"
    assert [name for name in ("Cookie", "X-Hop", "TE") if arrival.header(name) is not None] == []
    assert arrival.header("host") == f"127.0.0.1:{one.port}"


def test_an_upstreams_own_headers_stay_away(forwarding: Start, one: Upstream, two: Upstream) -> None:
    hop = [("Set-Cookie", "a=1"), ("Connection", "x-secret-hop"), ("X-Secret-Hop", "1"), ("Keep-Alive", "timeout=5")]
    one.will(as_asked([*hop, ("X-Archroute-Model", "forged"), ("Access-Control-Allow-Origin", "*")]))
    answer = forwarding(two_models(one.url, two.url)).ask()
    assert answer.status_code == 200
    assert {"set-cookie", "x-secret-hop", "keep-alive", "access-control-allow-origin"} & set(answer.headers) == set()
    assert answer.headers.get_list("x-archroute-model") == ["one/big"]
