"""The seam to huggingface_hub: what a repository has, and getting a file of it, in pieces if need be.

The client's session, headers, tokens and settings are used (``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``), and its
failures become :class:`~archroute_edge.errors.DownloadError`. Files are streamed here and not by its own
``hf_hub_download``, which puts a file under its final name before anybody could check it, and which starts again from
nothing in the next process.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

# First: it reads the client's settings, or says which it cannot.
from archroute_edge.models._hub_settings import check_settings, constants, proxy_in_use

# isort: split
from huggingface_hub import HfApi, get_hf_file_metadata, get_session, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from archroute_edge.errors import DownloadError, HubUnreachableError
from archroute_edge.system import is_digest

# The bases of the client's own error: that of its HTTP library, which differs between versions, and OSError.
_FAILURES: Final = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_PAUSES_S: Final = (0.5, 1, 2, 4, 8)
_WORTH_ANOTHER_TRY: Final = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class RemoteRepo:
    """A repository at a commit, and the names of all its files."""

    repo: str
    commit: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class RemoteFile:
    """A file at a commit: ``digest`` is its SHA-256, or for small files git's SHA-1; ``size`` is in bytes."""

    repo: str
    name: str
    commit: str
    url: str
    digest: str
    size: int


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids to ask the hub."""
    return bool(constants.HF_HUB_OFFLINE)


def read_repo(repo: str, revision: str | None) -> RemoteRepo:
    """Ask the hub which files a repository has at ``revision`` (None: its default branch).

    Raises:
        DownloadError: no such repository or revision, no access, no connection, or a setting of the client that makes no
            sense.
    """
    check_settings()
    with _translated(repo, f"revision {revision!r}" if revision else "the list of its files"):
        try:
            info = HfApi(endpoint=constants.ENDPOINT).model_info(
                repo, revision=revision, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
            commit, names = str(info.sha), tuple(each.rfilename for each in info.siblings or ())
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DownloadError(_no_hub(repo, _one_line(exc))) from exc
    if not _COMMIT.fullmatch(commit):
        raise DownloadError(_no_hub(repo, "it names no commit"))
    return RemoteRepo(repo, commit, names)


def read_file_facts(repo: RemoteRepo, name: str) -> RemoteFile:
    """Ask the hub for the size and hash of a file.

    Raises:
        DownloadError: no such file, no access, no connection, or a server that does not say the hash.
    """
    if name not in repo.names:
        alike = [each for each in repo.names if Path(each).suffix == Path(name).suffix]
        has = f"it has {', '.join(alike)}" if alike else "it has none of that kind"
        raise DownloadError(f"{repo.repo} has no file {name} at commit {repo.commit[:12]}; {has}")
    url = hf_hub_url(repo.repo, name, revision=repo.commit, endpoint=constants.ENDPOINT)
    with _translated(repo.repo, name):
        facts = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    if facts.etag is None or not is_digest(facts.etag) or facts.size is None:
        raise DownloadError(_no_hub(name, "it does not say size and hash"))
    return RemoteFile(repo.repo, name, repo.commit, url, facts.etag, facts.size)


def fetch(file: RemoteFile, partial: Path, on_bytes: Callable[[int], None]) -> None:
    """Download what ``partial`` lacks of a file, trying again as long as something still arrives.

    Args:
        partial: the beginning of the file, from an earlier time; it need not exist. It stays when this fails.
        on_bytes: called with the size of ``partial`` as it grows.

    Raises:
        DownloadError: no access, no connection after several tries, or no room.
    """
    if partial.exists() and partial.stat().st_size > file.size:
        partial.unlink()
    tries = 0
    while (size := _size(partial)) < file.size or not partial.exists():
        with _translated(file.repo, file.name):
            problem = _stream(file, partial, size, on_bytes)
        if problem is None:
            continue
        tries = 1 if _size(partial) > size else tries + 1
        if tries > len(_PAUSES_S):
            raise DownloadError(
                f"{file.name}: the connection to {constants.ENDPOINT} was lost at {_size(partial):,} of {file.size:,} bytes "
                f"({problem}); what has arrived is kept, and the same command goes on from there"
            )
        time.sleep(_PAUSES_S[tries - 1])


def link_into_cache(file: RemoteFile) -> Path:
    """Let the client give a file whose data is in the cache its name there, and return its path.

    Raises:
        DownloadError: no connection.
    """
    with _translated(file.repo, file.name):
        return Path(hf_hub_download(file.repo, file.name, revision=file.commit))


def _no_hub(what: str, reason: str) -> str:
    proxy = proxy_in_use(constants.ENDPOINT)
    suspects = f"HF_ENDPOINT right, and the proxy of {proxy}" if proxy else "HF_ENDPOINT right"
    return f"{constants.ENDPOINT} does not describe {what} as a Hugging Face hub does; is {suspects}? ({reason})"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stream(file: RemoteFile, partial: Path, start: int, on_bytes: Callable[[int], None]) -> str | None:
    """Append to ``partial`` what one connection brings; returns why it ended early where another try may help."""
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with get_session().stream(
            "GET", file.url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            # A server that knows no ranges sends everything again.
            start = start if response.status_code == 206 else 0
            for end in _write(partial, start, response.iter_bytes()):
                on_bytes(end)
                if end > file.size:
                    raise DownloadError(f"{file.name}: the server sends more than the {file.size:,} bytes it announced")
    except OfflineModeIsEnabled:
        raise
    except HfHubHTTPError as exc:
        if exc.response.status_code in _WORTH_ANOTHER_TRY:
            return f"HTTP {exc.response.status_code}"
        raise
    except _FAILURES as exc:
        return _one_line(exc)
    return None if _size(partial) == file.size else "it ended early"


def _write(partial: Path, start: int, chunks: Iterator[bytes]) -> Iterator[int]:
    """Write ``chunks`` to ``partial`` from ``start`` on, and yield where each ends."""
    try:
        with partial.open("rb+" if start else "wb") as target:
            target.seek(start)
            for chunk in chunks:
                target.write(chunk)
                target.flush()
                yield target.tell()
    except OSError as exc:
        raise DownloadError(f"{partial}: cannot be written ({exc.strerror or exc})") from exc


@contextmanager
def _translated(repo: str, what: str) -> Iterator[None]:
    """Turn the client's failures into one line each. ``what`` is the file or revision that was asked for."""
    place = constants.ENDPOINT
    try:
        yield
    except GatedRepoError as exc:
        raise DownloadError(
            f"{repo} is gated: ask for access at {place}/{repo}, and then set HF_TOKEN or run: hf auth login"
        ) from exc
    except RevisionNotFoundError as exc:
        raise DownloadError(f"{repo} has no such revision at {place} ({what})") from exc
    except RemoteEntryNotFoundError as exc:
        raise DownloadError(f"{repo} has no file {what} at {place}") from exc
    except RepositoryNotFoundError as exc:
        raise DownloadError(
            f"{place} has no repository {repo}, or it is private; with access to it, set HF_TOKEN or run: hf auth login"
        ) from exc
    except OfflineModeIsEnabled as exc:
        raise DownloadError(f"{repo} ({what}) cannot be fetched: HF_HUB_OFFLINE is set; unset it to allow it") from exc
    except HfHubHTTPError as exc:
        status = exc.response.status_code
        if status in (401, 403):
            hint = f"{place} refuses access to {repo} (HTTP {status}): set HF_TOKEN to a token that may read it"
            raise DownloadError(hint) from exc
        if status in _WORTH_ANOTHER_TRY:
            raise HubUnreachableError(f"{place} answered HTTP {status} for {repo} ({what}){_through_proxy()}") from exc
        raise DownloadError(f"{place} answered HTTP {status} for {repo} ({what}){_through_proxy()}") from exc
    except _FAILURES as exc:
        reason = _one_line(exc)
        raise HubUnreachableError(f"{place} cannot be reached for {repo} ({what}){_through_proxy()}: {reason}") from exc


def _through_proxy() -> str:
    """Where a proxy stands between, it may be what is wrong, and the address of the hub right."""
    proxy = proxy_in_use(constants.ENDPOINT)
    return f" through the proxy of {proxy}" if proxy else ""


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200] or type(exc).__name__
