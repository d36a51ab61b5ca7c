"""Models that the tests run on: the bundled one, and one with random weights."""

from __future__ import annotations

import functools
import gc
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from filelock import FileLock
from hypothesis import settings

from archroute_edge.config import RoutingConfig, load_config
from archroute_edge.deciders import _encoder, _generative
from archroute_edge.engine import LoadedModel, chosen_kernels, soundness
from archroute_edge.engine import _engine_choice as engine_choice
from archroute_edge.engine import _kernel_trial as kernel_trial
from archroute_edge.system import bundled_folder
from archroute_edge.targets._route_advice import Embed, bundled_encoder
from tests.small_model import write_small_model
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.bert_checkpoints import write_bert
from tools.fixtures.unigram_tokenizer import build_unigram

# No example may fail because a machine is slow, and no run may leave a folder behind.
settings.register_profile("archroute", deadline=None, max_examples=40, database=None)
settings.register_profile("quick", settings.get_profile("archroute"), max_examples=10)
settings.load_profile("archroute")

# A shell starts what is in its background with interrupts ignored, and child processes would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

EXAMPLE_ROUTES = Path(__file__).parent.parent / "archroute_edge" / "data" / "example_routes.yaml"

CARD_MESSAGE = (
    "fix this module 'torch.utils._pytree' has no attribute 'register_pytree_node'. did you mean: '_register_pytree_node'?"
)
"""The example of Arch-Router's model card, which belongs on bug_fixing."""


_SLOW_FIXTURES = {"bundled_model", "kernel_verdict", "random_encoder", "random_model", "random_multilingual"}
_SLOW_FOLDERS = {
    "apps",
    "bench",
    "cli",
    "convert",
    "docs",
    "engine",
    "install",
    "measure",
    "models",
    "package",
    "release",
    "server",
}


def pytest_configure(config: pytest.Config) -> None:
    """The inner loop tries fewer examples of a property."""
    if config.option.markexpr == "quick":
        settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as quick all tests of the library that make no model and are in no folder of commands, servers and downloads."""
    for item in items:
        if _folder_of(item.path) not in _SLOW_FOLDERS and not _SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("quick")


@functools.cache
def _folder_of(path: Path) -> str:
    """The folder here that a test's file is in, or its own name if it stands beside this one; empty elsewhere."""
    here = Path(__file__).parent
    return path.relative_to(here).parts[0] if path.is_relative_to(here) else ""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The thousands of tests and modules stay to the end: the garbage collector need not go through them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def kernel_verdict(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the verdict on this machine's kernels, which every process of a test would reach for itself.

    Beside it stands that on ik_llama.cpp. The workers of pytest-xdist share them, since their trials take seconds.
    """
    is_worker = hasattr(request.config, "workerinput")
    folder = tmp_path_factory.getbasetemp().parent / "kernels" if is_worker else tmp_path_factory.mktemp("kernels")
    folder.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, FileLock(folder.with_name("kernels.lock")):
        patch.setenv("ARCHROUTE_CACHE_DIR", str(folder))
        patch.delenv("ARCHROUTE_CPU_KERNELS", raising=False)
        verdict = chosen_kernels()
        path = kernel_trial._kept_in(kernel_trial.AUTO)
        assert path is not None
        # Whoever decided earlier in this process has left it in another folder.
        if not path.exists():
            kernel_trial._write(path, verdict)
        engine_choice._verdicts.clear()
        assert soundness() is None
    return path


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The small models run on one thread.

    llama.cpp's threads wait for each other by spinning, which takes many times as long where other work runs beside.
    """
    with pytest.MonkeyPatch.context() as patch:
        for decider in (_generative, _encoder):
            patch.setattr(decider, "physical_cores", lambda: 1)
        yield


@pytest.fixture(scope="session")
def folder_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders that do not exist: pytest would make one for each test, and few write anything."""
    parent = tmp_path_factory.mktemp("private")
    return (parent / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def private_folders(request: pytest.FixtureRequest, folder_names: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own caches and models: theirs are in this folder, tmp_path for a test that has one."""
    folder: Path = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else next(folder_names)
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(folder / "prefixes"))
    # huggingface_hub reads its environment once, when it is imported.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    for name in ("ARCHROUTE_MODELS_DIR", "ARCHROUTE_CATALOGUE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def tried_kernels(private_folders: Path, kernel_verdict: Path) -> None:
    """The test's cache folder has the verdicts, so that its processes need no trial."""
    cache = private_folders / "prefixes"
    private_folders.mkdir(exist_ok=True)
    cache.mkdir(mode=0o700)
    for verdict in kernel_verdict.parent.glob("*.json"):
        (cache / verdict.name).write_bytes(verdict.read_bytes())


@pytest.fixture(scope="session")
def bundled_model() -> Path:
    """The bundled demonstration model."""
    return bundled_folder() / "tiny-Q8_0.gguf"


@pytest.fixture(scope="session")
def embed() -> Iterator[Embed]:
    """What compares routes for advice on them: the bundled encoder, which takes a fifth of a second to load."""
    with bundled_encoder() as embed:
        yield embed


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights (F32): it agrees with no guess."""
    return write_small_model(tmp_path_factory.mktemp("models") / "random-F32.gguf")


@pytest.fixture(scope="session")
def random_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sentence encoder with random weights (F32)."""
    folder = tmp_path_factory.mktemp("encoder")
    convert_checkpoint(write_bert(folder / "checkpoint").folder, folder / "random-encoder.gguf", "f32")
    return folder / "random-encoder.gguf"


@pytest.fixture(scope="session")
def random_multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sentence encoder with random weights (F32) and a tokenizer like XLM-RoBERTa's."""
    folder = tmp_path_factory.mktemp("multilingual")
    checkpoint = write_bert(folder / "checkpoint", tokenizer=build_unigram())
    convert_checkpoint(checkpoint.folder, folder / "random-multilingual.gguf", "f32")
    return folder / "random-multilingual.gguf"


@pytest.fixture(scope="session")
def random_loaded(random_model: Path) -> Iterator[LoadedModel]:
    """The random model, loaded once."""
    with LoadedModel(random_model) as model:
        yield model


@pytest.fixture(scope="session")
def ik_loaded(random_model: Path) -> Iterator[LoadedModel]:
    """The random model, with its weights in ik_llama.cpp."""
    with LoadedModel(random_model, engine="ik") as model:
        yield model


@pytest.fixture(params=["llama.cpp", "ik"])
def each_loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """The random model in each of the engines."""
    loaded: LoadedModel = request.getfixturevalue("ik_loaded" if request.param == "ik" else "random_loaded")
    return loaded


@pytest.fixture(scope="session")
def card_config() -> RoutingConfig:
    """The five routes of Arch-Router's model card."""
    return load_config(EXAMPLE_ROUTES)
