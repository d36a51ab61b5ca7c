"""What the Hugging Face hub's cache holds of a repository. Nothing is downloaded.

Its layout, one folder ``models--OWNER--NAME`` a repository: ``blobs/`` has files named by their hash,
``snapshots/COMMIT/`` links to them under their names, ``refs/`` says which commit a branch or tag was last seen at.

Finding a model is part of every start, and the hub's client takes a tenth of a second to import: only deleting needs it.
"""

from __future__ import annotations

import errno
import functools
import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from archroute_edge.system import expanded, file_digest, is_digest, is_file_here

Progress = Callable[[str, int, int], None]
"""Called with a step, such as ``checking x.gguf``, and with the bytes done and in all."""

_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "vocab.json")
_VARIABLES: Final = ("HF_", "HUGGING", "TRANSFORMERS_")


@functools.cache
def hub_settings() -> tuple[Any, Mapping[str, str]]:
    """The client's settings (``huggingface_hub.constants``), and the variables that it cannot read, each with its value.

    The client reads its variables once, when it is imported, and fails there on those that it cannot read. What needs no
    hub must not: they are left out for the import. So this comes before any other import of the client.
    """
    unreadable: dict[str, str] = {}
    try:
        urlsplit(os.environ.get("HF_ENDPOINT", ""))
    except ValueError:
        unreadable["HF_ENDPOINT"] = os.environ.pop("HF_ENDPOINT")
    try:
        while True:
            try:
                return importlib.import_module("huggingface_hub.constants"), unreadable
            except (ValueError, TypeError, OverflowError) as exc:
                # The message of a failed conversion ends in the text that was to be converted.
                named = [
                    name
                    for name, value in os.environ.items()
                    if name.startswith(_VARIABLES) and value and repr(value) in str(exc)
                ]
                if not named:
                    raise
                unreadable.update((name, os.environ.pop(name)) for name in named)
    finally:
        os.environ.update(unreadable)


def repo_folder(repo: str) -> Path:
    """The folder of a repository in the cache, whether it is there or not."""
    return expanded(hub_settings()[0].HF_HUB_CACHE) / "--".join(["models", *repo.split("/")])


def snapshots(repo: str, revision: str | None = None) -> list[Path]:
    """The folders of a repository's commits that are here: ``revision`` alone, or ``main`` and then the newest first.

    A cache that may not be searched has none.
    """
    try:
        return _snapshots(repo_folder(repo), revision)
    except (OSError, ValueError):
        return []


def _snapshots(folder: Path, revision: str | None) -> list[Path]:
    reference = folder / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    found = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    if revision is not None:
        return [path for path in found if path.name == commit]
    return sorted(found, key=lambda path: (path.name == commit, path.stat().st_mtime), reverse=True)


def cached_file(repo: str, name: str, revision: str | None = None) -> Path | None:
    """A file of a repository: at ``revision``, or without one at ``main``, or else at the newest commit that has it."""
    return next((path / name for path in snapshots(repo, revision) if is_file_here(path / name)), None)


def cached_checkpoint(repo: str, revision: str | None = None) -> Path | None:
    """The folder of a checkpoint of which everything is here: configuration, tokenizer and all safetensors."""
    return next((path for path in snapshots(repo, revision) if _is_whole(path)), None)


def _is_whole(folder: Path) -> bool:
    if not is_file_here(folder / "config.json") or not any(is_file_here(folder / name) for name in _TOKENIZERS):
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return bool(shards) and all((folder / str(name)).is_file() for name in shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def digest_in_cache(path: Path) -> str | None:
    """The hash that the cache keeps a file under, as :func:`~archroute_edge.system.file_digest` writes it."""
    blob = path.resolve()
    return blob.name if blob.parent.name == "blobs" and is_digest(blob.name) else None


def digest_of(path: Path, like: str, on_progress: Progress, name: str | None = None) -> str:
    """The hash of a file in the way in which ``like`` was made; ``on_progress`` is told what is checked.

    Raises:
        OSError: the file cannot be read.
    """
    step, size = f"checking {name or path.name}", path.stat().st_size
    return file_digest(path, like, lambda done: on_progress(step, done, size))


def remove_from_cache(repo: str, names: set[str] | None) -> list[Path]:
    """Delete files of a repository at all its commits, with the data that nothing else in the cache uses.

    Args:
        names: the files; None deletes the whole repository, what interrupted downloads left included.

    Returns:
        The paths that are gone.

    Raises:
        OSError: a file cannot be deleted.
    """
    constants, _ = hub_settings()

    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return []
    # Only this repository: one that was copied from it has the same commits.
    cache = replace(cache, repos=frozenset(each for each in cache.repos if each.repo_path.name == repo_folder(repo).name))
    revisions = [revision for found in cache.repos for revision in found.revisions]
    files = [
        file
        for revision in revisions
        for file in revision.files
        if names is None or file.file_path.relative_to(revision.snapshot_path).as_posix() in names
    ]
    if names is None:
        cache.delete_revisions(*{revision.commit_hash for revision in revisions}).execute()
    else:
        cache.delete_files(*files).execute()
    paths = sorted({path for file in files for path in (file.file_path, file.blob_path)})
    for path in paths:
        # The client only logs what it cannot delete; data that another file of the repository uses stays rightly.
        if path.is_symlink() or (names is None and path.exists()):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return [path for path in paths if not path.exists()]
