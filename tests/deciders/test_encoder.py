"""What a router with an encoder promises: probabilities, batches, vectors kept, and no message that breaks it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import pytest

from archroute_edge import OTHER, Route, Router, RouteTable
from archroute_edge.errors import ConversationError, EngineError, SettingsError
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.bert_checkpoints import write_bert

ROUTES = (
    Route("cook_dinner", "cook a dinner, book a table"),
    Route("fix_bugs", "write code and fix bugs"),
    Route("translate", "translate a text into another language"),
    Route("planTrips"),
)
MESSAGES = ("please fix this bug", "cook a dinner today", "translate this text into a language", "plan a trip", "thanks", "?")
LONG = "please fix this bug " * 1250


@pytest.fixture
def router(random_encoder: Path) -> Iterator[Router]:
    with Router(ROUTES, model=random_encoder, prefix_cache=False) as router:
        yield router


def test_many_together_are_decided_as_each_alone(router: Router) -> None:
    """In their order, long ones among them; what they cost adds up."""
    conversations = [f"{message} {number}" for number in range(20) for message in (*MESSAGES, LONG)]
    together = router.route_many(conversations, scores=True)
    for conversation, decision in list(zip(conversations, together, strict=True))[::9]:
        alone = router.route(conversation, scores=True)
        assert alone.scores == pytest.approx(decision.scores, abs=1e-3)
        assert (alone.trimmed, alone.tokens.prompt) == (decision.trimmed, decision.tokens.prompt)
    assert sum(decision.tokens.evaluations for decision in together) < len(together) / 3
    assert router.route_many([]) == []


def test_the_order_of_the_routes_changes_no_score() -> None:
    """Not even by rounding, which could turn a decision between two routes that are equally near."""
    routes = [
        Route(f"{verb}_{noun}", f"to {verb} a {noun}") for verb in ("buy", "sell", "rent") for noun in ("car", "house", "boat")
    ]
    message = "what does it take to get a little boat for a week?"
    found = []
    for table in (routes, routes[::-1], [*routes[4:], *routes[:4]]):
        with Router(table, model="mini", prefix_cache=False) as router:
            found.append(router.route(message, scores=True).scores)
    assert found[1] == pytest.approx(found[0], abs=1e-12) and found[2] == pytest.approx(found[0], abs=1e-12)


def test_the_order_of_routes_that_read_alike_changes_nothing(random_encoder: Path) -> None:
    """An encoder reads names as words, so their texts are one, and their vectors differ by rounding at most."""
    names = ["fix bugs", "fix-bugs", "fix_bugs"]
    others = [
        Route("cook_dinner", "cook a dinner"),
        Route("Cook-dinner", "cook a dinner, book a table for two"),
        Route("trips"),
    ]
    for model in (random_encoder, "mini"):
        with Router(ROUTES, model=model, prefix_cache=False) as router:
            for order in permutations(names):
                for n_others in range(len(others)):
                    routes = [*(Route(name, "fix bugs in code") for name in order), *others[:n_others]]
                    assert router.route("fix bugs in this code", routes=routes[::-1]).route == "fix bugs"


def test_tokens_are_those_of_message_and_routes(random_encoder: Path) -> None:
    """The routes are evaluated once, when the router is made."""
    with Router(ROUTES, model=random_encoder, prefix_cache=False) as router:
        n_routes = router.warm().tokens
        tokens = router.route("please fix this bug").tokens
        assert (tokens.reused, tokens.answer, tokens.evaluations) == (n_routes, 0, 1)
        assert 0 < tokens.evaluated == tokens.prompt - tokens.reused < 12
        new = router.route("please fix this bug", routes=[Route("another")]).tokens
        assert (new.reused, new.evaluations) == (0, 2)
        assert new.evaluated == new.prompt
        assert router.route("please", routes=[Route("another")]).tokens.evaluations == 1
        assert router.n_ctx == 0


@pytest.mark.parametrize("message", [LONG, "x" * 200_000, "\u65e5\u672c\u8a9e" * 20_000, "\0" * 1000, " \u200b "])
def test_any_message_is_decided(router: Router, message: str) -> None:
    """More tokens than the encoder has positions would end the process."""
    decision = router.route(message)
    assert decision.route in (*router.config.table.names, OTHER)
    assert 0 < decision.confidence <= 1


def test_what_is_left_out_is_said(router: Router) -> None:
    assert (router.route("please").trimmed, router.route(LONG).cut_turns) == (False, 1)
    turns = [{"role": "user" if number % 2 == 0 else "assistant", "content": f"message {number}"} for number in range(9)]
    decision = router.route(turns)
    assert (decision.dropped_turns, decision.cut_turns, decision.trimmed) == (4, 0, True)


def test_earlier_turns_count(router: Router) -> None:
    """A short reply is read with what it replies to."""
    turns = [{"role": "user", "content": "translate this text"}, {"role": "assistant", "content": "into which language?"}]
    alone = router.route("yes please", scores=True)
    assert alone.scores != router.route([*turns, {"role": "user", "content": "yes please"}], scores=True).scores


def test_threads_get_the_answers_of_one(router: Router) -> None:
    """Also with tables of their own."""
    tables = [RouteTable(ROUTES), RouteTable(ROUTES[:2]), RouteTable(reversed(ROUTES))]
    jobs = [(message, table) for message in MESSAGES for table in tables] * 4

    def decide(job: tuple[str, RouteTable]) -> dict[str, float]:
        return dict(router.route(job[0], routes=job[1], scores=True).scores or {})

    expected = [decide(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(decide, jobs)) == [pytest.approx(scores, abs=1e-3) for scores in expected]


def test_nothing_of_a_passing_tables_texts_is_kept(router: Router) -> None:
    """Would break if tables that come with requests were kept whole: 256 of them, of megabytes each."""
    tracemalloc.start()
    try:
        for number in range(3):
            router.route("please fix this bug", routes=[Route("a", f"{number} " + "fix bugs " * 12_500), Route("b")])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 250_000


def test_closed(random_encoder: Path) -> None:
    router = Router(ROUTES, model=random_encoder, prefix_cache=False)
    router.close()
    router.close()
    for call in (lambda: router.route("x"), router.warm):
        with pytest.raises(EngineError, match="has been closed"):
            call()


def test_one_bad_conversation_of_many(router: Router) -> None:
    with pytest.raises(ConversationError):
        router.route_many(["fine", [{"role": "nobody", "content": "x"}]])
    with pytest.raises(SettingsError, match="1 keys for 2 conversations"):
        router.route_many(["one", "two"], keys=["k"])


@pytest.mark.parametrize(
    "setting",
    [
        {"decoder": "grammar"},
        {"decoder": "fast"},
        {"n_ctx": 512},
        {"budget": 100},
        {"budget": 2048},
        {"flash_attention": True},
        {"kv_type": "f16"},
        {"prompt_format": "card"},
    ],
)
def test_settings_that_say_nothing_to_an_encoder(random_encoder: Path, setting: dict[str, object]) -> None:
    """Accepting and ignoring them would deceive, also where a value is the default of a language model."""
    with pytest.raises(SettingsError, match=f"^{next(iter(setting))} is about a model that is given a prompt"):
        Router(ROUTES, model=random_encoder, **setting)  # type: ignore[arg-type]


class TestKeptVectors:
    @pytest.mark.usefixtures("tried_kernels")
    def test_the_next_process_evaluates_no_routes(self, random_encoder: Path, tmp_path: Path) -> None:
        folder = tmp_path / "kept"
        with Router(ROUTES, model=random_encoder, prefix_cache=folder) as router:
            here = router.route(MESSAGES[0], scores=True)
        (kept,) = folder.iterdir()
        assert kept.stat().st_mode & 0o077 == 0
        script = (
            "import json, sys\nfrom archroute_edge import Router\nfrom tests.deciders.test_encoder import ROUTES, MESSAGES\n"
            "with Router(ROUTES, model=sys.argv[1], prefix_cache=sys.argv[2], threads=1) as router:\n"
            "    print(json.dumps([router.warm().evaluated, router.route(MESSAGES[0], scores=True).to_dict()]))\n"
        )
        command = [sys.executable, "-c", script, str(random_encoder), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        evaluated, there = json.loads(done.stdout)
        assert evaluated == 0
        assert there["scores"] == pytest.approx(here.scores, abs=1e-6)
        assert there["tokens"]["evaluations"] == 1

    def test_other_texts_and_other_models_have_their_own(self, random_encoder: Path, tmp_path: Path) -> None:
        folder = tmp_path / "kept"
        other = tmp_path / "other.gguf"
        convert_checkpoint(write_bert(tmp_path / "checkpoint", seed=1).folder, other, "f32")
        changed = (*ROUTES[:-1], Route("planTrips", "by train"))
        for model, routes in ((random_encoder, ROUTES), (other, ROUTES), (random_encoder, changed)):
            before = len(list(folder.glob("*")))
            with Router(routes, model=model, prefix_cache=folder):
                pass
            assert len(list(folder.glob("*"))) == before + 1

    @pytest.mark.parametrize("how", ["changed", "truncated", "of another size"])
    def test_damaged_ones_are_computed_again(
        self, random_encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
    ) -> None:
        """And never used."""
        folder = tmp_path / "kept"
        with Router(ROUTES, model=random_encoder, prefix_cache=folder) as router:
            expected = router.route(MESSAGES[0], scores=True).scores
        (kept,) = folder.iterdir()
        raw = kept.read_bytes()
        if how == "changed":
            kept.write_bytes(raw[:-2] + bytes([raw[-2] ^ 0x40]) + raw[-1:])
        elif how == "truncated":
            kept.write_bytes(raw[:-100])
        else:
            self.write_shorter_state(kept)
        with caplog.at_level(logging.WARNING), Router(ROUTES, model=random_encoder, prefix_cache=folder) as router:
            assert router.route(MESSAGES[0], scores=True).scores == pytest.approx(expected, abs=1e-6)
        assert "again" in caplog.text
        assert kept.read_bytes() == raw

    @staticmethod
    def write_shorter_state(path: Path) -> None:
        """A sound file with one vector less."""
        import hashlib

        raw = path.read_bytes()
        length = int.from_bytes(raw[8:12], "little")
        fields, state = json.loads(raw[12 : 12 + length]), raw[12 + length : -256]
        header = json.dumps({**fields, "sha256": hashlib.sha256(state).hexdigest()}).encode()
        path.write_bytes(raw[:8] + len(header).to_bytes(4, "little") + header + state)

    def test_nothing_that_anybody_said_and_no_passing_routes(self, random_encoder: Path, tmp_path: Path) -> None:
        folder = tmp_path / "kept"
        with Router(ROUTES, model=random_encoder, prefix_cache=folder) as router:
            router.route("please fix this bug")
            router.route("please fix this bug", routes=[Route("passing")])
            said = router.route_many(MESSAGES)
        assert len(said) == len(list(folder.iterdir())) * len(MESSAGES)
