"""The server's page in a real browser: what it shows, and what it must never do.

    python -m tools.measure.page

Starts servers in this process and Chromium without a window, prints a verdict for each check, and takes half a minute. The exit
code is 1 if one fails.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import replace
from typing import Any, Final

import click

from archroute_edge import RoutingConfig, parse_config
from archroute_edge.record import Entry, Try
from tools.docs.browser import Browser
from tools.docs.page_server import MESSAGES, PageServer

KEY: Final = "s3cret-key"
HOSTILE: Final = (
    *("<img src=x onerror=document.title='broken'>", "<script>document.title='broken'</script>", "{{7*7}}", "__proto__"),
    *(
        "\u202egnorw\u202c",
        "مسار طويل لكتابة الرسائل",
        "כתיבת דוא״ל",
        "x" * 240,
        "a long name " * 20,
        "\ud800 half",
        "e\u0301" * 80,
    ),
)
_LIVE: Final = "document.getElementById('state').className === 'live'"
_ANSWERED: Final = "!document.getElementById('answer').hidden"
# The contrast of each text with what is behind it, by WCAG 2.
_CONTRASTS: Final = """(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => sum + part * linear(colour[i] / 255), 0);
  const behind = (e) => {
    const found = e ? rgb(getComputedStyle(e).backgroundColor) : rgb(getComputedStyle(document.body).backgroundColor);
    return e && found[3] === 0 ? behind(e.parentElement) : found;
  };
  const all = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim(), e = walk.currentNode.parentElement;
    if (!text || !e.checkVisibility() || e.closest("script, style, noscript")) continue;
    const pair = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    all.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), text.slice(0, 30)]);
  }
  return all.sort((x, y) => x[0] - y[0])[0];
})()"""


def routes(count: int) -> RoutingConfig:
    """A configuration of so many routes, hard names first."""
    # Half a surrogate pair is refused in a configuration, and comes with requests alone.
    hostile = [name for name in HOSTILE if "\ud800" not in name]
    names = [*hostile, *(f"route_{number:03}" for number in range(count - len(hostile)))]
    models = {name: [f"ollama/{name.strip()[:100]}", "openai/gpt-5-mini"] for name in names}
    entries = [{"name": name.strip(), "description": f"about {name.strip()}", "models": models[name]} for name in names]
    return parse_config(json.dumps({"default_model": "openai/gpt-5-mini", "routing_preferences": entries}))


def looks_only_here(page: Browser, address: str) -> None:
    """Nothing was asked of another address, nothing was refused by the policy, nothing went wrong."""
    elsewhere = [url for url in page.requested if not url.startswith((f"{address}/", "data:"))]
    assert elsewhere == [], elsewhere
    assert page.said == [], page.said
    assert page.run("document.cookie") == ""


def an_empty_page_says_what_to_do() -> None:
    """Without a request it shows one to copy, and a link fills the box without sending anything."""
    with PageServer() as server, Browser(1280, 900) as page:
        page.open(f"{server.address}/#try=hello%20%3Cb%3Ethere")
        page.wait_for(_LIVE)
        assert f"curl {server.address}/v1/route" in page.run("document.getElementById('empty').innerText")
        assert page.run("document.getElementById('message').value") == "hello <b>there"
        assert server.app.recent.look().number == 0
        looks_only_here(page, server.address)


def decisions_come_by_themselves() -> None:
    """A request from elsewhere appears without a reload, and a click on its route shows what was tried."""
    with PageServer() as server, Browser(1280, 900) as page:
        page.open(f"{server.address}/")
        page.wait_for(_LIVE)
        server.make_traffic(250)
        page.wait_for("document.querySelector('#figures dd').textContent === '250'")
        assert page.run("document.querySelectorAll('#rows tr').length") == 30
        page.run("document.querySelector('#rows button').click()")
        details = page.run("document.querySelector('.detail').innerText")
        assert "answered (200)" in details or "server error (503)" in details, details
        server.make_traffic(3)
        page.wait_for("document.getElementById('pause').textContent === 'Go on (3 new)'")
        # A tab that is not seen holds no connection, and loses nothing that is being read.
        for hidden in ("true", "false"):
            page.run(f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}})")
            page.run("document.dispatchEvent(new Event('visibilitychange'))")
            if hidden == "true":
                server.make_traffic(2)
        page.wait_for("document.getElementById('pause').textContent === 'Go on (5 new)'")
        assert page.run("document.querySelector('.detail').innerText") == details
        page.run("document.getElementById('pause').click()")
        page.wait_for("document.getElementById('pause').textContent === 'Pause'")
        assert page.run("document.querySelectorAll('.detail').length") == 0
        looks_only_here(page, server.address)


def a_message_is_tried_by_keyboard() -> None:
    """Tab reaches the box first, Enter decides; every route has its score, the largest first."""
    with PageServer() as server, Browser(1280, 900) as page:
        page.open(f"{server.address}/")
        page.wait_for(_LIVE)
        page.press("Tab")
        assert page.run("document.activeElement.id") == "message"
        page.write("my test raises")
        page.press("Enter", modifiers=8)
        page.write("an IndexError")
        page.press("Enter")
        page.wait_for(_ANSWERED)
        assert page.run("document.getElementById('message').value") == "my test raises\nan IndexError"
        scores = page.run("[...document.querySelectorAll('#scores li')].map((li) => li.innerText.split('\\n'))")
        assert len(scores) == 7, scores
        assert scores[0][0] == "bug_fixing", scores
        assert page.run("document.querySelector('#chosen .name').textContent") == "bug_fixing"
        assert "anthropic/claude-sonnet-4-6" in page.run("document.getElementById('chosen').innerText")
        page.wait_for("document.querySelectorAll('#rows tr').length === 1")
        looks_only_here(page, server.address)


def hard_names_stay_text() -> None:
    """Names that look like HTML, run from right to left, or never end, on 200 routes: at 360 pixels nothing sticks out."""
    table = routes(200)
    for width, dark in ((360, False), (800, True), (1280, True), (1920, False)):
        with PageServer(table) as server, Browser(width, 900, dark=dark, reduced_motion=True) as page:
            page.open(f"{server.address}/")
            page.wait_for(_LIVE)
            tries = tuple(Try(name, "p", 429, "rate_limited", None, 1.0) for name in HOSTILE)
            for name in HOSTILE:
                made = Entry(id="0" * 32, time=1e9, operation="chat", outcome="failed", status=503, route=name, model=name)
                server.app.recent.add(replace(made, tries=tries, asked_model=name, client=name, model_reason=name))
            page.wait_for(f"document.querySelectorAll('#rows tr').length === {len(HOSTILE)}")
            page.run("document.getElementById('message').focus()")
            page.write("hello")
            page.press("Enter")
            page.wait_for(_ANSWERED)
            for button in ("#scores-all", "#models-all", "#routes-all", "#rows button"):
                page.run(f"document.querySelector('{button}').click()")
            assert page.run("document.querySelectorAll('#scores li').length") == 201
            assert page.run("document.querySelectorAll('img, body script:not([type=module]), b b, iframe').length") == 0
            assert page.run("document.title") == "archroute"
            shown = page.run("document.body.innerText")
            assert all(name.strip() in shown for name in HOSTILE[:3]), "a name is not shown as it is"
            assert page.run("document.documentElement.scrollWidth") <= width
            looks_only_here(page, server.address)


def the_key_is_asked_for() -> None:
    """With a key: no data before it, a wrong one is refused, the right one stays in the tab and nowhere else."""
    with PageServer(api_key=KEY) as server, Browser(390, 800) as page:
        page.open(f"{server.address}/")
        page.wait_for("document.activeElement.id === 'key-text'")
        assert page.run("document.getElementById('all').hidden")
        page.write("wrong")
        page.press("Enter")
        page.wait_for("document.getElementById('key-wrong').textContent === 'That is not the key.'")
        page.write(KEY)
        page.press("Enter")
        page.wait_for(_LIVE)
        assert "$ARCHROUTE_API_KEY" in page.run("document.getElementById('curl').textContent")
        assert KEY not in page.run("document.documentElement.outerHTML")
        page.open(f"{server.address}/?again")
        page.wait_for(_LIVE)
        page.run("document.getElementById('message').focus()")
        page.write(MESSAGES[0])
        page.press("Enter")
        page.wait_for(_ANSWERED)
        assert page.run("[localStorage.length, sessionStorage.length]") == [0, 1]
        assert all(KEY not in url for url in page.requested)


def an_end_of_the_server_is_said() -> None:
    """The page says that it is not live any more, and keeps what it shows."""
    with PageServer() as server, Browser(1280, 900) as page:
        server.make_traffic(20)
        page.open(f"{server.address}/")
        page.wait_for(_LIVE)
        server.app.recent.close()
        page.wait_for("document.getElementById('state').className === 'lost'")
        assert page.run("document.querySelectorAll('#rows tr').length") == 20


def everybody_can_read_it() -> None:
    """Texts have a contrast of 4.5 in light and dark; every control and the table have names; nothing moves if so wished."""
    for dark in (False, True):
        with PageServer() as server, Browser(1280, 900, dark=dark, reduced_motion=True) as page:
            server.make_traffic(300)
            page.open(f"{server.address}/")
            page.wait_for(_LIVE)
            page.run("document.getElementById('message').focus()")
            page.write(MESSAGES[3])
            page.press("Enter")
            page.wait_for(_ANSWERED)
            page.run("document.querySelector('#rows button').click()")
            contrast, text = page.run(_CONTRASTS)
            assert contrast >= 4.5, f"{text!r} has a contrast of {contrast:.2f}"
            tree = page.call("Accessibility.getFullAXTree")["nodes"]
            roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
            unnamed = [role for role, name in roles if role in ("button", "textbox", "table", "image") and not name]
            assert unnamed == [], unnamed
            assert {"banner", "main", "table", "columnheader", "cell", "row"} <= {role for role, _ in roles}
            assert page.run("document.getAnimations().length") == 0


CHECKS: Final = (
    an_empty_page_says_what_to_do,
    decisions_come_by_themselves,
    a_message_is_tried_by_keyboard,
    hard_names_stay_text,
    the_key_is_asked_for,
    an_end_of_the_server_is_said,
    everybody_can_read_it,
)


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Run the checks of these NAMES, all by default."""
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        if names and check.__name__ not in names:
            continue
        problem: Any = None
        try:
            check()
        except (AssertionError, RuntimeError, TimeoutError) as exc:
            problem = str(exc) or traceback.extract_tb(exc.__traceback__)[-1].line
            failed += 1
        click.echo(f"{'FAILED' if problem else 'ok':6} {name}{f': {problem}' if problem else ''}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(prog_name="python -m tools.measure.page")
