"""What a router leaves on the disk: static prefixes that the next process can use, and nothing that anybody said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archroute_edge import Route, Router
from archroute_edge.deciders import GenerativeDecider
from archroute_edge.prompts import PromptBuilder
from tests.gate import PATIENCE_S

ROUTES = (Route("code_fixing", "fixing bugs in code"), Route("api_help", "help with an api"))
OTHERS = (Route("translation", "translating a text"), Route("poetry", "writing poems"))
SECRET = "zebra quokka 73 \U0001f993 xylophone"


def header_of(path: Path) -> dict[str, object]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[8:12], "little")
    fields = json.loads(raw[12 : 12 + length])
    assert isinstance(fields, dict)
    return fields


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "saved" / "prefixes"


def prompt_of(router: Router) -> PromptBuilder:
    assert isinstance(router._decider, GenerativeDecider)
    return router._decider.prompt


def talk(router: Router) -> None:
    conversation = [{"role": "user", "content": SECRET}]
    router.route(SECRET)
    router.warm(conversation)
    router.route(conversation, scores=True)
    conversation += [{"role": "assistant", "content": SECRET}, {"role": "user", "content": "and " + SECRET}]
    router.route(conversation)
    router.route(conversation, routes=OTHERS)
    router.warm(conversation, routes=OTHERS)


def test_no_conversation_reaches_the_disk(random_model: Path, folder: Path, tmp_path: Path) -> None:
    """A cache that survives the process must not keep what people said."""
    static = []
    for routes in (ROUTES, OTHERS):
        with Router(routes, model=random_model, threads=1, prefix_cache=folder) as router:
            talk(router)
        with Router(routes, model=random_model, threads=1, prefix_cache=tmp_path / "silent") as router:
            router.warm()
            static.append([*prompt_of(router).static_parts(router.config.table).prefix])
    spoken, silent = ({path.name: path for path in each.iterdir() if path.is_file()} for each in (folder, tmp_path / "silent"))
    assert sorted(static) == sorted(header_of(path)["tokens"] for path in spoken.values())  # type: ignore[type-var]
    # A router in which nobody said anything saves the same names, tokens and amounts of state.
    assert {name: path.stat().st_size for name, path in spoken.items()} == {
        name: path.stat().st_size for name, path in silent.items()
    }
    assert {name: header_of(path)["tokens"] for name, path in spoken.items()} == {
        name: header_of(path)["tokens"] for name, path in silent.items()
    }
    for path in spoken.values():
        assert not any(word.encode() in path.read_bytes() for word in ("zebra", "quokka", "xylophone"))


@pytest.mark.parametrize("kind", ["generative", "encoder", "cascade"])
def test_routes_that_come_with_a_message_are_not_saved(
    random_model: Path, random_encoder: Path, folder: Path, kind: str
) -> None:
    """Nor by warm-ups. Would break if a hundred tables of clients pushed out the one that every start needs."""
    models = {"generative": random_model, "encoder": random_encoder, "cascade": f"{random_encoder}+{random_model}"}
    more = {"switch_over": 1.0} if kind == "cascade" else {}
    with Router(ROUTES, model=models[kind], threads=1, prefix_cache=folder, **more) as router:  # type: ignore[arg-type]
        router.route("hello", routes=OTHERS, deadline=PATIENCE_S)
        router.route("hello", deadline=PATIENCE_S)
        saved = sorted(folder.iterdir())
        router.warm(routes=[Route("first")])
        router.warm("hello", routes=[Route("second")])
        router.warm("hello", routes=[Route("third")], whole=True)
        assert sorted(folder.iterdir()) == saved
        assert len(saved) == (2 if kind == "cascade" else 1)


def test_a_second_router_starts_warm(random_model: Path, folder: Path) -> None:
    """The first decision of a process is the slow one, and a command line makes only that."""
    counts = []
    for _ in range(2):
        with Router(ROUTES, model=random_model, threads=1, prefix_cache=folder) as router:
            counts.append(router.route("hello").tokens)
            n_static = len(prompt_of(router).static_parts(router.config.table).prefix)
    assert [count.reused for count in counts] == [0, n_static]


def test_without_a_folder_nothing_is_written(random_model: Path, tmp_path: Path) -> None:
    """`--no-prefix-cache` is for machines on which nothing may be left."""
    before = sorted(tmp_path.rglob("*"))
    with Router(ROUTES, model=random_model, threads=1, prefix_cache=False) as router:
        router.route("hello")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_prefix_is_evaluated_and_saved_again(
    random_model: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged cache may cost time, and never a wrong route or a failed decision."""
    decisions = []
    for attempt in range(3):
        with Router(ROUTES, model=random_model, threads=1, prefix_cache=folder) as router:
            decisions.append(router.route("hello", scores=True))
        if attempt == 0:
            (path,) = folder.iterdir()
            raw = bytearray(path.read_bytes())
            raw[-100] ^= 0xFF
            path.write_bytes(raw)
    assert [decision.tokens.reused > 0 for decision in decisions] == [False, False, True]
    assert len({decision.route for decision in decisions}) == 1
    assert [record.levelno for record in caplog.records if "checksum does not match" in record.getMessage()] == [30]


def test_another_setting_does_not_load_it(random_model: Path, folder: Path) -> None:
    """A state computed with other kernels is not what this engine would compute."""
    for flash_attention in (True, False):
        with Router(ROUTES, model=random_model, threads=1, prefix_cache=folder, flash_attention=flash_attention) as router:
            assert router.route("hello").tokens.reused == 0
    assert len(list(folder.iterdir())) == 2
