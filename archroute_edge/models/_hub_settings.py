"""The settings of huggingface_hub: taken from the environment, and checked before the hub is asked.

The client reads its variables once, when it is imported, and fails there on those that it cannot read. What needs no hub
must not: the variables that cannot be read are left out for the import, and named as soon as the hub is to be asked.

Import this before anything else of huggingface_hub.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from archroute_edge.errors import DownloadError

_PREFIXES: Final = ("HF_", "HUGGING", "TRANSFORMERS_")
_ENDPOINT: Final = "HF_ENDPOINT"
_TIMEOUTS: Final = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
_LONGEST_TIMEOUT_S: Final = 86_400
_PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def _import_constants() -> tuple[Any, Mapping[str, str]]:
    """The client's settings, and the variables that they were read without, each with its value."""
    unreadable: dict[str, str] = {}
    try:
        urlsplit(os.environ.get(_ENDPOINT, ""))
    except ValueError:
        unreadable[_ENDPOINT] = os.environ.pop(_ENDPOINT)
    try:
        while True:
            try:
                return importlib.import_module("huggingface_hub.constants"), unreadable
            except (ValueError, TypeError, OverflowError) as exc:
                # The message of a failed conversion ends in the text that was to be converted.
                named = [
                    name
                    for name, value in os.environ.items()
                    if name.startswith(_PREFIXES) and value and repr(value) in str(exc)
                ]
                if not named:
                    raise
                unreadable.update((name, os.environ.pop(name)) for name in named)
    finally:
        os.environ.update(unreadable)


constants, _UNREADABLE = _import_constants()


def check_settings() -> None:
    """Check what the client would fail on when it asks the hub.

    Raises:
        DownloadError: a setting makes no sense; the message names the variable.
    """
    for name, value in _UNREADABLE.items():
        raise DownloadError(f"{name} is {value[:80]!r}, which huggingface_hub cannot read; correct or unset it")
    for name in _TIMEOUTS:
        if not 0 < getattr(constants, name) <= _LONGEST_TIMEOUT_S:
            raise DownloadError(
                f"{name} is {getattr(constants, name)}; write seconds from 1 to {_LONGEST_TIMEOUT_S}, or unset it"
            )
    if constants.HF_HUB_CACHE.startswith("~"):
        raise DownloadError("no home folder is known to keep models in; set HF_HOME to a folder of your own")
    _check_endpoint(constants.ENDPOINT)
    for name, value in _proxies():
        _check_proxy(name, value)
    _check_token()
    _check_client()


def proxy_in_use(url: str) -> str | None:
    """The proxy through which ``url`` is asked for, as ``HTTPS_PROXY (http://host:port)``, without a password."""
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass_environment(parts.hostname):
        return None
    found = {name.lower().partition("_")[0]: (name, value) for name, value in _proxies()}
    for scheme in (parts.scheme, "all"):
        if scheme in found:
            name, value = found[scheme]
            return f"{name} ({_without_password(value)})"
    return None


def _proxies() -> Iterator[tuple[str, str]]:
    """The variables of proxies that hold, with their values: of two spellings the small letters, as everywhere."""
    # Here, since a place in the hub's cache is a part of every start, and this takes time to import.
    from urllib.request import getproxies_environment

    for scheme, value in getproxies_environment().items():
        names = [name for name, set_to in os.environ.items() if name.lower() == f"{scheme}_proxy" and set_to == value]
        if scheme in ("http", "https", "all") and value and names:
            yield names[0], value


def _check_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise DownloadError(f"{_ENDPOINT} is {url[:200]!r}, which is no address; write it like https://huggingface.co")


def _check_proxy(name: str, value: str) -> None:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        known = parts.scheme in _PROXY_SCHEMES
        sound = known and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known, sound = True, False
    if not known:
        how = ", ".join(f"{scheme}://" for scheme in _PROXY_SCHEMES)
        raise DownloadError(f"{name} is {_without_password(value)}, of a kind that cannot be used; write one of {how}")
    if not sound:
        raise DownloadError(f"{name} is {_without_password(value)}, which is no address; write it like http://host:3128")
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise DownloadError(f"{name} is a SOCKS proxy, which needs one more package: pip install socksio")


def _without_password(url: str) -> str:
    start, at, rest = url[:200].rpartition("@")
    scheme, slashes, _ = start.rpartition("://")
    return f"{scheme}{slashes}...@{rest}" if at else rest


def _check_token() -> None:
    from huggingface_hub import get_token

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
    from huggingface_hub import get_session

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
