"""Which library evaluates a model: asked for, ruled out, measured; and that nothing changes where the extra is missing."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from archroute_edge import Router
from archroute_edge.engine import EngineChoice, check_model_file, choose_engine, ik_status, soundness
from archroute_edge.engine import _engine_choice as engine_choice
from archroute_edge.engine import _ik_binding as ik_binding
from archroute_edge.engine._engine_choice import try_engine
from archroute_edge.engine._trials import TrialRun
from archroute_edge.errors import EngineError, SettingsError
from tests.conftest import EXAMPLE_ROUTES


@pytest.fixture
def header(bundled_model: Path) -> Any:
    return check_model_file(bundled_model)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file is too small for a measurement, and nothing was measured yet in this process."""
    monkeypatch.setattr(engine_choice, "SMALLEST_BYTES", 0)
    engine_choice._measured.cache_clear()
    yield
    engine_choice._measured.cache_clear()


@pytest.fixture
def untried() -> Iterator[None]:
    """This process has not tried ik_llama.cpp yet."""
    engine_choice._soundness.cache_clear()
    yield
    engine_choice._soundness.cache_clear()


def test_the_installed_build_computes_as_llama_cpp_does() -> None:
    """In a real child. Would break with a build whose kernels are wrong on this CPU."""
    assert soundness() is None
    status = ik_status()
    assert (status.version, status.refused) == (ik_binding.TESTED_VERSION, None)
    assert "AVX" in status.features


def test_what_is_asked_for_is_taken(header: Any) -> None:
    assert choose_engine(header, "llama.cpp", n_threads=1) == EngineChoice("llama.cpp", "asked for")
    assert choose_engine(header, "ik", n_threads=1) == EngineChoice("ik", "asked for")


def test_a_small_model_is_not_measured(header: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "run_trial", lambda *_arguments: pytest.fail("a child was started"))
    assert choose_engine(header, n_threads=1).engine == "llama.cpp"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kv_type": "q8_0"}, "KV cache of f16 here, not q8_0"),
        ({"flash_attention": True}, "flash attention"),
    ],
)
def test_what_it_does_not_do_is_left_to_llama_cpp(header: Any, large: None, settings: dict[str, Any], said: str) -> None:
    choice = choose_engine(header, n_threads=1, **settings)
    assert choice.engine == "llama.cpp"
    assert said in choice.reason
    with pytest.raises(SettingsError, match=said) as caught:
        choose_engine(header, "ik", n_threads=1, **settings)
    assert str(caught.value).startswith(f"{header.path}: ")


def test_layers_on_a_gpu_are_llama_cpps(header: Any) -> None:
    with pytest.raises(SettingsError, match="layers on the GPU"):
        choose_engine(header, "ik", n_threads=1, n_gpu_layers=3)
    # All layers, if there is a GPU: what is asked for by default.
    assert choose_engine(header, "ik", n_threads=1, n_gpu_layers=-1).engine == "ik"


@pytest.mark.parametrize(
    ("lists", "said"),
    [({"IK_ARCHITECTURES": ("llama",)}, "the architecture qwen2"), ({"IK_TYPES": ("F32",)}, "weights of Q8_0")],
)
def test_models_that_it_was_not_tested_with(
    header: Any, large: None, monkeypatch: pytest.MonkeyPatch, lists: dict[str, tuple[str, ...]], said: str
) -> None:
    for name, value in lists.items():
        monkeypatch.setattr(engine_choice, name, value)
    assert said in choose_engine(header, n_threads=1).reason
    with pytest.raises(SettingsError, match=said):
        choose_engine(header, "ik", n_threads=1)


def test_the_faster_one_is_found_by_a_measurement_and_kept(
    header: Any, large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if every process measured anew, or if a measurement were taken for another model or number of threads."""
    monkeypatch.setattr(engine_choice, "soundness", lambda: None)
    gains, started = iter([1.7, 0.9]), []

    def measure(_module: str, task: Mapping[str, Any]) -> TrialRun:
        started.append(task)
        return TrialRun({"python": {}, "measured": {"gain": next(gains)}}, 0)

    monkeypatch.setattr(engine_choice, "run_trial", measure)
    expected = EngineChoice("ik", "measured to be 1.70 times as fast as llama.cpp", 1.7)
    assert choose_engine(header, n_threads=2) == expected
    # Another process.
    engine_choice._measured.cache_clear()
    assert choose_engine(header, n_threads=2) == expected
    assert [task["measure"] for task in started] == [str(header.path)]
    assert choose_engine(header, n_threads=1).engine == "llama.cpp"
    assert [task["n_threads"] for task in started] == [2, 1]


def test_a_real_measurement_comes_to_an_end(header: Any, large: None) -> None:
    choice = choose_engine(header, n_threads=1)
    assert choice.gain is not None
    assert choice.gain > 0.1
    assert choice.engine == ("ik" if choice.gain >= engine_choice._LEAST_GAIN else "llama.cpp")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (TrialRun({"python": {}}, -4), "SIGILL"),
        (TrialRun({"python": {}}, -9, hung=True), "hung"),
        (TrialRun({"python": {}, "unsound": {"what": "its logits differ"}}, 0), "logits differ"),
        (TrialRun({"python": {}, "failed": {"what": "OSError: no file"}}, 0), "not tried (OSError: no file)"),
        (None, "not tried"),
    ],
)
def test_a_build_that_does_not_survive_a_child(
    header: Any, large: None, untried: None, monkeypatch: pytest.MonkeyPatch, run: TrialRun | None, said: str
) -> None:
    """Would break if it were used all the same, or if its end were this process's."""
    monkeypatch.setattr(engine_choice, "try_engine", lambda: try_engine(lambda _module, _task: run))
    choice = choose_engine(header, n_threads=1)
    assert choice.engine == "llama.cpp"
    assert said in choice.reason
    with pytest.raises(EngineError, match="cannot be used here") as caught:
        choose_engine(header, "ik", n_threads=1)
    assert said in str(caught.value)
    assert said in str(ik_status().refused)


def test_what_was_not_tried_is_tried_again(untried: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Would break if a machine that could start no child once, or had too little memory, did without it for ever."""
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(engine_choice, "try_engine", lambda: try_engine(lambda *_arguments: None))
    assert soundness() == "it was not tried (no child)"
    engine_choice._soundness.cache_clear()
    monkeypatch.setattr(engine_choice, "try_engine", lambda: None)
    assert soundness() is None


def test_a_version_that_was_not_tested_is_refused(header: Any, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ik_binding, "version", lambda _package: "0.2.0")
    assert "0.2.0 was not tested" in choose_engine(header, n_threads=1).reason
    with pytest.raises(EngineError, match=r"ik-llama-cpp-python 0\.2\.0 was not tested; install ik-llama-cpp-python==0\.1\.5"):
        choose_engine(header, "ik", n_threads=1)


@pytest.mark.parametrize("what", ["size", "default"])
def test_structures_that_are_laid_out_otherwise_are_refused(what: str) -> None:
    api: Any = ik_binding.binding()
    changed = {name: getattr(api, name) for name in (*ik_binding._SIZES, "llama_context_default_params")}
    if what == "size":
        changed["llama_batch"] = type("llama_batch", (ctypes.Structure,), {"_fields_": [("n_tokens", ctypes.c_int32)]})
    changed["llama_model_default_params"] = lambda: SimpleNamespace(**{**ik_binding._MODEL_DEFAULTS, "use_mmap": False})
    with pytest.raises(EngineError, match="tested"):
        ik_binding._check_layout(SimpleNamespace(**changed))


def test_without_the_extra_nothing_changes(bundled_model: Path) -> None:
    """In a process that does not find the package. Would break if it were imported, or asked for, unasked."""
    code = f"""
import json, sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ik_llama_cpp":
            raise ModuleNotFoundError(name)
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "ik_llama_cpp" else find_spec(name, package)
sys.meta_path.insert(0, Missing())
from archroute_edge import Router, load_config
from archroute_edge.errors import EngineError
config = load_config({str(EXAMPLE_ROUTES)!r})
with Router(config=config, model={str(bundled_model)!r}, prefix_cache=False, threads=1) as router:
    engine = router.route("fix this bug").engine
try:
    Router(config=config, model={str(bundled_model)!r}, engine="ik")
except EngineError as exc:
    said = str(exc)
print(json.dumps([engine, said, [name for name in sys.modules if "ik" in name.split(".")[-1]]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    engine, said, modules = json.loads(done.stdout)
    assert engine == "llama.cpp"
    assert said == "ik_llama.cpp is not installed; install archroute-edge[ik]"
    assert not [name for name in modules if name.startswith("ik_llama_cpp") or name.endswith(("_ik_engine", "_ik_weights"))]


def test_a_router_on_either_engine_decides_alike_and_says_which(bundled_model: Path) -> None:
    decisions = {}
    for engine in ("llama.cpp", "ik"):
        with Router(config=_config(), model=bundled_model, threads=1, prefix_cache=False, engine=engine) as router:
            decisions[engine] = router.route("fix the IndexError in my loop", scores=True)
    ours, theirs = decisions["ik"], decisions["llama.cpp"]
    assert (ours.engine, theirs.engine) == ("ik", "llama.cpp")
    assert ours.route == theirs.route == "bug_fixing"
    assert ours.scores is not None
    assert theirs.scores is not None
    assert max(abs(ours.scores[name] - theirs.scores[name]) for name in theirs.scores) < 0.02


def test_the_saved_prefixes_of_one_are_not_read_by_the_other(bundled_model: Path, tmp_path: Path) -> None:
    reused = []
    for engine in ("llama.cpp", "ik", "llama.cpp", "ik"):
        with Router(config=_config(), model=bundled_model, threads=1, prefix_cache=tmp_path, engine=engine) as router:
            reused.append(router.route("fix this bug").tokens.reused)
    assert reused[0] == reused[1] == 0
    assert reused[2] == reused[3] > 100


def _config() -> Any:
    from archroute_edge import load_config

    return load_config(EXAMPLE_ROUTES)
