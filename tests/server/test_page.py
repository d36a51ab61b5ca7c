"""The page at ``/``: one file that loads nothing, and a policy that keeps everything else out of it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import get_args

import pytest

from archroute_edge.decision import ModelReason, Reason
from archroute_edge.routing import RoutingService
from tests.server.conftest import Client

App = Callable[..., Client]


def policy(client: Client) -> dict[str, str]:
    header = client("GET", "/").headers["content-security-policy"]
    return dict(directive.strip().split(" ", 1) for directive in header.split(";"))


def test_the_page_holds_its_style_and_its_script_and_the_policy_names_them(client: Client) -> None:
    """With another script the browser runs none, and a script from a name could not run at all."""
    answer = client("GET", "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    rules = policy(client)
    for kind in ("style", "script"):
        found = re.findall(rf"<{kind}[^>]*>(.*?)</{kind}>", answer.text, re.DOTALL)
        assert len(found) == 1
        assert len(found[0]) > 1000
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_nothing_is_loaded_from_elsewhere(client: Client) -> None:
    """A page of a program that promises to stay on the machine must not tell anybody that it was opened."""
    answer = client("GET", "/")
    # The name of a format, at which nothing is asked for.
    text = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]+\.[a-z]|@import|\burl\(|<(?:iframe|object|embed|base)\b|\ssrc=", text)
    assert "set-cookie" not in answer.headers
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_names_reach_the_page_as_text_alone(client: Client) -> None:
    """Routes and models of a request are named by strangers."""
    text = client("GET", "/").text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser", text)
    assert not re.search(r"\son[a-z]+=|\sstyle=|javascript:", text)


def test_every_reason_has_words(client: Client) -> None:
    """A reason that the page does not know would stand there as programs write it."""
    text = client("GET", "/").text
    reasons = [*get_args(Reason), *get_args(ModelReason)]
    assert "deadline" in reasons
    assert [reason for reason in reasons if f'\n  {reason}: "' not in text] == []


def test_the_page_itself_needs_no_key_and_holds_no_data(app_over: App, service: RoutingService) -> None:
    client = app_over(service, api_key="s3cret-key")
    answer = client("GET", "/")
    assert answer.status_code == 200
    assert answer.text == app_over(service)("GET", "/").text
    for secret in ("s3cret-key", "bug_fixing", "m/default", "tiny"):
        assert secret not in answer.text


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_the_page_is_behind_the_guard(client: Client, headers: dict[str, str]) -> None:
    assert client("GET", "/", headers=headers).status_code == 403


def test_a_link_from_another_page_opens_it(client: Client) -> None:
    """A browser says that the click came from elsewhere, as it does of the documentation."""
    assert client("GET", "/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_requests_for_it_are_counted_by_path(client: Client) -> None:
    client("GET", "/")
    assert client.metric('archroute_http_requests_total{path="/",status="200"}') == 1
