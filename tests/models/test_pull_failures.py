"""Pulls that must not succeed: what the hub refuses, what arrives damaged, no connection allowed, no room."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.errors import DownloadError, HubUnreachableError, ModelFileError, ModelNotFoundError
from archroute_edge.models import _pull, find_model, pull_model
from archroute_edge.models._hub import RemoteFile, RemoteRepo, read_file_facts
from tests.models.conftest import CATALOGUE, REPO, named_files, partials
from tests.models.hub_server import COMMIT, Hub

REFUSALS = [
    pytest.param((401, "GatedRepo"), "org/small.gguf is gated: ask for access at", id="gated-401"),
    pytest.param((403, "GatedRepo"), "org/small.gguf is gated: ask for access at", id="gated-403"),
    pytest.param((401, ""), r"refuses access to org/small.gguf \(HTTP 401\): set HF_TOKEN", id="401"),
    pytest.param((403, ""), r"refuses access to org/small.gguf \(HTTP 403\): set HF_TOKEN", id="403"),
    pytest.param((404, "RepoNotFound"), "has no repository org/small.gguf, or it is private", id="no-repo"),
    pytest.param((200, ""), r"does not describe org/small.gguf as a Hugging Face hub does", id="no-hub"),
    pytest.param((500, ""), "answered HTTP 500 for org/small.gguf", id="500"),
]


class TestRefusals:
    @pytest.mark.parametrize(("refusal", "message"), REFUSALS)
    def test_what_the_hub_refuses(self, hub: Hub, cache: Path, refusal: tuple[int, str], message: str) -> None:
        """The user needs one line that says what to do, and not the client's traceback."""
        hub.refuse = refusal
        with pytest.raises(DownloadError, match=message) as caught:
            pull_model("small")
        assert "\n" not in str(caught.value)
        assert named_files(cache) == []

    def test_a_missing_file(self, hub: Hub, cache: Path) -> None:
        """What the repository has instead is most of the answer."""
        del hub.repos["org/small.gguf"]["small-Q4_0.gguf"]
        with pytest.raises(DownloadError, match=r"org/small.gguf has no file small-Q4_0.gguf at .*; it has small.gguf"):
            pull_model("small")
        assert named_files(cache) == []

    def test_a_missing_revision(self, hub: Hub) -> None:
        with pytest.raises(DownloadError, match=r"no such revision .*'v9'"):
            pull_model("small", revision="v9")

    def test_a_revision_that_is_a_path(self, hub: Hub) -> None:
        """It becomes part of a file's name in the cache."""
        with pytest.raises(DownloadError, match="cannot be the name of a revision"):
            pull_model("small", revision="../../x")
        assert hub.asked == []

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nothing", "no model is called 'nothing'"),
            ("small:Q9", "no level 'Q9'"),
            ("mine", "mine is in no repository"),
            ("tiny", "tiny is in no repository"),
            (
                "small:Q6_K",
                "has to be made from its checkpoint, in a clone of archroute-edge: python -m tools.convert org/small ",
            ),
        ],
    )
    def test_what_cannot_be_pulled(self, hub: Hub, name: str, message: str) -> None:
        with pytest.raises(ModelNotFoundError, match=message):
            pull_model(name)
        assert hub.asked == []


def pin(folder: Path, sha256: str) -> None:
    """Have the catalogue state a hash of the model."""
    pinned = f"Q4_0: {{file: small-Q4_0.gguf, sha256: {sha256}}}"
    (folder / "catalogue.yaml").write_text(CATALOGUE.replace("Q4_0: small-Q4_0.gguf", pinned))


def with_digest(digest: str) -> Callable[[RemoteRepo, str], RemoteFile]:
    """What the hub says about files, with another hash of models, as of files that are not in its large storage."""

    def read(repo: RemoteRepo, name: str) -> RemoteFile:
        facts = read_file_facts(repo, name)
        return replace(facts, digest=digest) if name.endswith(".gguf") else facts

    return read


class TestDamage:
    def test_a_wrong_hash(self, hub: Hub, cache: Path) -> None:
        """What a broken proxy sends must neither be used nor be the start of the next try."""
        hub.swapped = True
        with pytest.raises(DownloadError, match=r"what came is not what .* says it is"):
            pull_model("small")
        assert partials(cache) == []
        assert [name for name in named_files(cache) if name.endswith(".gguf") or len(name) == 64] == []
        with pytest.raises(ModelNotFoundError):
            find_model("small")

    def test_a_whole_file_that_is_no_model(self, hub: Hub, cache: Path) -> None:
        """The right hash proves that it is what the hub has, not that llama.cpp survives it."""
        hub.repos["org/small.gguf"]["small-Q4_0.gguf"] = b"GGUF" + bytes(200)
        with pytest.raises(DownloadError, match=r"^small-Q4_0.gguf: .*it is the file that org/small.gguf has"):
            pull_model("small")
        assert partials(cache) == []
        with pytest.raises(ModelNotFoundError):
            find_model("small")

    def test_a_file_that_is_no_model_and_that_another_program_fetched(self, hub: Hub, cache: Path) -> None:
        """`pull` promises a checked model also where it had nothing to download."""
        pulled = pull_model("small")
        content = b"GGUF" + bytes(200)
        hub.repos["org/small.gguf"]["small-Q4_0.gguf"] = content
        blob = cache / REPO / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        pulled.path.unlink()
        pulled.path.symlink_to(blob)
        with pytest.raises(ModelFileError):
            pull_model("small")

    def test_a_pinned_hash_that_is_not_the_hubs(self, hub: Hub, tmp_path: Path) -> None:
        """Pinning protects against a file that its repository has exchanged: it is not even downloaded."""
        pin(tmp_path, "0a" * 32)
        with pytest.raises(DownloadError, match="is not the one of the catalogue"):
            pull_model("small")
        assert hub.stored == []

    @pytest.mark.parametrize("state", ["online", "offline", "unreachable"])
    @pytest.mark.parametrize("kept_under", ["sha256", "sha1", "name"])
    def test_a_pinned_hash_that_is_not_the_one_of_the_file_here(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_under: str, state: str
    ) -> None:
        """Another program may have fetched it. It passed, and `pull` reported the pin as its hash."""
        path = pull_model("small").path
        content = path.read_bytes()
        if kept_under == "sha1":
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            path.resolve().rename(path.resolve().with_name(digest))
            path.unlink()
            path.symlink_to(Path("../../blobs") / digest)
            monkeypatch.setattr(_pull, "read_file_facts", with_digest(digest))
        elif kept_under == "name":
            path.resolve().replace(path)
        if state == "offline":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        elif state == "unreachable":
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        sha256 = hashlib.sha256(content).hexdigest()
        pin(tmp_path, sha256)
        assert (pull_model("small").sha256, pull_model("small").downloaded) == (sha256, False)
        pin(tmp_path, "0a" * 32)
        with pytest.raises(DownloadError, match=rf"\(sha256 {sha256}\) is not the one of the catalogue \({'0a' * 32}\)"):
            pull_model("small")
        assert path.read_bytes() == content

    def test_a_damaged_file_in_the_cache_is_fetched_again(self, hub: Hub) -> None:
        """Pulling is how a user repairs a model."""
        pulled = pull_model("small")
        content = pulled.path.read_bytes()
        pulled.path.resolve().write_bytes(content[:-1] + b"!")
        again = pull_model("small")
        assert again.downloaded
        assert again.path.read_bytes() == content

    def test_a_server_that_is_no_hub(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hash is used as a file's name: what is no hash must not be."""
        monkeypatch.setattr("archroute_edge.models._hub.is_digest", lambda text: False)
        with pytest.raises(DownloadError, match="is HF_ENDPOINT right"):
            pull_model("small")


class TestPasswords:
    """A mirror or a proxy may want one in its address, and messages end up in logs and bug reports."""

    def test_of_a_mirror(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url.replace("//", "//user:s3cret@"))
        assert pull_model("small:checkpoint").licence.link == hub.url.replace("//", "//...@") + "/org/small"
        hub.refuse = (500, "")
        with pytest.raises(DownloadError, match=r"//\.\.\.@127") as caught:
            pull_model("small")
        assert "s3cret" not in str(caught.value)

    @pytest.mark.usefixtures("hub")
    @pytest.mark.parametrize("user", ["bobby", "bobby:jr"])
    def test_of_a_proxy_without_a_scheme(self, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
        """Most programs take one, and the user's name would be taken for the scheme."""
        monkeypatch.setenv("http_proxy", f"{user}:s3cret@proxy.example:port")
        with pytest.raises(DownloadError, match=r"http_proxy.*\.\.\.@proxy\.example:port") as caught:
            pull_model("small")
        assert "s3c" not in str(caught.value)
        assert "bobby" not in str(caught.value)

    @pytest.mark.parametrize("password", ["s3cret", "s3cret" * 100, "s3c:/@ret"])
    def test_of_a_proxy(self, hub: Hub, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
        monkeypatch.setenv("http_proxy", f"socks4://user:{password}@proxy.example:port")
        with pytest.raises(DownloadError, match=r"http_proxy is socks4://\.\.\.@proxy\.example:port,") as caught:
            pull_model("small")
        assert "s3c" not in str(caught.value)


class TestOffline:
    @pytest.fixture
    def offline(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        pull_model("small")
        pull_model("small:checkpoint")
        hub.asked.clear()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    @pytest.mark.usefixtures("offline")
    def test_nobody_is_asked(self, hub: Hub, cache: Path) -> None:
        """What is here is checked and enough; what is not is an error at once."""
        with pytest.raises(DownloadError, match="small:F16 is not on this machine, and HF_HUB_OFFLINE is set"):
            pull_model("small:F16")
        pulled = pull_model("small")
        assert (pulled.downloaded, pulled.revision, pulled.path) == (False, COMMIT, find_model("small").path)
        assert pulled.licence.path is not None
        assert pull_model("small:checkpoint").revision == COMMIT
        assert hub.asked == hub.stored[2:] == []

    @pytest.mark.usefixtures("offline")
    @pytest.mark.parametrize("name", ["small", "small:checkpoint"])
    def test_damage_is_found(self, name: str) -> None:
        path = pull_model(name).path
        victim = (path if path.is_file() else path / "model.safetensors").resolve()
        victim.write_bytes(bytes(victim.stat().st_size))
        with pytest.raises(DownloadError, match="is damaged, and HF_HUB_OFFLINE is set"):
            pull_model(name)


class TestOutOfReach:
    @pytest.fixture(params=["down", "busy"])
    def unreachable(self, request: pytest.FixtureRequest, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hub that cannot be reached any more, once the model is here."""
        pull_model("small")
        if request.param == "busy":
            hub.refuse = (503, "")
        else:
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")

    @pytest.mark.usefixtures("unreachable")
    def test_what_is_here_is_enough(self, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A set-up script that pulls at each start must work in a train."""
        pulled = pull_model("small")
        assert (pulled.downloaded, pulled.path, pulled.revision) == (False, find_model("small").path, COMMIT)
        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "HF_HUB_OFFLINE=1" in warning

    @pytest.mark.usefixtures("unreachable")
    def test_what_is_not_here_is_an_error(self) -> None:
        with pytest.raises(HubUnreachableError, match=r"cannot be reached for org/small|answered HTTP 503"):
            pull_model("small:F16")

    @pytest.mark.usefixtures("unreachable")
    def test_what_is_damaged_is_an_error(self) -> None:
        path = find_model("small").path.resolve()
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(DownloadError, match=r"is damaged, and .*; connect to get small:Q4_0 again"):
            pull_model("small")


class TestRoom:
    def test_a_disk_too_small(self, hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Better a line now than a full disk in ten minutes."""
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
        with pytest.raises(DownloadError, match=r"MB are to be downloaded, and 0 MB are free; .* HF_HOME"):
            pull_model("small")
        assert hub.stored == []
        assert not cache.exists()

    def test_what_has_arrived_needs_no_room_again(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last megabyte of a model must not be refused because its gigabyte would not fit twice."""
        size = len(hub.repos["org/small.gguf"]["small-Q4_0.gguf"])
        hub.cuts = [size - 10, 0, 0, 0]
        with pytest.raises(DownloadError):
            pull_model("small")
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(size, 0, 100))
        assert pull_model("small").downloaded

    def test_a_disk_that_fills_up_meanwhile(self, hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Others write too: the check at the beginning is no promise."""
        real = Path.open

        def full(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            if self.suffix == ".incomplete" and self.stem.endswith(".archroute"):
                raise OSError(errno.ENOSPC, "No space left on device", str(self))
            return real(self, mode, *args, **options)

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(DownloadError, match=r"\.incomplete: cannot be written \(No space left on device\)"):
            pull_model("small")
        assert "small-Q4_0.gguf" not in named_files(cache)

    def test_a_network_drive_that_does_not_answer(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """That it timed out must not be taken for the lock of another process that downloads."""

        def digest_of(*_arguments: object) -> str:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out", "/mnt/hub/x")

        monkeypatch.setattr("archroute_edge.models._pull.digest_of", digest_of)
        with pytest.raises(DownloadError, match=r"/mnt/hub/x: cannot be written \(Connection timed out\)"):
            pull_model("small")

    def test_a_cache_that_cannot_be_written(self, hub: Hub, cache: Path) -> None:
        cache.write_text("a file where the folder should be")
        with pytest.raises(DownloadError, match=r"hub.*: cannot be written"):
            pull_model("small")
