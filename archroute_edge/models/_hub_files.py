"""One file of a repository into the hub's cache: downloaded beside its final name, checked, and only then named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

# First: it reads the client's settings, or says which it cannot.
from archroute_edge.models._hub_settings import constants

# isort: split
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from archroute_edge.engine import check_model_file
from archroute_edge.errors import DownloadError, ModelError
from archroute_edge.models._hub import RemoteFile, RemoteRepo, fetch, link_into_cache
from archroute_edge.models._hub_cache import cached_file, repo_folder
from archroute_edge.system import expanded, file_digest, replaced_when_whole

_PATIENCE_S: Final = 0.2


class FileListener(Protocol):
    """Is told what is being done with a file."""

    def progress(self, step: str, done: int, total: int) -> None:
        """``done`` of ``total`` bytes of a step, for instance ``downloading x.gguf``."""

    def waiting(self, name: str) -> None:
        """Another process is downloading the file."""


def is_here(file: RemoteFile, listener: FileListener) -> bool:
    """Whether the cache has the file under its name, with the hash that the hub says."""
    path = cached_file(file.repo, file.name, file.commit)
    return path is not None and _is_intact(path, file, listener)


def check_room(files: Iterable[RemoteFile]) -> None:
    """Check that the disk has room for what is still to be downloaded of ``files``.

    Raises:
        DownloadError: it has not; the message gives both sizes.
    """
    partials = {file: _partial(file) for file in files}
    needed = sum(file.size - (partial.stat().st_size if partial.exists() else 0) for file, partial in partials.items())
    folder = expanded(constants.HF_HUB_CACHE)
    existing = next((path for path in (folder, *folder.parents) if path.is_dir()), folder)
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DownloadError(
            f"{folder}: {needed / 1e6:,.0f} MB are to be downloaded, and {free / 1e6:,.0f} MB are free; "
            "make room, or set HF_HOME to a folder on a larger disk"
        )


def obtain(file: RemoteFile, listener: FileListener, sha256: str | None = None) -> Path:
    """Download a file if the cache has not got it whole, and return its path there.

    Args:
        sha256: the hash that it must have beside the hub's, if any.

    Raises:
        DownloadError: it cannot be fetched, or what came is not what the hub, the catalogue or a GGUF promises.
        OSError: the cache cannot be written.
    """
    if sha256 is not None and len(file.digest) == 64 and file.digest != sha256:
        raise DownloadError(
            f"{file.name}: the file that {file.repo} has (sha256 {file.digest}) is not the one of the catalogue ({sha256})"
        )
    blob = repo_folder(file.repo) / "blobs" / file.digest
    blob.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file, listener):
        if not _is_intact(blob, file, listener):
            named = cached_file(file.repo, file.name, file.commit)
            partial = _partial(file)
            fetch(file, partial, lambda done: listener.progress(f"downloading {file.name}", done, file.size))
            _check(partial, file, listener, sha256)
            with partial.open("rb+") as written:
                os.fsync(written.fileno())
            if named is not None:  # damaged: without links this is the data itself
                named.unlink()
            partial.replace(blob)
    return link_into_cache(file)


def note_revision(repo: RemoteRepo, revision: str | None) -> None:
    """Write down in the cache which commit a branch or tag was at, so that it is found by that name offline.

    Raises:
        OSError: the cache cannot be written.
    """
    reference = repo_folder(repo.repo) / "refs" / (revision or "main")
    if revision == repo.commit:
        return
    reference.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_whole(reference) as partial:
        partial.write_text(repo.commit, encoding="utf-8")


def _partial(file: RemoteFile) -> Path:
    # Named by the hash, so that what an earlier process has left is the beginning of the same file.
    return repo_folder(file.repo) / "blobs" / f"{file.digest}.archroute.incomplete"


def _is_intact(path: Path, file: RemoteFile, listener: FileListener) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return _digest(path, file.digest, file, listener) == file.digest


def _digest(path: Path, like: str, file: RemoteFile, listener: FileListener) -> str:
    return file_digest(path, like, lambda done: listener.progress(f"checking {file.name}", done, file.size))


def _check(partial: Path, file: RemoteFile, listener: FileListener, sha256: str | None) -> None:
    """Refuse and delete a file that is not what it should be."""
    expected = [file.digest, *([sha256] if sha256 and sha256 != file.digest else [])]
    try:
        for digest in expected:
            found = _digest(partial, digest, file, listener)
            if found != digest:
                raise DownloadError(
                    f"{file.name}: what came is not what {constants.ENDPOINT} says it is (hash {found}, not {digest}); "
                    "nothing was kept, try again"
                )
        if file.name.endswith(".gguf"):
            try:
                check_model_file(partial)
            except ModelError as exc:
                reason = str(exc).replace(str(partial), file.name)
                raise DownloadError(f"{reason}; it is the file that {file.repo} has, and nothing was kept") from exc
    except DownloadError:
        partial.unlink()
        raise


@contextmanager
def _locked(file: RemoteFile, listener: FileListener) -> Iterator[None]:
    """Keep other processes from downloading the same file; the lock is the one that huggingface_hub takes."""
    folder = repo_folder(file.repo)
    lock = folder.parent / ".locks" / folder.name / f"{file.digest}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    patience: float | None = _PATIENCE_S
    while True:
        try:
            with WeakFileLock(lock, timeout=patience):
                yield
            return
        except TimeoutError:
            if patience is None:
                raise
            listener.waiting(file.name)
            patience = None
