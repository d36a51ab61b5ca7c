"""``archroute doctor``: 0 where all is well, 2 and what is wrong where it is not."""

from __future__ import annotations

import errno
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import llama_cpp
import pytest

from archroute_edge.cli import doctor
from archroute_edge.engine import IkStatus
from archroute_edge.models import _find as model_store
from archroute_edge.routes import Route, RouteTable
from archroute_edge.routing import Router
from archroute_edge.system import bundled_folder
from tests.cli.conftest import Run


@pytest.fixture
def models(tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models in which the bundled one's name is that of a sound model."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(random_model, folder / "tiny-Q8_0.gguf")
    monkeypatch.setenv("ARCHROUTE_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """No decisions, each of which is made in a process of its own."""
    monkeypatch.setattr(doctor, "decide_with", lambda path: doctor.TrialDecision("other", 1.0, ("CPU",)))


@pytest.fixture(scope="module")
def saved_prefix(tmp_path_factory: pytest.TempPathFactory, random_model: Path, kernel_verdict: Path) -> Path:
    """A prefix as a decision saves it."""
    folder = tmp_path_factory.mktemp("saved", numbered=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCHROUTE_CACHE_DIR", str(folder))
        with Router(RouteTable([Route("a", "b")]), model=random_model, threads=1) as router:
            router.route("hello")
    (path,) = folder.glob("*.prefix")
    return path


@pytest.fixture
def prefix(models: Path, saved_prefix: Path, tmp_path: Path) -> Path:
    """A saved prefix, in this test's folder."""
    folder = tmp_path / "prefixes"
    folder.mkdir(mode=0o700)
    return Path(shutil.copy(saved_prefix, folder))


@pytest.mark.usefixtures("undecided")
def test_all_is_well(run: Run, models: Path, prefix: Path) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert result.stderr == ""
    for said in (llama_cpp.__version__, str(models / "tiny-Q8_0.gguf"), f"1 in {prefix.parent}", "problems: none"):
        assert said in result.stdout
    assert "arch-router: not on this machine" in result.stdout


@pytest.mark.usefixtures("undecided")
def test_json(run: Run, models: Path) -> None:
    result = run("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["problems"] == []
    assert report["devices"]
    assert report["threads"] >= 1
    assert report["llama_cpp"]["llama-cpp-python"] == llama_cpp.__version__
    assert str(models / "tiny-Q8_0.gguf") in report["models"]["tiny"]


@pytest.mark.parametrize("damage", ["state", "header", "truncated"])
@pytest.mark.usefixtures("undecided")
def test_a_damaged_prefix_is_named(run: Run, prefix: Path, damage: str) -> None:
    raw = bytearray(prefix.read_bytes())
    if damage == "state":
        raw[-100] ^= 1
    elif damage == "header":
        raw[20] ^= 0xFF
    else:
        raw = raw[: len(raw) // 2]
    prefix.write_bytes(raw)
    result = run("doctor", "--json")
    assert result.exit_code == 2
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem.startswith(f"{prefix}: ")
    assert "delete it" in problem


@pytest.mark.parametrize("fault", ["others", "file", "link", "below-a-file"])
@pytest.mark.usefixtures("undecided")
def test_a_folder_that_no_prefix_can_be_kept_in_is_named(
    run: Run, prefix: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Every decision would warn of it, and the command that says what is wrong must not call all well."""
    folder = prefix.parent
    if fault == "others":
        folder.chmod(0o777)
    elif fault == "link":
        folder = prefix.with_name("gone.prefix")
        folder.symlink_to("nowhere")
    else:
        folder = prefix if fault == "file" else prefix / "prefixes"
        monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(folder))
    result = run("doctor", "--json")
    assert result.exit_code == 2
    (problem,) = json.loads(result.stdout)["problems"]
    assert str(folder) in problem


@pytest.mark.usefixtures("undecided")
def test_a_folder_of_models_that_is_not_there_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHROUTE_MODELS_DIR", str(tmp_path / "nothing"))
    result = run("doctor")
    assert result.exit_code == 2
    assert f"{tmp_path / 'nothing'}: no such folder" in result.stdout.partition("problems:")[2]


@pytest.mark.usefixtures("tried_kernels")
def test_a_damaged_model_is_named(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models / "tiny-Q8_0.gguf"
    path.write_bytes(path.read_bytes()[:100_000])
    decide, well = doctor.decide_with, doctor.TrialDecision("other", 1.0, ("CPU",))
    monkeypatch.setattr(doctor, "decide_with", lambda model: decide(model) if model == path else well)
    result = run("doctor")
    assert result.exit_code == 2
    assert f"{path}: truncated" in result.stdout.partition("problems:")[2]


@pytest.mark.usefixtures("undecided")
def test_a_missing_bundled_model_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "installed"
    folder.mkdir()
    shutil.copy(bundled_folder() / "catalogue.yaml", folder)
    monkeypatch.setattr(model_store, "bundled_folder", lambda: folder)
    result = run("doctor", "--json")
    assert result.exit_code == 2
    problems = json.loads(result.stdout)["problems"]
    assert [problem.partition(" is missing from ")[0] for problem in problems] == ["mini-Q8_0.gguf", "tiny-Q8_0.gguf"]


@pytest.mark.usefixtures("undecided")
def test_a_full_disk_is_named(run: Run, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not show it: only writing does."""

    class Full(io.BytesIO):
        def write(self, _data: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("archroute_edge.decoding._saved_states.tempfile.TemporaryFile", lambda **_options: Full())
    result = run("doctor", "--json")
    assert result.exit_code == 2
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem.startswith(f"{prefix.parent}: prefixes cannot be saved there (No space left on device)")


@pytest.mark.usefixtures("undecided", "models")
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (IkStatus(None, None), "ik llama cpp: not installed"),
        (IkStatus("0.2.0", "0.2.0 was not tested"), "not used: 0.2.0 was not tested"),
        (IkStatus("0.1.5", None, "AVX2 = 1 | AVX512_VNNI = 0", ("AVX512_VNNI",)), "compiled without AVX512_VNNI"),
    ],
)
def test_the_second_engine(run: Run, monkeypatch: pytest.MonkeyPatch, status: IkStatus, said: str) -> None:
    """What is missing is no problem; what would make it faster is advice, with a command."""
    monkeypatch.setattr(doctor, "ik_status", lambda: status)
    result = run("doctor")
    assert result.exit_code == 0
    assert said in result.stdout
    assert ("--no-binary ik-llama-cpp-python" in result.stdout) == bool(status.unused)


def test_a_decision_says_which_engine_made_it(random_model: Path, tried_kernels: None) -> None:
    found = doctor.decide_with(random_model)
    assert found.problem is None
    assert found.engine == "llama.cpp"
    assert "weights in" in str(found)
    assert str(replace(found, engine="ik")).endswith("with ik_llama.cpp")
