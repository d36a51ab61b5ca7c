"""The seam to huggingface_hub: its settings, what a repository has, and getting a file of it, in pieces if need be.

The client's session, headers, tokens and settings are used (``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``), and its
failures become :class:`~archroute_edge.errors.DownloadError`. Files are streamed here and not by its own
``hf_hub_download``, which puts a file under its final name before anybody could check it, and which starts again from
nothing in the next process.
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from archroute_edge.errors import DownloadError, HubUnreachableError
from archroute_edge.models._hub_cache import hub_settings
from archroute_edge.system import is_digest

constants, _UNREADABLE = hub_settings()

from huggingface_hub import HfApi, get_hf_file_metadata, get_session, get_token, hf_hub_download, hf_hub_url  # noqa: E402
from huggingface_hub.errors import (  # noqa: E402
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # noqa: E402

# The bases of the client's own error: that of its HTTP library, which differs between versions, and OSError.
_FAILURES: Final = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_PAUSES_S: Final = (0.5, 1, 2, 4, 8)
_WORTH_ANOTHER_TRY: Final = (408, 429, 500, 502, 503, 504)
_TIMEOUTS: Final = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
_LONGEST_TIMEOUT_S: Final = 86_400
_PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


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


def shown_endpoint() -> str:
    """The address of the hub for people, without the password that a mirror may want."""
    return _without_password(constants.ENDPOINT)


def read_repo(repo: str, revision: str | None) -> RemoteRepo:
    """Ask the hub which files a repository has at ``revision`` (None: its default branch).

    Raises:
        DownloadError: no such repository or revision, no access, no connection, or a setting of the client that makes no
            sense.
    """
    _check_settings()
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
                f"{file.name}: the connection to {shown_endpoint()} was lost at {_size(partial):,} of {file.size:,} bytes "
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
    proxy = _through_proxy().removeprefix(" through ")
    suspects = f"HF_ENDPOINT right, and {proxy}" if proxy else "HF_ENDPOINT right"
    return f"{shown_endpoint()} does not describe {what} as a Hugging Face hub does; is {suspects}? ({reason})"


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
    place = shown_endpoint()
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


def _check_settings() -> None:
    """Check what the client would fail on when it asks the hub.

    Raises:
        DownloadError: a setting makes no sense; the message names the variable.
    """
    for name, value in _UNREADABLE.items():
        raise DownloadError(
            f"{name} is {_without_password(value)[:80]!r}, which huggingface_hub cannot read; correct or unset it"
        )
    for name in _TIMEOUTS:
        if not 0 < (seconds := getattr(constants, name)) <= _LONGEST_TIMEOUT_S:
            raise DownloadError(f"{name} is {seconds}; write seconds from 1 to {_LONGEST_TIMEOUT_S}, or unset it")
    if constants.HF_HUB_CACHE.startswith("~"):
        raise DownloadError("no home folder is known to keep models in; set HF_HOME to a folder of your own")
    endpoint = _address(constants.ENDPOINT)
    if endpoint is None or endpoint.scheme not in ("http", "https"):
        raise DownloadError(f"HF_ENDPOINT is {shown_endpoint()!r}, which is no address; write it like https://huggingface.co")
    for name, value in _proxies():
        _check_proxy(name, value)
    _check_token()
    _check_client()


def _address(url: str) -> SplitResult | None:
    """The parts of an address; None if it is none."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _proxies() -> Iterator[tuple[str, str]]:
    """The variables of proxies that hold, with their values: of two spellings the small letters, as everywhere."""
    for scheme, value in getproxies_environment().items():
        names = [name for name, set_to in os.environ.items() if name.lower() == f"{scheme}_proxy" and set_to == value]
        if scheme in ("http", "https", "all") and value and names:
            yield names[0], value


def _check_proxy(name: str, value: str) -> None:
    scheme = value.partition("://")[0].lower() if "://" in value else "http"
    if scheme not in _PROXY_SCHEMES:
        how = ", ".join(f"{each}://" for each in _PROXY_SCHEMES)
        raise DownloadError(f"{name} is {_without_password(value)}, of a kind that cannot be used; write one of {how}")
    if _address(value if "://" in value else f"http://{value}") is None:
        raise DownloadError(f"{name} is {_without_password(value)}, which is no address; write it like http://host:3128")
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise DownloadError(f"{name} is a SOCKS proxy, which needs one more package: pip install socksio")


def _through_proxy() -> str:
    """Where a proxy stands between, it may be at fault, and the address of the hub right: `` through the proxy of ...``."""
    parts = urlsplit(constants.ENDPOINT)
    if not parts.hostname or proxy_bypass_environment(parts.hostname):
        return ""
    found = {name.lower().partition("_")[0]: f"{name} ({_without_password(value)})" for name, value in _proxies()}
    proxy = found.get(parts.scheme) or found.get("all")
    return f" through the proxy of {proxy}" if proxy else ""


def _without_password(url: str) -> str:
    start, at, rest = url.rpartition("@")
    # Without one, what stands before the first colon is the user's name.
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,9}://", start)
    return f"{scheme[0] if scheme else ''}...@{rest[:200]}" if at else rest[:200]


def _check_token() -> None:
    name = next((each for each in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(each)), None)
    place = name or str(constants.HF_TOKEN_PATH)
    try:
        token = get_token() or ""
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise DownloadError(
            f"{constants.HF_TOKEN_PATH}: the token cannot be read ({reason}); set HF_HOME to a folder of your own"
        ) from exc
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise DownloadError(f"{place}: the token has characters that no token has; copy it anew")


def _check_client() -> None:
    """Make the client's session, which reads proxies and certificates."""
    try:
        get_session()
    except OSError as exc:
        named = [f"{name} ({os.environ[name]})" for name in _CERTIFICATES if os.environ.get(name)]
        raise DownloadError(f"the certificates of {' or '.join(named) or 'this machine'} cannot be read: {exc}") from exc
    except Exception as exc:
        names = [name for name in os.environ if name.lower().endswith("_proxy")]
        reason = " ".join(str(exc).split())[:200]
        raise DownloadError(
            f"the hub's client cannot be set up; are {', '.join(names) or 'its settings'} right? ({reason})"
        ) from exc


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200] or type(exc).__name__
