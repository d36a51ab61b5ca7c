"""Models on another machine by their address: ``http://gpu-box:8000#katanemo/Arch-Router-1.5B``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args
from urllib.parse import parse_qsl, urlsplit

from archroute_edge.errors import SettingsError

RemoteApi = Literal["vllm", "sglang", "llama-server"]
"""The servers that can be asked for probabilities of single tokens."""

KEY_VARIABLE: Final = "ARCHROUTE_REMOTE_KEY"
"""The environment variable with the server's key, unless the address names another."""

_SCHEMES: Final = ("http://", "https://")
_UNUSABLE: Final = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")
_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_EXAMPLE: Final = "http://gpu-box:8000#katanemo/Arch-Router-1.5B"
_MOST_AT_ONCE: Final = 256
_LONGEST_S: Final = 600.0


@dataclass(frozen=True)
class RemoteAddress:
    """Where a model is served, and how it is asked.

    Args:
        url: scheme, host, port and path, up to the server's own paths.
        model: what the server calls the model; empty for the only one that it serves.
        vocabulary: a GGUF file, or a name in the catalogue, with the model's tokens; empty for what ``model`` names.
        api: which server it is; None to find out.
        key_variable: the environment variable with the key.
        needs_key: whether that variable has to be set.
        ca: a file of certificates to trust in place of the usual ones.
        timeout: seconds for one decision.
        concurrency: requests on their way at once.
    """

    url: str
    model: str = ""
    vocabulary: str = ""
    api: RemoteApi | None = None
    key_variable: str = KEY_VARIABLE
    needs_key: bool = False
    ca: str = ""
    timeout: float = 10.0
    concurrency: int = 16

    @property
    def name(self) -> str:
        """What decisions call it."""
        return f"{self.url}#{self.model}" if self.model else self.url


def is_remote(name: object) -> bool:
    """Whether a model's name is an address."""
    return isinstance(name, str) and name.lower().startswith(_SCHEMES)


def read_address(text: str) -> RemoteAddress:
    """The address of a model: ``URL[?OPTION=VALUE&...]#MODEL``.

    Raises:
        SettingsError: it is none; the message holds no credentials.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise SettingsError(f"the address of the remote model cannot be read; write it like {_EXAMPLE}") from None
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"the address of the remote model holds credentials; put the key into {KEY_VARIABLE} instead")
    if _UNUSABLE.search(text):
        before, _, options = text.partition("#")[0].partition("?")
        in_option = _UNUSABLE.search(options) is not None and _UNUSABLE.search(before) is None
        how = "; write a blank in an option as %20" if in_option else ""
        raise SettingsError(f"the address of the remote model holds a blank, or another character that no address has{how}")
    if not parts.hostname:
        raise SettingsError(f"the address of the remote model names no host; write it like {_EXAMPLE}")
    # What OpenAI's clients are given ends in the version, which is a part of the paths here.
    path = re.sub(r"/+$", "", re.sub(r"/v1/*$", "", parts.path))
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    url = f"{parts.scheme.lower()}://{host}{'' if port is None else f':{port}'}{path}"
    given = _options(url, parts.query)
    if not parts.fragment and "vocabulary" not in given:
        raise SettingsError(f"{url}: name the model behind a '#', like {_EXAMPLE}")
    return RemoteAddress(
        url,
        parts.fragment,
        vocabulary=given.get("vocabulary", ""),
        api=_api(url, given.get("api")),
        key_variable=_variable(url, given.get("key", KEY_VARIABLE)),
        needs_key="key" in given,
        ca=given.get("ca", ""),
        timeout=_number(url, "timeout", given.get("timeout", "10"), _LONGEST_S),
        concurrency=int(_number(url, "concurrency", given.get("concurrency", "16"), _MOST_AT_ONCE, is_whole=True)),
    )


_OPTIONS: Final = ("api", "ca", "concurrency", "key", "timeout", "vocabulary")


def _options(url: str, query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise SettingsError(f"{url}: no option {name[:60]!r}; there are {', '.join(_OPTIONS)}")
        if name in given or not value:
            raise SettingsError(f"{url}: the option {name} {'stands twice' if name in given else 'has no value'}")
        if "\0" in value:
            raise SettingsError(f"{url}: the option {name} holds a null character")
        given[name] = value
    return given


def _api(url: str, value: str | None) -> RemoteApi | None:
    if value is None or value in get_args(RemoteApi):
        return cast("RemoteApi | None", value)
    raise SettingsError(f"{url}: no api {value[:60]!r}; there are {', '.join(get_args(RemoteApi))}")


def _variable(url: str, name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        # It may be a key.
        raise SettingsError(f"{url}: key takes the name of an environment variable, not the key itself")
    return name


def _number(url: str, name: str, text: str, most: float, *, is_whole: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= most or (is_whole and value != int(value)):
        kind = "a whole number from 1" if is_whole else "a number of seconds above 0, up"
        raise SettingsError(f"{url}: {name} is {text[:60]!r}; it must be {kind} to {most:g}")
    return value
