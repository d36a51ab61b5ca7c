"""Getting models of the catalogue from the Hugging Face hub into its cache on this machine.

A file is downloaded beside its final name, checked, and only then named.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archroute_edge.engine import check_model_file
from archroute_edge.errors import DownloadError, HubUnreachableError, ModelError, ModelNotFoundError
from archroute_edge.models._catalogue import CHECKPOINT, CataloguedFile, CatalogueEntry, Checkpoint, read_catalogue
from archroute_edge.models._find import catalogue_entry, how_to_get
from archroute_edge.models._hub import (
    RemoteFile,
    RemoteRepo,
    constants,
    fetch,
    is_offline,
    link_into_cache,
    read_file_facts,
    read_repo,
    shown_endpoint,
)
from archroute_edge.models._hub_cache import cached_checkpoint, cached_file, digest_in_cache, digest_of, repo_folder
from archroute_edge.system import expanded, replaced_when_whole

# isort: split
# Behind the seam, which reads the client's settings, or says which it cannot.
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

logger = logging.getLogger(__name__)

_LICENCE_FILE: Final = re.compile(r"(licen[cs]e|copying)(\.\w+)?", re.IGNORECASE)
_REVISION: Final = re.compile(r"\w[\w./-]*")
_PATIENCE_S: Final = 0.2
# Never pickles: they can run code when they are read.
_CHECKPOINT_FILES: Final = re.compile(
    r"[^/]+\.(safetensors|json|jinja)|\d+_Pooling/config\.json|merges\.txt|tokenizer\.model|README\.md"
)


@dataclass(frozen=True)
class Licence:
    """Of the weights: its name, a link, and its full text where the repository has one."""

    name: str
    link: str
    path: Path | None


@dataclass(frozen=True)
class PulledModel:
    """What :func:`pull_model` got.

    Attributes:
        name: with the level, or ``:checkpoint``.
        path: the GGUF, or a checkpoint's folder.
        revision: the commit.
        n_bytes: of all its files, the licence left out.
        sha256: of the GGUF, as far as the hub or the catalogue says it.
        downloaded: False where everything was here already.
    """

    name: str
    path: Path
    repo: str
    revision: str
    n_bytes: int
    sha256: str | None
    licence: Licence
    downloaded: bool


class PullListener:
    """Is told what a pull is doing; these methods do nothing."""

    def licence(self, licence: Licence) -> None:
        """The licence of what is going to be downloaded."""

    def progress(self, step: str, done: int, total: int) -> None:
        """``done`` of ``total`` bytes of a step, for instance ``downloading x.gguf``."""

    def waiting(self, name: str) -> None:
        """Another process is downloading this file."""


@dataclass(frozen=True)
class _Source:
    """What is to be pulled: one file of a repository, or without ``file`` a checkpoint."""

    entry: CatalogueEntry
    label: str
    repo: str
    revision: str | None
    file: CataloguedFile | None

    def licence(self, path: Path | None) -> Licence:
        link = self.entry.licence_url or f"{shown_endpoint()}/{self.repo}"
        return Licence(self.entry.licence or "as its page says", link, path)

    def sha256(self, digest: str | None) -> str | None:
        if self.file is None:
            return None
        return self.file.sha256 or (digest if digest and len(digest) == 64 else None)


def pull_model(
    name: str, *, level: str | None = None, revision: str | None = None, listener: PullListener | None = None
) -> PulledModel:
    """Get a model of the catalogue; what is here already is checked and kept.

    Args:
        name: ``NAME``, ``NAME:LEVEL`` or ``NAME:checkpoint``.
        level: the level, in the place of the one in ``name``.
        revision: a branch, tag or commit, in the place of the catalogue's.

    Raises:
        ModelNotFoundError: no such model or level, or one that no repository has.
        DownloadError: it could not be fetched; what has arrived is kept for the next try, under no name that is used.
        ModelFileError: the file of the repository, here already, is no model that can be routed with.
        ConfigError: the catalogue cannot be read.
    """
    entry, wanted = catalogue_entry(f"{name.partition(':')[0]}:{level}" if level else name)
    source = _source(entry, wanted or entry.usual_level or (CHECKPOINT if entry.checkpoint else None), revision)
    return _pull(source, listener or PullListener())


def _pull(source: _Source, listener: PullListener) -> PulledModel:
    try:
        pulled = _from_cache(source, listener, "HF_HUB_OFFLINE is set; unset it") if is_offline() else _online(source, listener)
    except OSError as exc:
        raise DownloadError(f"{exc.filename or constants.HF_HUB_CACHE}: cannot be written ({exc.strerror or exc})") from exc
    if source.file is not None and not pulled.downloaded:
        check_model_file(pulled.path)
    return pulled


def _online(source: _Source, listener: PullListener) -> PulledModel:
    """From the hub; out of reach, it is no reason to fail where everything is here and sound."""
    try:
        return _from_hub(source, listener)
    except HubUnreachableError as exc:
        if _in_cache(source) is None:
            raise
        pulled = _from_cache(source, listener, f"{exc}; connect")
        logger.warning("%s; what is here was checked and is used (HF_HUB_OFFLINE=1 asks nobody)", exc)
        return pulled


def pull_checkpoint(repo: str, *, revision: str | None = None, listener: PullListener | None = None) -> PulledModel:
    """Get the checkpoint of any repository: configuration, tokenizer, model card and safetensors.

    Args:
        repo: ``owner/name``; where the catalogue has it, its licence and revision are known.

    Raises:
        DownloadError: as :func:`pull_model`.
        ConfigError: the catalogue cannot be read.
    """
    known = (entry for entry in read_catalogue().values() if entry.checkpoint and entry.checkpoint.repo == repo)
    entry = next(known, None) or CatalogueEntry(repo, "", "", "card", checkpoint=Checkpoint(repo))
    return _pull(_source(entry, CHECKPOINT, revision), listener or PullListener())


def _source(entry: CatalogueEntry, level: str | None, revision: str | None) -> _Source:
    label = f"{entry.name}:{level}"
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise DownloadError(f"{revision[:80]!r} cannot be the name of a revision: give a branch, a tag or a commit")
    if level == CHECKPOINT and entry.checkpoint is not None:
        return _Source(entry, label, entry.checkpoint.repo, revision or entry.checkpoint.revision, None)
    if entry.repo is not None and level is not None and level in entry.files:
        return _Source(entry, label, entry.repo, revision or entry.revision, entry.files[level])
    if entry.file is not None:
        raise ModelNotFoundError(f"{entry.name} is in no repository: it is the file {entry.file} in a folder of models")
    raise ModelNotFoundError(how_to_get(entry, level))


def _from_hub(source: _Source, listener: PullListener) -> PulledModel:
    remote = read_repo(source.repo, source.revision)
    files = [read_file_facts(remote, name) for name in _names(source, remote)]
    licence_name = next((name for name in remote.names if _LICENCE_FILE.fullmatch(name)), None)
    licence_file = read_file_facts(remote, licence_name) if licence_name else None
    missing = [file for file in files if _here(file, listener) is None]
    _check_pinned(source, files[0].digest, None if missing else _path(source, remote, files), listener)
    _check_room([*missing, *([licence_file] if licence_file else [])])
    licence = source.licence((_here(licence_file, listener) or _obtain(licence_file, listener)) if licence_file else None)
    listener.licence(licence)
    for file in missing:
        _obtain(file, listener, source.file.sha256 if source.file else None)
    _note_revision(remote, source.revision)
    return PulledModel(
        name=source.label,
        path=_path(source, remote, files),
        repo=source.repo,
        revision=remote.commit,
        n_bytes=sum(file.size for file in files),
        sha256=source.sha256(files[0].digest),
        licence=licence,
        downloaded=bool(missing),
    )


def _path(source: _Source, remote: RemoteRepo, files: Sequence[RemoteFile]) -> Path:
    path = cached_file(source.repo, files[0].name, remote.commit)
    if path is None:
        raise DownloadError(f"{source.label}: {files[0].name} was removed from the hub's cache while it was pulled")
    # A checkpoint's file may lie in a folder of it.
    return path if source.file else path.parents[files[0].name.count("/")]


def _names(source: _Source, remote: RemoteRepo) -> list[str]:
    if source.file is not None:
        return [source.file.name]
    names = [name for name in remote.names if _CHECKPOINT_FILES.fullmatch(name)]
    if not any(name.endswith(".safetensors") for name in names):
        raise DownloadError(f"{remote.repo} holds no safetensors at commit {remote.commit[:12]}, so no checkpoint to convert")
    # The weights last: whoever looks for a whole checkpoint finds one when they are there.
    return sorted(names, key=lambda name: (name.endswith(".safetensors"), name))


def _checkpoint_files(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.rglob("*")) if _CHECKPOINT_FILES.fullmatch(each.relative_to(folder).as_posix())]


def _in_cache(source: _Source) -> Path | None:
    if source.file is not None:
        return cached_file(source.repo, source.file.name, source.revision)
    return cached_checkpoint(source.repo, source.revision)


def _from_cache(source: _Source, listener: PullListener, obstacle: str) -> PulledModel:
    """What is here already, checked, where the hub cannot be asked; ``obstacle`` says why, and ends in what helps."""
    path = _in_cache(source)
    if path is None:
        raise DownloadError(f"{source.label} is not on this machine, and {obstacle} to get it")
    folder = path.parent if source.file else path
    licence = source.licence(next((each for each in sorted(folder.iterdir()) if _LICENCE_FILE.fullmatch(each.name)), None))
    listener.licence(licence)
    files = [path] if source.file else _checkpoint_files(path)
    for file in files:
        digest = digest_in_cache(file)
        if digest is not None and digest_of(file, digest, listener.progress) != digest:
            raise DownloadError(f"{file}: is damaged, and {obstacle} to get {source.label} again")
    _check_pinned(source, digest_in_cache(path), path, listener)
    commit = path.relative_to(next(each for each in path.parents if each.name == "snapshots")).parts[0]
    n_bytes = sum(file.stat().st_size for file in files)
    sha256 = source.sha256(digest_in_cache(path))
    return PulledModel(source.label, path, source.repo, commit, n_bytes, sha256, licence, downloaded=False)


def _here(file: RemoteFile, listener: PullListener) -> Path | None:
    """The file, if the cache has it under its name with the hash that the hub says."""
    path = cached_file(file.repo, file.name, file.commit)
    return path if path is not None and _is_intact(path, file, listener) else None


def _check_pinned(source: _Source, digest: str | None, path: Path | None, listener: PullListener) -> None:
    """Refuse a file that is not the one of the catalogue.

    Args:
        digest: its hash, as the hub or the cache states it.
        path: the file, which ``digest`` is right for; None if it is still to be downloaded, and checked then.

    Raises:
        DownloadError: it is another one.
    """
    if source.file is None or source.file.sha256 is None:
        return
    if digest is None or len(digest) != 64:
        if path is None:
            return
        digest = digest_of(path, source.file.sha256, listener.progress)
    if digest != source.file.sha256:
        raise DownloadError(
            f"{path or source.file.name}: the file that {source.repo} has (sha256 {digest}) is not the one of the catalogue "
            f"({source.file.sha256})"
        )


def _check_room(files: Iterable[RemoteFile]) -> None:
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


def _obtain(file: RemoteFile, listener: PullListener, sha256: str | None = None) -> Path:
    """Download a file if the cache has not got it whole, and return its path there.

    Args:
        sha256: the hash that it must have beside the hub's, if any.

    Raises:
        DownloadError: it cannot be fetched, or what came is not what the hub, the catalogue or a GGUF promises.
        OSError: the cache cannot be written.
    """
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


def _note_revision(repo: RemoteRepo, revision: str | None) -> None:
    """Write down in the cache which commit a branch or tag was at, so that it is found by that name offline.

    Raises:
        OSError: the cache cannot be written.
    """
    reference = repo_folder(repo.repo) / "refs" / (revision or "main")
    if revision == repo.commit or (reference.is_file() and reference.read_bytes() == repo.commit.encode()):
        return
    reference.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_whole(reference) as partial:
        partial.write_text(repo.commit, encoding="utf-8")


def _partial(file: RemoteFile) -> Path:
    # Named by the hash, so that what an earlier process has left is the beginning of the same file.
    return repo_folder(file.repo) / "blobs" / f"{file.digest}.archroute.incomplete"


def _is_intact(path: Path, file: RemoteFile, listener: PullListener) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return digest_of(path, file.digest, listener.progress, file.name) == file.digest


def _check(partial: Path, file: RemoteFile, listener: PullListener, sha256: str | None) -> None:
    """Refuse and delete a file that is not what it should be."""
    expected = [file.digest, *([sha256] if sha256 and sha256 != file.digest else [])]
    try:
        for digest in expected:
            found = digest_of(partial, digest, listener.progress, file.name)
            if found != digest:
                raise DownloadError(
                    f"{file.name}: what came is not what {shown_endpoint()} says it is (hash {found}, not {digest}); "
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
def _locked(file: RemoteFile, listener: PullListener) -> Iterator[None]:
    """Keep other processes from downloading the same file; the lock is the one that huggingface_hub takes."""
    folder = repo_folder(file.repo)
    lock = folder.parent / ".locks" / folder.name / f"{file.digest}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(WeakFileLock(lock, timeout=_PATIENCE_S))
        except TimeoutError:
            listener.waiting(file.name)
            held.enter_context(WeakFileLock(lock, timeout=None))
        yield
