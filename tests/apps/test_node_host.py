"""``examples/stdio_host.mjs``: a host in another language, really run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM

EXAMPLE = Path(__file__).parents[2] / "examples" / "stdio_host.mjs"

USES = """
import { ArchRoute } from %s;
const router = new ArchRoute(["--model", "tiny", "--threads", "1"]);
const failed = async (promise) => promise.then(() => null, (error) => ({ type: error.type, code: error.code ?? null }));
const info = await router.request("info");
const many = await Promise.all(Array.from({ length: 10 }, (_, n) => router.route(`message ${n}`, { scores: true })));
const last = new AbortController();
const waiting = Array.from({ length: 10 }, (_, n) => router.route("fix my code " + n));
const called = failed(router.route("never mind", { signal: last.signal }));
last.abort();
const found = {
  routes: info.routes.length,
  many: many.map((each) => Object.keys(each.scores).length),
  called: await called,
  waiting: (await Promise.all(waiting)).length,
  malformed: await failed(router.route([7])),
  warmed: (await router.warm("fix my")).done,
  status: await router.close(),
  late: await failed(router.route("too late")),
  missing: await failed(new ArchRoute([], "no-such-program").route("x")),
};
console.log(JSON.stringify(found));
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An ``archroute`` command that is this very code."""
    script = tmp_path / "archroute"
    root = Path(__file__).parents[2]
    script.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(root))} exec {shlex.join(PROGRAM)} "$@"\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}


def test_the_example(environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["node", str(EXAMPLE), "write a function that sorts a list", "my test fails with an IndexError"],
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("code_generation -> ")
    assert second.startswith("bug_fixing -> ")


def test_overlapping_cancelled_and_failing_requests(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "uses.mjs"
    script.write_text(USES % json.dumps(EXAMPLE.as_uri()))
    done = subprocess.run(
        ["node", str(script)], env=environment, stdout=subprocess.PIPE, encoding="utf-8", timeout=60, check=True
    )
    assert json.loads(done.stdout) == {
        "routes": 5,
        "many": [6] * 10,
        "called": {"type": "DecisionCancelledError", "code": -32800},
        "waiting": 10,
        "malformed": {"type": "ConversationError", "code": -32602},
        "warmed": True,
        "status": 0,
        "late": {"code": None},
        "missing": {"code": None},
    }
