"""The catalogue: what is shipped, what users add to it, and errors that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.errors import ConfigError
from archroute_edge.models import CatalogueEntry, find_model, read_catalogue
from archroute_edge.models._catalogue import CataloguedFile, Checkpoint, own_catalogue
from archroute_edge.prompts import PROMPT_FORMATS

# The files that Arch-Router's authors publish, from the listing of their repository.
PUBLISHED = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "F16"]

WHOLE = f"""
models:
  m:
    description: >
      One line
      for people
    licence: MIT
    licence_url: https://example.org/licence
    prompt_format: gateway
    repo: a/b
    revision: v1
    files:
      Q4_0: x.gguf
      F16: {{file: sub/y.gguf, size: 1.5 GB, sha256: {"0a" * 32}}}
    default_level: F16
    checkpoint: {{repo: a/C-1B, revision: "123", size: 3 GB}}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    return path


def test_what_is_shipped() -> None:
    """Every entry must be whole: the catalogue is read for any model, a path included."""
    catalogue = read_catalogue()
    assert list(catalogue) == ["mini", "tiny", "arch-router", "plano-orchestrator"]
    for entry in catalogue.values():
        assert entry.description
        assert entry.licence
        assert (entry.prompt_format in PROMPT_FORMATS) == (entry.name != "mini")
    arch = catalogue["arch-router"]
    assert list(arch.files) == PUBLISHED
    assert all(file.size for file in arch.files.values())
    assert (arch.usual_level, arch.licence) == ("Q4_K_M", "katanemo-research")
    assert arch.checkpoint == Checkpoint("katanemo/Arch-Router-1.5B", None, "3.09 GB")
    plano = catalogue["plano-orchestrator"]
    assert (plano.prompt_format, plano.licence, plano.usual_level) == ("orchestrator", "katanemo-research", None)
    assert plano.file_names["Q4_K_M"] == "Plano-Orchestrator-4B-Q4_K_M.gguf"


def test_an_entry_with_everything(tmp_path: Path) -> None:
    assert read_catalogue(write(tmp_path, WHOLE)) == {
        "m": CatalogueEntry(
            "m",
            "One line for people",
            "MIT",
            "gateway",
            licence_url="https://example.org/licence",
            repo="a/b",
            revision="v1",
            files={"Q4_0": CataloguedFile("x.gguf"), "F16": CataloguedFile("sub/y.gguf", "1.5 GB", "0a" * 32)},
            default_level="F16",
            checkpoint=Checkpoint("a/C-1B", "123", "3 GB"),
        )
    }


def test_the_example_in_the_documents(tmp_path: Path) -> None:
    """People copy it."""
    document = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    example = document.partition("```yaml\n")[2].partition("```")[0]
    assert list(read_catalogue(write(tmp_path, example))) == ["arch-router", "my-router"]


def test_levels_that_nobody_publishes_can_be_made(tmp_path: Path) -> None:
    """A published file keeps its own name; the others are called as the converter calls them."""
    names = read_catalogue(write(tmp_path, WHOLE))["m"].file_names
    assert (names["Q4_0"], names["Q6_K"], names["BF16"]) == ("x.gguf", "C-1B-Q6_K.gguf", "C-1B-BF16.gguf")


class TestOnesOwn:
    def test_it_extends_the_shipped_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Adding a model must not need a copy of everything that is shipped."""
        monkeypatch.setenv("ARCHROUTE_CATALOGUE", str(write(tmp_path, WHOLE)))
        assert list(read_catalogue()) == ["mini", "tiny", "arch-router", "plano-orchestrator", "m"]

    def test_in_the_folder_of_settings(self) -> None:
        """It is found there without any setting."""
        own_catalogue().parent.mkdir(parents=True)
        own_catalogue().write_text(WHOLE)
        assert "m" in read_catalogue()

    def test_an_entry_of_the_same_name_replaces(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """That is how a revision or a hash is pinned."""
        monkeypatch.setenv("ARCHROUTE_CATALOGUE", str(write(tmp_path, WHOLE.replace("  m:", "  arch-router:"))))
        assert read_catalogue()["arch-router"].revision == "v1"

    def test_one_that_is_named_and_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A slip in the variable must not silently mean the shipped catalogue."""
        monkeypatch.setenv("ARCHROUTE_CATALOGUE", str(tmp_path / "none.yaml"))
        with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
            find_model("tiny")


BROKEN = [
    pytest.param("", None, "the catalogue is empty", id="empty"),
    pytest.param("modles: {}\n", 1, "unknown key 'modles' in the catalogue; did you mean 'models'?", id="top-key"),
    pytest.param("models:\n", 1, "needs a mapping called 'models'", id="no-models"),
    pytest.param("models: {auto: {file: x.gguf, prompt_format: card}}\n", 1, "'auto' cannot be a model's name", id="auto"),
    pytest.param("models: {'a:b': {file: x.gguf, prompt_format: card}}\n", 1, "'a:b' cannot be a model's name", id="colon"),
    pytest.param("models: {../a: {file: x.gguf, prompt_format: card}}\n", 1, "cannot be a model's name", id="path"),
    pytest.param("models:\n  m: {file: x.gguf,\n    license: MIT}\n", 3, "it is spelled 'licence'", id="license"),
    pytest.param("models: {m: {fiel: x.gguf}}\n", 1, "unknown key 'fiel' in a model of the catalogue", id="unknown-key"),
    pytest.param(
        "models: {m: {file: x.gguf}}\n", 1, "needs a prompt_format out of card, gateway, orchestrator", id="no-format"
    ),
    pytest.param("models: {m: {file: x.gguf, prompt_format: cards}}\n", 1, "needs a prompt_format", id="wrong-format"),
    pytest.param("models: {m: {prompt_format: card}}\n", 1, "either a file, or a repo", id="neither"),
    pytest.param(
        "models: {m: {file: x.gguf, repo: a/b, files: {Q4_0: x.gguf}, prompt_format: card}}\n", 1, "either a file", id="both"
    ),
    pytest.param("models: {m: {file: x.bin, prompt_format: card}}\n", 1, "'x.bin' is no file name", id="pickle"),
    pytest.param("models: {m: {file: ../x.gguf, prompt_format: card}}\n", 1, "'../x.gguf' is no file name", id="outside"),
    pytest.param("models: {m: {file: /x.gguf, prompt_format: card}}\n", 1, "'/x.gguf' is no file name", id="absolute"),
    pytest.param("models: {m: {repo: a/b, prompt_format: card}}\n", 1, "has a 'repo' without 'files'", id="no-files"),
    pytest.param(
        "models: {m: {checkpoint: {repo: a/b}, revision: x, prompt_format: card}}\n", 1, "'revision' without", id="revision"
    ),
    pytest.param(
        "models: {m: {repo: a/b, files: {q4_0: x.gguf}, prompt_format: card}}\n", 1, "no quantization level", id="level"
    ),
    pytest.param("models: {m: {repo: a/b, files: {}, prompt_format: card}}\n", 1, "files must map levels", id="files-empty"),
    pytest.param(
        "models: {m: {repo: a/b, prompt_format: card,\n files: {Q4_0: {size: 1 GB}}}}\n",
        2,
        "the file of Q4_0 without 'file'",
        id="no-name",
    ),
    pytest.param(
        "models: {m: {repo: a/b, prompt_format: card,\n files: {Q4_0: {file: x.gguf, size: 1GiB}}}}\n",
        2,
        "size must be written like 986 MB, not '1GiB'",
        id="size",
    ),
    pytest.param(
        "models: {m: {repo: a/b, prompt_format: card,\n files: {Q4_0: {file: x.gguf, sha256: abc}}}}\n",
        2,
        "sha256 must be 64 hexadecimal digits",
        id="sha256",
    ),
    pytest.param(
        "models: {m: {repo: a/b, files: {Q4_0: x.gguf}, default_level: Q8_0, prompt_format: card}}\n",
        1,
        "default_level 'Q8_0' is none of its files: Q4_0",
        id="default-level",
    ),
    pytest.param(
        "models: {m: {repo: not a repo, files: {Q4_0: x.gguf}, prompt_format: card}}\n", 1, "repo must be owner/name", id="repo"
    ),
    pytest.param(
        "models: {m: {checkpoint: {size: 1 GB}, prompt_format: card}}\n", 1, "its checkpoint without 'repo'", id="no-repo"
    ),
    pytest.param("models: {m: {file: x.gguf, licence_url: x, prompt_format: card}}\n", 1, "must be a link", id="link"),
]


@pytest.mark.parametrize(("text", "line", "message"), BROKEN)
def test_a_broken_catalogue_is_an_error_with_its_line(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    """A slip in the catalogue must not surface as an AttributeError when some model is looked for."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_catalogue(path)
    assert message in str(caught.value)
    assert (caught.value.path, caught.value.line) == (path, line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_catalogue_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """An installation without its catalogue must say so."""
    path = tmp_path / "catalogue.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError):
        read_catalogue(path)
