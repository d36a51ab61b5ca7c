"""The Router as an application uses it: results, errors, threads, growth, closing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from archroute_edge import OTHER, ArchRouteError, Route, Router, RouteTable, RoutingConfig, parse_config
from archroute_edge.engine import BatchToken, LlamaEngine, LoadedModel, Logits
from archroute_edge.errors import (
    ContextOverflowError,
    ConversationError,
    EngineError,
    ModelLoadError,
    PromptFormatError,
    RouteTableError,
    SettingsError,
)
from archroute_edge.routing import RoutingService
from tests.conftest import CARD_MESSAGE, EXAMPLE_ROUTES
from tests.small_model import write_small_model

ROUTES = [Route("bug_fixing", "fixing errors in code", ("openai/gpt-4o", "local/small")), Route("travel", "planning trips")]


def test_the_card_example_is_a_bug_to_fix_with_the_bundled_model() -> None:
    """Would break if the bundled model, its file or the prompt were not what it was trained on."""
    with Router.from_config(EXAMPLE_ROUTES, model="tiny") as router:
        decision = router.route(CARD_MESSAGE, scores=True)
    assert decision.route == "bug_fixing"
    assert decision.matched
    assert decision.model == decision.models[0] == "openai/gpt-4o"
    assert decision.decided_by == "tiny"
    assert decision.scores is not None
    assert decision.confidence == decision.scores["bug_fixing"] > 0.5


def test_a_trained_model_decides_in_one_evaluation_of_the_new_tokens_only() -> None:
    """Would break if a warm decision evaluated a cached token, or took a step for each token of the answer."""
    with Router.from_config(EXAMPLE_ROUTES, model="tiny", prefix_cache=False) as router:
        with LoadedModel(router.model_file.path, vocabulary_only=True) as model:
            n_shared = len(model.vocabulary.tokenize('{"route": "'))
        router.warm()
        for message in (CARD_MESSAGE, "write a function that reverses a list", "thanks, that is all"):
            tokens = router.route(message).tokens
            assert tokens.evaluations == 1
            # The answers' shared beginning, and nothing else of an answer.
            assert tokens.answer == n_shared
            assert tokens.evaluated == tokens.prompt - tokens.reused + n_shared


def test_no_match_gives_the_default_model_or_none(random_model: Path) -> None:
    """Would break if a decision invented a model."""
    config = parse_config("routing_preferences: [{name: a, description: x, models: [m/a]}]\ndefault_model: m/default\n")
    with Router(config=config, model=random_model) as router:
        decisions = [router.route(f"message {number}") for number in range(12)]
    with Router([Route("a", "x")], model=random_model) as router:
        decisions += [router.route(f"message {number}") for number in range(12)]
    for index, decision in enumerate(decisions):
        assert decision.matched == (decision.route != OTHER)
        expected = None if index >= 12 else "m/a" if decision.matched else "m/default"
        assert decision.model == expected
        assert decision.models == ((expected,) if expected else ())


def test_to_dict_is_json_and_complete(random_model: Path) -> None:
    """Would break if --json lost a field of the decision, or held something JSON has not."""
    with Router(ROUTES, model=random_model) as router:
        plain = router.route("hello").to_dict()
        scored = router.route("hello", scores=True)
    assert "scores" not in plain
    values = json.loads(json.dumps(scored.to_dict()))
    assert values["route"] == scored.route
    assert values["models"] == list(scored.models)
    assert values["tokens"]["prompt"] == scored.tokens.prompt
    assert set(values["scores"]) == {"bug_fixing", "travel", "other"}
    assert values["timings"]["total_ms"] > 0


def test_many_threads_decide_as_one_after_another(random_model: Path) -> None:
    """Would break if two threads' tokens met in one sequence."""
    tables = [RouteTable(ROUTES), RouteTable([Route("code"), Route("caf\u00e9"), Route("x", "y")])]
    jobs = [(f"message number {number % 7}", tables[number % 2]) for number in range(20)]
    with Router(ROUTES, model=random_model, threads=1) as router:
        alone = [router.route(message, routes=table, scores=True) for message, table in jobs]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda job: router.route(job[0], routes=job[1], scores=True), jobs))
    for one, two in zip(alone, together, strict=True):
        assert one.scores == pytest.approx(two.scores, abs=2e-3)
        assert one.tokens.prompt == two.tokens.prompt


def test_a_context_that_cannot_be_had_leaves_the_router_as_it_was(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if running out of memory once ended every later decision."""
    large = RouteTable(Route(f"route number {number}", "some words to describe it " * 3) for number in range(60))
    with Router(ROUTES, model=random_model, budget=256) as router:
        first = router.route("hello")
        with monkeypatch.context() as patch:
            patch.setattr("archroute_edge.engine._completion.bytes_per_cell", lambda _header, _type: float(1 << 50))
            with pytest.raises(ModelLoadError, match="MiB of memory"):
                router.route("hello", routes=large)
        assert router.route("hello").route == first.route
        assert router.route("hello", routes=large).tokens.prompt > 1000


@pytest.mark.usefixtures("tried_kernels")
def test_an_unclosed_router_in_a_cycle_is_collected(random_model: Path) -> None:
    """Would break if the garbage collector freed a model before the context that reads it."""
    script = (
        "import gc, sys\n"
        "from archroute_edge import Route, Router\n"
        "class Holder: pass\n"
        "for _ in range(2):\n"
        "    holder = Holder(); holder.me = holder\n"
        "    holder.router = Router([Route('a')], model=sys.argv[1], prefix_cache=False, threads=1)\n"
        "    holder.router.route('hello')\n"
        "    del holder; gc.collect()\n"
        "left_open = Router([Route('a')], model=sys.argv[1], prefix_cache=False, threads=1)\n"
        "print('fine')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(random_model)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_counts_are_what_llama_cpp_was_given(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a decision reported other tokens than it had evaluated."""
    given = []
    evaluate = LlamaEngine._evaluate_piece

    def spy(self: LlamaEngine, piece: Sequence[BatchToken]) -> Logits | None:
        given.append(len(piece))
        return evaluate(self, piece)

    monkeypatch.setattr(LlamaEngine, "_evaluate_piece", spy)
    with Router(ROUTES, model=random_model, prefix_cache=False) as router:
        for message in ("hello", "hello", "something else", "something else that goes on"):
            given.clear()
            tokens = router.route(message).tokens
            assert sum(given) == tokens.evaluated == tokens.prompt - tokens.reused + tokens.answer
            assert len(given) == tokens.evaluations


def test_names_that_share_hundreds_of_tokens_can_be_scored(random_model: Path) -> None:
    """Would break if the depth of the answers' trie were bounded by Python's stack."""
    long = "\U0001f600" * 200
    with Router([Route(long + "a"), Route(long + "b")], model=random_model, threads=1) as router:
        decision = router.route("hello", scores=True)
    assert decision.scores is not None
    assert sum(decision.scores.values()) == pytest.approx(1)


def test_a_larger_table_grows_the_context(random_model: Path) -> None:
    """Would break if routes given with a message had to fit a context sized for others."""
    large = RouteTable(Route(f"route number {number}", "some words to describe it " * 3) for number in range(60))
    with Router(ROUTES, model=random_model, budget=256) as router:
        before = router.n_ctx
        router.route("hello")
        decision = router.route("hello", routes=large)
        assert decision.tokens.prompt > before // 2
        assert router.n_ctx > before
        assert router.route("hello").tokens.reused == 0
        assert router.route("hello there").tokens.reused > 0


def test_a_table_that_cannot_fit_is_an_error_with_the_counts(random_model: Path) -> None:
    """Would break if too many routes crashed in llama.cpp, or cut the prompt silently."""
    with pytest.raises(ContextOverflowError, match=r"table of 2 routes .* \d+ tokens of routes, 2048 of conversation"):
        Router(ROUTES, model=random_model, n_ctx=512)
    huge = [Route(f"route {number}", "words " * 200) for number in range(100)]
    with Router(ROUTES, model=random_model) as router:
        with pytest.raises(ContextOverflowError, match=r"table of 100 routes .* the model takes 16384"):
            router.route("hello", routes=huge)
        assert router.route("hello").tokens.prompt > 0


def test_a_long_conversation_is_trimmed_and_says_so(random_model: Path) -> None:
    """Would break if a conversation beyond the budget failed, or were cut without a word."""
    with Router(ROUTES, model=random_model, budget=128) as router:
        short = router.route("hello")
        long = router.route([{"role": "user", "content": f"message {number} " + "word " * 20} for number in range(30)])
        huge = router.route("word " * 100_000)
    assert not short.trimmed
    assert long.trimmed
    assert long.dropped_turns > 0
    assert huge.trimmed
    assert huge.cut_turns == 1
    assert max(long.tokens.prompt, huge.tokens.prompt) <= short.tokens.prompt + 128 + 16


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, SettingsError),
        ({"routes": ROUTES, "config": RoutingConfig(RouteTable(ROUTES))}, SettingsError),
        ({"routes": ROUTES, "decoder": "slow"}, SettingsError),
        ({"routes": ROUTES, "threads": 0}, SettingsError),
        ({"routes": ROUTES, "threads": 40_000}, SettingsError),
        ({"routes": ROUTES, "n_ctx": 2**32 + 300}, SettingsError),
        ({"routes": ROUTES, "gpu_layers": "all"}, SettingsError),
        ({"routes": [{"name": "a"}]}, RouteTableError),
        ({"routes": ROUTES, "budget": 3}, SettingsError),
        ({"routes": ROUTES, "n_ctx": "many"}, SettingsError),
        ({"routes": ROUTES, "prompt_format": "poem"}, PromptFormatError),
        ({"routes": ROUTES, "kv_type": "q9_0"}, SettingsError),
        ({"routes": ROUTES, "kv_type": "q8_0", "flash_attention": False}, SettingsError),
    ],
)
def test_arguments_that_make_no_sense_are_errors(
    settings: dict[str, object], error: type[ArchRouteError], random_model: Path
) -> None:
    """Would break if a wrong argument were accepted and ignored."""
    with pytest.raises(error):
        Router(model=random_model, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("routes", 3),
        ("config", "routes.yaml"),
        ("model", None),
        ("model", b"mini"),
        ("flash_attention", "on"),
        # Equal to True, and no JSON.
        ("flash_attention", np.bool_(True)),
        ("prompt_format", ["card"]),
        ("kv_type", ["f16"]),
        ("engine", None),
        ("prefix_cache", None),
        ("calibration", {}),
        ("switch_over", "0.5"),
    ],
)
def test_arguments_of_wrong_types_are_errors_that_name_them(name: str, value: object, random_model: Path) -> None:
    """Deep inside they were a TypeError or an AttributeError."""
    arguments: dict[str, Any] = {"model": random_model, **({} if name == "config" else {"routes": ROUTES}), name: value}
    said = {"kv_type": "no KV cache type", "engine": "no engine", "prompt_format": "no prompt format"}.get(name, f"{name} is ")
    with pytest.raises(ArchRouteError, match=f"^{said}"):
        Router(**arguments)


def test_questions_of_wrong_types_are_errors_that_name_the_argument(random_encoder: Path) -> None:
    wrong: Any = 3
    with RoutingService(Router(ROUTES, model=random_encoder)) as service:
        router = service.router
        calls: list[tuple[str, Callable[[], object]]] = [
            ("routes is 3", lambda: router.route("x", routes=wrong)),
            ("routes is 3", lambda: service.submit("x", routes=wrong)),
            ("key is 1.5", lambda: router.route("x", key=wrong / 2)),
            ("key is True", lambda: service.submit("x", key=True)),
            ("key is 1.5", lambda: router.route_many(["x"], keys=[wrong / 2])),
            ("keys is 'a'", lambda: router.route_many(["x"], keys="a")),
            ("keys is 3", lambda: service.submit_many(["x"], keys=wrong)),
            ("deadline is '3'", lambda: router.route("x", deadline="3")),  # type: ignore[arg-type]
            ("cancellation is 3", lambda: router.route("x", cancellation=wrong)),
            ("cancellation is 3", lambda: router.warm("x", cancellation=wrong)),
            ("caller is", lambda: service.submit("x", caller=["window"])),  # type: ignore[arg-type]
            ("the conversations must be a list", lambda: router.route_many(wrong)),
            # Else the keys of the dictionary would be the conversations.
            ("the conversations must be a list", lambda: service.submit_many({"role": "user", "content": "x"})),  # type: ignore[arg-type]
            ("tables is", lambda: service.submit_by_tables("x", ROUTES)),  # type: ignore[arg-type]
            ("router is 3", lambda: service.replace(wrong)),
            ("router is 3", lambda: RoutingService(wrong)),
            ("queue_limit is '3'", lambda: RoutingService(router, queue_limit="3")),  # type: ignore[arg-type]
            ("config is 3", lambda: router.with_config(wrong)),
            ("a configuration file is named by a path", lambda: Router.from_config(wrong)),
        ]
        for said, call in calls:
            with pytest.raises(ArchRouteError, match=f"^{said}"):
                call()
        assert router.route("x") and service.stats().waiting == 0


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.float32])
def test_numbers_may_be_of_numpy(kind: Callable[[Any], Any], random_model: Path, random_encoder: Path) -> None:
    """They were refused, or stopped deep inside: ``operator.index`` takes them, and JSON does not."""
    if kind is not np.float32:
        settings = {"threads": kind(1), "budget": kind(64), "gpu_layers": kind(0)}
        with (
            Router(ROUTES[:1], model=random_model, **settings) as router,
            RoutingService(router, queue_limit=kind(3)) as service,
        ):
            assert service.submit("x", deadline=kind(60)).result().reason != "deadline"
    with Router(ROUTES, model=f"{random_encoder}+{random_model}", switch_over=kind(1)) as router:
        assert router.route("x", deadline=kind(60)).reason != "deadline"


@pytest.mark.parametrize("name", ["threads", "n_ctx", "budget", "gpu_layers"])
@pytest.mark.parametrize("value", [True, np.bool_(True), 64.0, np.float64(64), "64"])
def test_what_is_no_whole_number_is_an_error_that_names_the_argument(name: str, value: Any, random_model: Path) -> None:
    with pytest.raises(ArchRouteError, match=f"^{name} is .*; it must be a whole number from "):
        Router(ROUTES, model=random_model, **{name: value})


@pytest.mark.parametrize("key", [17, np.int64(17), 2**70, UUID("12345678-1234-5678-1234-567812345678")])
def test_a_key_may_be_the_number_or_uuid_of_a_row(key: Any, random_encoder: Path) -> None:
    """It was refused. It draws as its text does, which the servers take: equal keys give equal targets everywhere."""
    targets = [{"model": f"model-{number}", "weight": 1} for number in range(20)]
    routes = [{"name": route.name, "description": route.description, "models": ["any"]} for route in ROUTES]
    written = {"model_aliases": {"any": {"targets": targets}}, "routing_preferences": routes, "default_model": "any"}
    config = parse_config(json.dumps(written))
    with RoutingService(Router(config=config, model=random_encoder, prefix_cache=False)) as service:
        found = [service.submit("x", key=key).result(), *service.submit_many(["x"] * 2, keys=[str(key), key]).result()]
        found.append(service.router.route("x", key=key))
    assert len({each.models for each in found}) == 1
    assert len(found[0].models) == 20


class Texts:
    """A data set of another library: it has a length, and an item at each place."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> str:
        return ["fix it", "a poem"][place]


@pytest.mark.parametrize("conversations", [("fix it", "a poem"), {"fix it": 1, "a poem": 2}.keys(), Texts()])
def test_many_conversations_may_be_any_list(random_encoder: Path, conversations: Any) -> None:
    with Router(ROUTES, model=random_encoder, prefix_cache=False) as router:
        expected = [router.route(text).route for text in ("fix it", "a poem")]
        assert [each.route for each in router.route_many(conversations)] == expected


def test_bad_messages_are_errors_and_the_router_goes_on(random_model: Path) -> None:
    """Would break if one bad request spoiled the next."""
    with Router(ROUTES, model=random_model) as router:
        first = router.route("hello")
        broken: list[Any] = [[7], [{"role": "nobody", "content": "x"}], [{"content": "x"}], [{"role": "user", "content": 7}]]
        for bad in broken:
            with pytest.raises(ConversationError):
                router.route(bad)
        assert router.route("hello").route == first.route


def test_a_closed_router_says_so(random_model: Path) -> None:
    """Would break if a call after close() reached freed memory."""
    router = Router(ROUTES, model=random_model)
    router.close()
    router.close()
    with pytest.raises(EngineError, match="closed"):
        router.route("hello")
    with pytest.raises(EngineError, match="closed"):
        router.warm()


def test_names_outside_nfc_come_back_as_they_were_given(random_model: Path) -> None:
    """Would break if normalising the prompt changed the names that an application knows."""
    decomposed = "cafe\u0301"
    with Router([Route(decomposed, "coffee")], model=random_model) as router:
        scores = router.route("hello", scores=True).scores
    assert scores is not None
    assert set(scores) == {decomposed, "other"}


def test_flash_attention_and_the_decoder_are_settings_that_work(random_model: Path) -> None:
    """Would break if an option were accepted and ignored."""
    found = []
    for settings in ({"flash_attention": True}, {"flash_attention": False}, {"decoder": "grammar"}):
        with Router(ROUTES, model=random_model, prefix_cache=False, **settings) as router:
            found.append(router.route("please fix the error in this code", scores=True))
    for decision in found[1:]:
        assert decision.scores == pytest.approx(found[0].scores, abs=1e-3)
    # A step a token, where the fast decoder takes one for all that the answers share.
    assert found[2].tokens.evaluations > found[0].tokens.evaluations


def test_a_quantized_kv_cache_takes_half_the_memory_and_decides_alike(random_model: Path, tmp_path: Path) -> None:
    """Would break if the type were ignored, or a state of one type were loaded into a cache of another."""
    found, sizes = [], []
    for kv_type in ("f16", "q8_0"):
        before = set(tmp_path.iterdir())
        with Router(ROUTES, model=random_model, prefix_cache=tmp_path, kv_type=kv_type) as router:
            found.append(router.route("please fix the error in this code", scores=True))
        (saved,) = set(tmp_path.iterdir()) - before
        sizes.append(saved.stat().st_size)
    assert found[0].tokens.reused == found[1].tokens.reused == 0
    assert found[0].scores == pytest.approx(found[1].scores, abs=1e-2)
    assert sizes[1] < 0.7 * sizes[0]


def test_a_kv_type_that_the_model_cannot_have_is_an_error_with_the_reason(tmp_path: Path) -> None:
    """Would break if heads that are no multiple of a block of 32 ended the process."""
    narrow = write_small_model(tmp_path / "narrow.gguf", n_heads=4)
    with pytest.raises(ModelLoadError, match="q8_0 with block size 32 does not divide n_embd_head_k=16"):
        Router(ROUTES, model=narrow, kv_type="q8_0")
