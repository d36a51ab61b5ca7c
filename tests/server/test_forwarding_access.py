"""Who may ask the gateway, and what it keeps to itself: keys, credentials, cookies."""

from __future__ import annotations

import logging
from collections.abc import Callable

import httpx
import pytest

from archroute_edge.errors import ConfigError
from tests.server.gateway_server import CHAT, KEYS, GatewayServer, two_models
from tests.upstream import Upstream, plain, redirect, refused_url, resets, status, streamed
from tests.upstream_replies import chat_events

Start = Callable[..., GatewayServer]

OURS = "local-secret-1"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


CREDENTIALS = {"Authorization": "Bearer client-secret", "X-Api-Key": "client-secret", "Cookie": "c=client-secret"}


def test_the_clients_credentials_stay_here(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url))
    assert (
        server.ask(headers={**CREDENTIALS, "Api-Key": "client-secret", "Proxy-Authorization": "client-secret"}).status_code
        == 200
    )
    arrival = one.next_arrival()
    assert arrival.header("authorization") == "Bearer sk-one-secret"
    assert "client-secret" not in repr(arrival.headers)


def test_passthrough_auth_sends_the_clients_own(forwarding: Start, one: Upstream, two: Upstream) -> None:
    config = two_models(one.url, two.url).replace("access_key: $ONE_KEY", "passthrough_auth: true")
    server = forwarding(config)
    assert server.ask(headers=CREDENTIALS).status_code == 200
    arrival = one.next_arrival()
    assert arrival.header("authorization") == "Bearer client-secret"
    assert arrival.header("cookie") is None
    # The other provider has a key of its own.
    assert server.ask(model="two/small", headers=CREDENTIALS).status_code == 200
    assert two.next_arrival().header("authorization") == "Bearer sk-two-secret"


def test_the_servers_own_key_never_goes_up(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if passthrough_auth gave every upstream the key to this server."""
    config = two_models(one.url, two.url).replace("access_key: $ONE_KEY", "passthrough_auth: true")
    server = forwarding(config, api_key=OURS)
    assert server.ask().status_code == 401
    # Anthropic's package sends both if both are configured.
    for headers in ({"Authorization": f"Bearer {OURS}"}, {"Authorization": f"Bearer {OURS}", "X-Api-Key": OURS}):
        assert server.ask(headers=headers).status_code == 200
    for arrival in one.arrivals + two.arrivals:
        assert OURS not in repr(arrival.headers)


FAILING = [
    status(401, message="Incorrect API key provided: sk-one-secret"),
    status(500, message="sk-one-secret"),
    redirect("http://sk-one-secret@127.0.0.1:1/"),
    resets,
]


def test_no_key_comes_out(forwarding: Start, one: Upstream, two: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "archroute_edge")
    server = forwarding(two_models(one.url, two.url))
    one.will(*FAILING)
    answers = [server.ask(model="one/big", headers=CREDENTIALS) for _ in FAILING]
    assert all(each.status_code >= 400 for each in answers)
    shown = [caplog.text, repr(server.entries.wait_for(len(FAILING)))]
    for text in (*shown, *(each.text for each in answers), *(repr(each.headers) for each in answers)):
        for secret in (*KEYS.values(), "client-secret"):
            assert secret not in text


def test_a_stream_that_breaks_tells_no_key(
    forwarding: Start, one: Upstream, two: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "archroute_edge")
    one.will(streamed(chat_events()[:3], then=resets))
    answer = forwarding(two_models(one.url, two.url)).ask(stream=True)
    assert "secret" not in answer.text + caplog.text


def test_texts_are_neither_logged_nor_noted(
    forwarding: Start, one: Upstream, two: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "archroute_edge")
    one.will(status(500, message="I read: please fix my diary"), plain(b'{"choices": "about my diary"}'))
    server = forwarding(two_models(one.url, two.url))
    for _ in range(2):
        server.ask("please fix my diary, it raises an IndexError in my python function", user="diary of alice")
    entries = server.entries.wait_for(2)
    assert "diary" not in caplog.text
    assert all(each.content is None for each in entries)
    assert "diary" not in repr(entries)


def test_without_the_key_no_model_is_asked(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url), api_key=OURS)
    for headers in ({}, bearer("wrong"), {"X-Api-Key": "wrong"}, {"Authorization": f"Basic {OURS}"}):
        for path in (CHAT, "/v1/responses", "/v1/messages"):
            answer = server.client.post(path, json={"model": "auto", "messages": [], "input": ""}, headers=headers)
            assert answer.status_code == 401
    assert not one.arrivals + two.arrivals
    for headers in (bearer(OURS), {"X-Api-Key": OURS}):
        assert server.ask(model="one/big", headers=headers).status_code == 200
        assert OURS not in repr(one.next_arrival().headers)


def test_a_foreign_page_cannot_spend_the_users_money(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url))
    body = b'{"model": "one/big", "messages": [{"role": "user", "content": "hi"}]}'
    foreign: list[tuple[dict[str, str], int]] = [
        ({"Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site"}, 415),
    ]
    for headers, code in foreign:
        for path in (CHAT, "/v1/messages", "/v1/responses"):
            answer = server.client.post(path, content=body, headers={"Content-Type": "application/json", **headers})
            assert answer.status_code == code
    assert not one.arrivals + two.arrivals


LIMITED = """
archroute:
  keys:
    - {name: alice, key: $ALICE, requests_per_minute: 2}
    - {name: bob, key: $BOB, tokens_per_minute: 30}
    - {name: carol, key: carol-secret}
"""


@pytest.fixture
def limited(forwarding: Start, one: Upstream, two: Upstream, monkeypatch: pytest.MonkeyPatch) -> GatewayServer:
    monkeypatch.setenv("ALICE", "alice-secret")
    monkeypatch.setenv("BOB", "bob-secret")
    return forwarding(two_models(one.url, two.url, more=LIMITED))


def as_client(name: str) -> dict[str, str]:
    return bearer(f"{name}-secret")


def check_refusal(answer: httpx.Response) -> None:
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.json()["error"]["code"]
    assert "secret" not in answer.text


def test_a_key_has_its_requests_a_minute(limited: GatewayServer, one: Upstream) -> None:
    answers = [limited.ask(headers=as_client("alice")) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    check_refusal(answers[-1])
    assert len(one.arrivals) == 2
    assert limited.ask(headers=as_client("carol")).status_code == 200
    assert {each.client for each in limited.entries.wait_for(3)} >= {"alice", "carol"}


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_key_has_its_tokens_a_minute(limited: GatewayServer, is_stream: bool) -> None:
    """An answer of the upstream costs 19."""
    answers = [limited.ask(headers=as_client("bob"), stream=is_stream) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    check_refusal(answers[-1])


def test_with_keys_in_the_file_one_of_them_is_needed(limited: GatewayServer, one: Upstream, two: Upstream) -> None:
    assert [limited.ask(headers=each).status_code for each in ({}, as_client("mallory"))] == [401, 401]
    assert not one.arrivals + two.arrivals


def test_a_missing_key_ends_the_start_with_its_line(forwarding: Start) -> None:
    with refused_url() as url:
        config = two_models(url, url)
        with pytest.raises(ConfigError, match=r"gateway\.yaml:4: .*TWO_KEY_THAT_IS_MISSING"):
            forwarding(config.replace("$TWO_KEY", "$TWO_KEY_THAT_IS_MISSING"))
