"""Models by name, by level and by path; what is missing says which command gets it."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.errors import ModelNotFoundError
from archroute_edge.models import (
    LEVELS,
    ModelFile,
    find_bundled,
    find_language_model,
    find_model,
    model_folders,
    models_on_this_machine,
    read_catalogue,
)
from archroute_edge.models import _find as model_store
from archroute_edge.system import bundled_folder
from tools.convert.convert_command import convert

ARCH = "Arch-Router-1.5B-{}.gguf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models, the only one that is searched."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("ARCHROUTE_MODELS_DIR", str(folder))
    return folder


def put(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path


def put_into_hub_cache(hub: Path, repo: str, name: str) -> Path:
    """Lay a file down as huggingface_hub does: a blob, a snapshot that links to it, and a ref that names the snapshot."""
    root = hub / f"models--{repo.replace('/', '--')}"
    blob = put(root / "blobs", "0" * 64)
    link = root / "snapshots" / COMMIT / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(blob)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    return link


class TestNames:
    def test_the_bundled_model(self, folder: Path) -> None:
        """A folder of one's own comes first, so that a better model can stand in for a bundled one."""
        path = put(folder, "tiny-Q8_0.gguf")
        assert find_model("tiny") == ModelFile("tiny", path, "card")

    @pytest.mark.parametrize("level", ["Q4_K_M", "q4_k_m", "Q2_K", "F16"])
    def test_a_level(self, folder: Path, level: str) -> None:
        """Levels are written in capitals and in small letters; F16's file has no level in its name."""
        wanted = ARCH.format(level.upper()) if level != "F16" else "Arch-Router-1.5B.gguf"
        for name in (ARCH.format("Q4_K_M"), ARCH.format("Q2_K"), "Arch-Router-1.5B.gguf"):
            put(folder, name)
        assert find_model(f"arch-router:{level}") == ModelFile(f"arch-router:{level.upper()}", folder / wanted, "card")

    @pytest.mark.parametrize(
        ("there", "found"),
        [
            (["Q2_K", "Q4_K_M", "Q5_K_M"], "Q4_K_M"),
            (["Q5_K_M", "Q3_K_S"], "Q3_K_S"),
            (["Q5_K_M"], "Q5_K_M"),
        ],
    )
    def test_a_bare_name_takes_the_default_level_or_what_is_there(self, folder: Path, there: list[str], found: str) -> None:
        """Whoever has one level of a model need not know what its default is."""
        for level in there:
            put(folder, ARCH.format(level))
        assert find_model("arch-router").path == folder / ARCH.format(found)
        assert find_model("arch-router").name == f"arch-router:{found}"

    def test_auto_prefers_arch_router(self, folder: Path) -> None:
        """Once the real router has been fetched, the bundled encoder must not go on answering."""
        put(folder, "tiny-Q8_0.gguf")
        path = put(folder, "mini-Q8_0.gguf")
        assert find_model("auto") == ModelFile("mini", path, None)
        put(folder, ARCH.format("Q3_K_L"))
        assert find_model("auto").name == "arch-router:Q3_K_L"

    def test_every_model_that_is_here_is_listed(self, folder: Path) -> None:
        """`doctor` shows what can be named."""
        put(folder, "tiny-Q8_0.gguf")
        put(folder, "mini-Q8_0.gguf")
        put(folder, ARCH.format("Q4_K_S"))
        put(folder, ARCH.format("Q2_K"))
        names = ["mini", "tiny", "arch-router:Q2_K", "arch-router:Q4_K_S"]
        assert [each.name for each in models_on_this_machine()] == names

    def test_a_level_that_was_made_here(self, folder: Path) -> None:
        """Levels that nobody publishes are called by name like the others, once they are made."""
        path = put(folder, "Plano-Orchestrator-4B-Q4_K_M.gguf")
        assert find_model("plano-orchestrator") == ModelFile("plano-orchestrator:Q4_K_M", path, "orchestrator")
        assert find_model(path).prompt_format == "orchestrator"


class TestPaths:
    def test_a_path_of_an_unknown_file(self, folder: Path) -> None:
        """Nothing is known of its prompt format, so that the file itself may say it."""
        path = put(folder, "mine.gguf")
        assert find_model(path) == find_model(str(path)) == ModelFile("mine.gguf", path, None)

    def test_a_path_of_a_file_in_the_catalogue(self, tmp_path: Path) -> None:
        """A fetched Arch-Router is asked in its own format wherever it lies."""
        path = put(tmp_path / "downloads", ARCH.format("Q4_K_M"))
        assert find_model(path).prompt_format == "card"

    def test_a_file_called_like_a_model(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that lies in the working folder under that very name is meant."""
        put(folder, "tiny-Q8_0.gguf")
        put(folder, "tiny")
        monkeypatch.chdir(folder)
        assert find_model("tiny").path == Path("tiny")

    def test_a_file_called_like_a_bundled_model(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without --model nobody has named the file `mini` or `tiny` that lies in the working folder."""
        mini, tiny = put(folder, "mini-Q8_0.gguf"), put(folder, "tiny-Q8_0.gguf")
        for name in ("mini", "tiny"):
            put(folder, name)
        monkeypatch.chdir(folder)
        assert find_model("auto").path == find_bundled("mini").path == mini
        assert find_language_model("auto").path == tiny

    def test_a_folder_called_like_a_model(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder `tiny` in the working folder must not hide the model of that name."""
        path = put(folder, "tiny-Q8_0.gguf")
        (folder / "tiny").mkdir()
        monkeypatch.chdir(folder)
        assert find_model("tiny").path == path

    def test_a_path_in_the_home_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A shell leaves `--model=~/x.gguf` as it is."""
        monkeypatch.setenv("HOME", str(folder))
        path = put(folder, "mine.gguf")
        assert find_model("~/mine.gguf").path == path


class TestFolders:
    def test_the_order(self, folder: Path, tmp_path: Path) -> None:
        """The folder of the environment, then what is bundled, then the user's."""
        assert model_folders()[:2] == [folder, bundled_folder()]
        assert model_folders()[2].name == "models"
        put(folder, ARCH.format("Q4_K_M"))
        put(model_folders()[2], ARCH.format("Q4_K_M"))
        assert find_model("arch-router").path.parent == folder

    def test_the_users_folder(self) -> None:
        """Fetched models are found again without any setting."""
        path = put(model_folders()[-1], ARCH.format("Q4_K_M"))
        assert find_model("arch-router").path == path

    def test_a_home_that_no_shell_has_put_in(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A service's environment file has the ~ as it stands; ARCHROUTE_CACHE_DIR knows it, too."""
        monkeypatch.setenv("HOME", str(folder.parent))
        monkeypatch.setenv("ARCHROUTE_MODELS_DIR", f"~/{folder.name}")
        path = put(folder, ARCH.format("Q4_K_M"))
        assert find_model("arch-router").path == path
        monkeypatch.setenv("ARCHROUTE_CATALOGUE", "~/own.yaml")
        (folder.parent / "own.yaml").write_text("models: {mine: {prompt_format: card, file: mine.gguf}}")
        assert "mine" in read_catalogue()

    def test_the_hub_cache(self, tmp_path: Path) -> None:
        """What `hf download` fetched is used where it lies; nobody downloads a gigabyte twice."""
        link = put_into_hub_cache(tmp_path / "hub", "katanemo/Arch-Router-1.5B.gguf", ARCH.format("Q4_K_M"))
        assert find_model("arch-router:Q4_K_M").path == link
        assert find_model("auto").path == link
        with pytest.raises(ModelNotFoundError):
            find_model("arch-router:Q2_K")

    def test_the_hub_cache_at_another_commit(self, tmp_path: Path) -> None:
        """Once another level was fetched from a newer commit, main means that one; the older file is still the model."""
        link = put_into_hub_cache(tmp_path / "hub", "katanemo/Arch-Router-1.5B.gguf", ARCH.format("Q4_K_M"))
        (link.parents[2] / "refs" / "main").write_text("f" * 40)
        assert find_model("arch-router:Q4_K_M").path == link

    def test_the_hubs_note_that_a_file_does_not_exist(self, tmp_path: Path) -> None:
        """The cache also remembers what a repository lacks, and answers with a marker that is no path."""
        put_into_hub_cache(tmp_path / "hub", "katanemo/Arch-Router-1.5B.gguf", ARCH.format("Q4_K_M"))
        missing = tmp_path / "hub/models--katanemo--Arch-Router-1.5B.gguf/.no_exist" / COMMIT / ARCH.format("Q2_K")
        missing.parent.mkdir(parents=True)
        missing.touch()
        with pytest.raises(ModelNotFoundError):
            find_model("arch-router:Q2_K")


MISSING = [
    pytest.param(
        "arch-router",
        "nothing is downloaded unasked; get it with: archroute models pull arch-router --quant Q4_K_M",
        id="default-level",
    ),
    pytest.param("arch-router:q2_k", "get it with: archroute models pull arch-router --quant Q2_K", id="level"),
    pytest.param(
        "arch-router:q6_k",
        "has to be made from its checkpoint, in a clone of archroute-edge: python -m tools.convert katanemo/Arch-Router-1.5B ",
        id="level-that-nobody-publishes",
    ),
    pytest.param(
        "plano-orchestrator",
        "--prompt-format orchestrator --quantize Q4_K_M -o models/Plano-Orchestrator-4B-Q4_K_M.gguf",
        id="no-level-published",
    ),
    pytest.param("arch-router:checkpoint", "is what GGUFs are made from, and cannot be routed with", id="checkpoint"),
    pytest.param("arch-router:Q9_9", "no level 'Q9_9'; its levels: Q2_K, Q3_K_S,", id="unknown-level"),
    pytest.param("tiny:Q4_0", "'tiny' has no level 'Q4_0'; its levels: none", id="level-of-a-model-without"),
    pytest.param("arch-ruter", "no model is called 'arch-ruter'; there are mini, tiny, arch-router,", id="typing-error"),
    pytest.param("", "the name of the model is empty", id="empty"),
    pytest.param("/", "a folder, not a model file", id="folder"),
    pytest.param("nowhere.gguf", "nowhere.gguf: no such model file; names that are known: mini, tiny, arch-router", id="file"),
    pytest.param("no/such/folder/x", "no/such/folder/x: no such model file", id="path"),
    pytest.param("~nosuchuser/x.gguf", "no such model file", id="unknown-home"),
    pytest.param("a\0b.gguf", "no such model file", id="null"),
    pytest.param("x" * 5000 + ".gguf", "no such model file", id="too-long"),
]


@pytest.mark.parametrize(("name", "message"), MISSING)
def test_what_is_missing_says_how_to_get_it(name: str, message: str) -> None:
    """A user without the model needs the command, not a stack trace; nothing is downloaded unasked."""
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["arch-router:Q6_K", "arch-router:IQ2_M", "arch-router:BF16", "plano-orchestrator:IQ3_XXS"])
def test_the_command_that_makes_a_model_makes_the_one_that_is_looked_for(name: str) -> None:
    """A command that is refused, or whose result is not found, is worse than none."""
    with pytest.raises(ModelNotFoundError) as caught:
        find_model(name)
    words = shlex.split(str(caught.value).partition("python -m tools.convert ")[2])
    options = convert.make_context("convert", words).params
    model, level = name.split(":")
    entry = read_catalogue()[model]
    assert entry.checkpoint is not None
    assert (options["checkpoint"], options["levels"]) == (entry.checkpoint.repo, (level,))
    assert options["prompt_format"] == entry.prompt_format
    assert options["output"] == Path("models") / entry.file_names[level]
    assert (options["imatrix"] is not None) is LEVELS[level].needs_imatrix


def test_a_missing_bundled_model_means_a_broken_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is nothing to download then: the package has to be installed again."""
    monkeypatch.setattr(model_store, "model_folders", lambda: [tmp_path])
    with pytest.raises(ModelNotFoundError, match=r"tiny-Q8_0\.gguf is missing from .*; install archroute-edge again"):
        find_model("tiny")


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may not be searched, not even by the superuser."""
    closed = put(tmp_path / "closed", "x.gguf").parent
    usual = os.stat

    def stat(path: int | str | Path, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and closed in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    return closed


def test_a_folder_of_models_that_may_not_be_searched_has_none(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services often have a home, and so a cache of the hub, that is another user's."""
    monkeypatch.setenv("ARCHROUTE_MODELS_DIR", str(closed))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(closed / "hub"))
    assert find_model("auto").name == "mini"
    assert [each.name for each in models_on_this_machine()] == ["mini", "tiny"]
    with pytest.raises(ModelNotFoundError, match="get it with: archroute models pull arch-router"):
        find_model("arch-router")
    with pytest.raises(ModelNotFoundError, match="Permission denied"):
        find_model(closed / "x.gguf")
