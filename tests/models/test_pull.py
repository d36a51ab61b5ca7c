"""Pulling with the real huggingface_hub client from a hub on this machine: models, checkpoints, broken connections."""

from __future__ import annotations

import errno
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from archroute_edge.errors import DownloadError, ModelNotFoundError
from archroute_edge.models import (
    Licence,
    PullListener,
    find_checkpoint,
    find_model,
    pull_checkpoint,
    pull_model,
    read_catalogue,
)
from tests.models.conftest import REPO, named_files, partials
from tests.models.hub_server import COMMIT, Hub


class Recorder(PullListener):
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.shown: list[Licence] = []

    def waiting(self, name: str) -> None:
        self.told.append(f"waiting for {name}")

    def licence(self, licence: Licence) -> None:
        self.shown.append(licence)
        self.told.append("licence")

    def progress(self, step: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if self.told[-1:] != [step]:
            self.told.append(step)


class TestSuccess:
    def test_the_file_is_found_by_us_and_by_every_other_program(self, hub: Hub, cache: Path) -> None:
        """A pulled model must lie where huggingface_hub looks, so that nobody has it twice."""
        pulled = pull_model("small")
        content = hub.repos["org/small.gguf"]["small-Q4_0.gguf"]
        assert pulled.path.read_bytes() == content
        assert (pulled.name, pulled.revision, pulled.downloaded) == ("small:Q4_0", COMMIT, True)
        assert (pulled.n_bytes, pulled.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert find_model("small").path == pulled.path
        assert find_model("small").prompt_format == "gateway"
        assert try_to_load_from_cache("org/small.gguf", "small-Q4_0.gguf") == str(pulled.path)
        assert pulled.path.is_relative_to(cache)
        assert partials(cache) == []

    def test_the_licence_is_shown_before_the_weights_are_fetched(self, hub: Hub) -> None:
        """Whoever may not accept it can still stop."""
        listener = Recorder()
        pulled = pull_model("small", listener=listener)
        weights = "downloading small-Q4_0.gguf"
        assert listener.told.index("licence") < listener.told.index(weights)
        assert listener.shown == [pulled.licence]
        assert (pulled.licence.name, pulled.licence.link) == ("test-licence", f"{hub.url}/org/small.gguf")
        assert pulled.licence.path is not None
        assert pulled.licence.path.read_bytes() == b"Do as you like.\n"

    def test_a_repository_without_a_licence_file(self, hub: Hub) -> None:
        """The link still says where to look."""
        del hub.repos["org/small.gguf"]["LICENSE"]
        assert pull_model("small").licence.path is None

    def test_the_token_goes_to_the_hub_and_not_to_its_storage(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """A token that follows the redirect is in a foreign server's log."""
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        pull_model("small")
        assert {request.authorization for request in hub.asked} == {"Bearer hf_secret"}
        assert [request.authorization for request in hub.stored] == [None]

    @pytest.mark.parametrize(("name", "level"), [("small:f16", None), ("small", "F16"), ("small", "f16")])
    def test_a_level(self, hub: Hub, name: str, level: str | None) -> None:
        assert pull_model(name, level=level).path.name == "small.gguf"

    def test_what_is_here_is_not_downloaded_again(self, hub: Hub) -> None:
        """Pulling in a start script must cost one question, not a gigabyte."""
        first = pull_model("small")
        hub.stored.clear()
        again = pull_model("small")
        assert (again.path, again.downloaded, hub.stored) == (first.path, False, [])

    def test_what_is_here_needs_no_cache_that_can_be_written(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """A container often has its models in a folder that it may only read."""
        first = pull_model("small")

        def refuse(*_arguments: object, **_options: object) -> None:
            raise PermissionError(errno.EROFS, "Read-only file system")

        for name in ("WeakFileLock", "replaced_when_whole", "link_into_cache"):
            monkeypatch.setattr(f"archroute_edge.models._pull.{name}", refuse)
        assert pull_model("small") == replace(first, downloaded=False)

    def test_a_tag(self, hub: Hub, cache: Path) -> None:
        """A revision by name is written down for the client, and found although there is no main."""
        pulled = pull_model("small", revision="v1.0")
        assert (cache / REPO / "refs" / "v1.0").read_text() == COMMIT
        assert not (cache / REPO / "refs" / "main").exists()
        assert find_model("small").path == pulled.path

    def test_a_revision_that_the_catalogue_pins(self, hub: Hub, tmp_path: Path) -> None:
        """The pinned commit is asked for, and nothing else counts as this model."""
        catalogue = tmp_path / "catalogue.yaml"
        pin = "    revision: '{}'\n    default_level"
        text = catalogue.read_text()
        catalogue.write_text(text.replace("    default_level", pin.format(COMMIT)))
        pull_model("small")
        assert f"/api/models/org/small.gguf/revision/{COMMIT}" in {request.path for request in hub.asked}
        assert find_model("small").path.parent.name == COMMIT
        catalogue.write_text(text.replace("    default_level", pin.format("f" * 40)))
        with pytest.raises(ModelNotFoundError):
            find_model("small")

    def test_another_process_is_waited_for(self, hub: Hub, cache: Path) -> None:
        """A command that hangs without a word is killed."""
        pull_model("small")
        pull_model("small").path.resolve().unlink()
        lock = next((cache / ".locks" / REPO).glob(64 * "?" + ".lock"))
        listener = Recorder()
        with ThreadPoolExecutor() as pool:
            with WeakFileLock(lock):
                pulling = pool.submit(pull_model, "small", listener=listener)
                deadline = time.monotonic() + 30
                while "waiting for small-Q4_0.gguf" not in listener.told:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            assert pulling.result().downloaded


class TestConnection:
    def test_a_cut_in_the_middle_is_resumed_where_it_was(self, hub: Hub) -> None:
        """Three gigabytes over a bad line arrive in pieces, and no byte is asked for twice."""
        content = hub.repos["org/small.gguf"]["small-Q4_0.gguf"]
        half = len(content) // 2
        hub.cuts = [half, 1000]
        assert pull_model("small").path.read_bytes() == content
        assert [request.range for request in hub.stored] == [None, f"bytes={half}-", f"bytes={half + 1000}-"]

    def test_a_server_that_is_gone_leaves_what_came_for_the_next_time(self, hub: Hub, cache: Path) -> None:
        """The next command, in whatever process, goes on; until then nothing passes for the model."""
        content = hub.repos["org/small.gguf"]["small-Q4_0.gguf"]
        half = len(content) // 2
        hub.cuts = [half, 0, 0, 0]
        with pytest.raises(DownloadError, match=f"lost at {half:,} of {len(content):,} bytes") as caught:
            pull_model("small")
        assert "\n" not in str(caught.value)
        assert [path.stat().st_size for path in partials(cache)] == [half]
        assert [name for name in named_files(cache) if name.endswith(".gguf") or len(name) == 64] == []
        hub.stored.clear()
        hub.cuts = []
        assert pull_model("small").path.read_bytes() == content
        assert [request.range for request in hub.stored] == [f"bytes={half}-"]
        assert partials(cache) == []

    def test_a_server_that_knows_no_ranges(self, hub: Hub) -> None:
        """It sends the whole file: appending that to the part would be a damaged file."""
        content = hub.repos["org/small.gguf"]["small-Q4_0.gguf"]
        hub.cuts, hub.knows_ranges = [len(content) // 2], False
        assert pull_model("small").path.read_bytes() == content

    def test_a_storage_that_is_busy_is_asked_again(self, hub: Hub) -> None:
        hub.statuses = [503, 429]
        assert pull_model("small").downloaded
        assert len(hub.stored) == 3

    def test_a_storage_that_refuses_is_not_asked_again(self, hub: Hub) -> None:
        """Trying for minutes what will never be allowed helps nobody."""
        hub.statuses = [403]
        with pytest.raises(DownloadError, match="refuses access"):
            pull_model("small")
        assert len(hub.stored) == 1

    def test_no_server(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9 cannot be reached for org/small\.gguf"):
            pull_model("small")


class TestCheckpoint:
    def test_all_that_the_converter_reads_and_no_pickle(self, hub: Hub) -> None:
        """Pickled weights can run code when they are loaded, and nothing here reads them."""
        pulled = pull_model("small:checkpoint")
        names = {path.name for path in pulled.path.iterdir()}
        assert names == {"LICENSE", "README.md", "config.json", "tokenizer.json", "model.safetensors"}
        assert (pulled.repo, pulled.sha256) == ("org/small", None)
        assert find_checkpoint(read_catalogue()["small"]) == pulled.path

    def test_a_repository_that_is_in_no_catalogue(self, hub: Hub) -> None:
        """The converter takes any repository, by its name on the hub."""
        hub.repos["org/other"] = hub.repos["org/small"]
        pulled = pull_checkpoint("org/other")
        assert (pulled.path / "model.safetensors").is_file()
        assert (pulled.repo, pulled.licence.name) == ("org/other", "as its page says")
        assert pull_checkpoint("org/small").licence.name == "test-licence"

    def test_a_file_in_a_folder_of_a_checkpoint(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sentence encoders say in one how they pool; its folder is not the checkpoint's."""
        hub.repos["org/small"]["1_Pooling/config.json"] = b'{"pooling_mode_cls_token": true}'
        pulled = pull_checkpoint("org/small")
        assert pulled.path == find_checkpoint(read_catalogue()["small"])
        assert (pulled.path / "1_Pooling/config.json").is_file()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert pull_checkpoint("org/small").n_bytes == pulled.n_bytes

    def test_half_a_checkpoint_is_none(self, hub: Hub) -> None:
        """The converter must not be sent into a folder whose weights are still missing."""
        hub.cuts = [0, 0, 0, 0]
        with pytest.raises(DownloadError):
            pull_model("small:checkpoint")
        with pytest.raises(ModelNotFoundError, match="archroute models pull small:checkpoint"):
            find_checkpoint(read_catalogue()["small"])

    def test_a_checkpoint_in_pieces_is_whole_with_all_of_them(self, hub: Hub) -> None:
        files = hub.repos["org/small"]
        weights = files.pop("model.safetensors")
        files["model.safetensors.index.json"] = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
        files["model-1.safetensors"], files["model-2.safetensors"] = weights, weights + b"2"
        hub.cuts = [None, 0, 0, 0]
        with pytest.raises(DownloadError, match=r"model-2\.safetensors"):
            pull_model("small:checkpoint")
        with pytest.raises(ModelNotFoundError):
            find_checkpoint(read_catalogue()["small"])
        pulled = pull_model("small:checkpoint")
        assert find_checkpoint(read_catalogue()["small"]) == pulled.path

    def test_an_index_that_is_nested_too_deep(self, hub: Hub) -> None:
        hub.repos["org/small"]["model.safetensors.index.json"] = b"[" * 100_000
        pull_model("small:checkpoint")
        with pytest.raises(ModelNotFoundError):
            find_checkpoint(read_catalogue()["small"])

    def test_a_repository_without_safetensors(self, hub: Hub) -> None:
        del hub.repos["org/small"]["model.safetensors"]
        with pytest.raises(DownloadError, match="holds no safetensors"):
            pull_model("small:checkpoint")
