"""From a model's definition and the environment to the addresses and headers by which it is reached."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from archroute_edge.config import ModelDefinition, shorten
from archroute_edge.errors import ConfigError
from archroute_edge.gateway._headers import CREDENTIALS, Headers
from archroute_edge.gateway._providers import PROVIDER_NAMES, Provider, known_provider
from archroute_edge.gateway._variables import MissingVariableError, UnsetVariableError, fill_in, fill_in_key, variables_in
from archroute_edge.record import Operation

_PATHS: Final[Mapping[Operation, str]] = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}
_ANTHROPIC_VERSION: Final = (b"anthropic-version", b"2023-06-01")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_OURS: Final = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_SHORTEST_SECRET: Final = 8
"""What is shorter is not looked for in errors of an upstream: it would be found in any text."""


@dataclass(frozen=True)
class Connection:
    """How a model, or all models of a wildcard, are reached.

    Args:
        provider: as OpenTelemetry names it.
        upstream_model: what the upstream calls the model; of a wildcard nothing.
        urls: of each API that is spoken there.
        headers: of each of them: credentials, and what the configuration adds.
        defaults: headers of each of them that a client's own replace.
        passthrough_auth: whether the client's credentials go there.
        secrets: what must not come out of it in an error.
    """

    provider: str
    upstream_model: str
    urls: Mapping[Operation, str]
    headers: Mapping[Operation, Headers] = field(repr=False)
    defaults: Mapping[Operation, Headers]
    passthrough_auth: bool
    secrets: tuple[bytes, ...] = field(repr=False)


def connect(definition: ModelDefinition, environment: Mapping[str, str], path: Path | None) -> Connection:
    """The connection of a model.

    Args:
        definition: as the configuration has it.
        environment: holds the variables that it names.
        path: the configuration's file, for messages.

    Raises:
        ConfigError: it cannot be reached as defined; the message holds no key.
    """
    return _Resolver(definition, environment, path).connection()


class _Resolver:
    """The resolution of one definition."""

    def __init__(self, definition: ModelDefinition, environment: Mapping[str, str], path: Path | None) -> None:
        self._definition = definition
        self._upstream = definition.upstream
        self._environment = environment
        self._path = path

    def connection(self) -> Connection:
        name, slash, rest = self._definition.model.partition("/")
        own = known_provider(name) if slash else None
        interface = self._interface()
        if own is None and interface is None:
            raise self._unknown(name if slash else "")
        spoken = interface or own
        assert spoken is not None
        place = own or spoken
        if spoken.unreachable:
            raise self._error(f"{spoken.unreachable}", "model")
        url = self._url(place, name if slash and own is None else "")
        passthrough = self._upstream.passthrough_auth or (place.takes_clients_key and self._upstream.access_key is None)
        added, secrets = self._added()
        secrets += self._values_in(self._upstream.base_url or "")
        key = None if passthrough else self._key()
        if key is not None:
            secrets.append(key)
        elif not passthrough and not any(header in CREDENTIALS for header, _ in added):
            self._check_needs_no_key(place, url)
        headers: dict[Operation, Headers] = {}
        defaults: dict[Operation, Headers] = {}
        for operation in spoken.operations:
            shown = [] if key is None else _credentials(spoken, operation, key)
            headers[operation] = [*(each for each in shown if each[0] not in {name for name, _ in added}), *added]
            defaults[operation] = [_ANTHROPIC_VERSION] if operation == "messages" and spoken.name == "anthropic" else []
        return Connection(
            (own.otel_name if own is not None else name if slash else spoken.otel_name),
            "" if self._definition.is_wildcard else rest if slash else name,
            {each: urlunsplit(url._replace(path=url.path + _PATHS[each])) for each in spoken.operations},
            headers,
            defaults,
            passthrough,
            _as_quoted(secrets),
        )

    def _interface(self) -> Provider | None:
        """The provider whose API is spoken, if the definition says so."""
        name = self._upstream.interface
        if name is None:
            return None
        found = known_provider(name)
        if found is None:
            known = ", ".join(PROVIDER_NAMES)
            raise self._error(
                f"unknown provider_interface {shorten(name)}; known are {known}", "provider_interface", "provider"
            )
        return found

    def _unknown(self, provider: str) -> ConfigError:
        if not provider:
            return self._error("it names no provider; write it as provider/model, or add provider_interface", "model")
        needed = "provider_interface: openai" if self._upstream.base_url else "base_url and provider_interface"
        said = f"the provider {shorten(provider)} is not known; add {needed}"
        said = f"{said}, for the API that it speaks" if self._upstream.base_url else said
        close = difflib.get_close_matches(provider, PROVIDER_NAMES, n=1)
        return self._error(f"{said}; or did you mean {close[0]!r}?" if close else said, "model")

    def _url(self, place: Provider, unknown: str) -> SplitResult:
        """The address up to the paths of the APIs."""
        given = self._upstream.base_url
        if given is None:
            if unknown:
                raise self._error(f"the provider {shorten(unknown)} is not known; add its base_url", "model")
            if not place.host:
                raise self._error(f"{place.name} has no address of its own; add the base_url of yours", "model")
            return urlsplit(place.host + place.prefix)
        text = self._filled_in(given, "base_url", "endpoint").strip()
        # The address itself stays out of messages: some people write keys into it.
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError:
            raise self._error(
                "its base_url is not an address such as http://localhost:8000/v1", "base_url", "endpoint"
            ) from None
        if url.scheme not in ("http", "https") or not url.hostname or re.search(r"[\s\x00-\x1f\\]", text) or port == 0:
            raise self._error("its base_url is not an address such as http://localhost:8000/v1", "base_url", "endpoint")
        if url.username is not None or url.password is not None:
            raise self._error("its base_url holds a user or password; write the key as access_key", "base_url", "endpoint")
        if url.fragment:
            raise self._error("its base_url has a part after '#', which no server gets; remove it", "base_url", "endpoint")
        prefix = url.path.rstrip("/") or place.prefix
        for ending in _PATHS.values():
            if prefix.endswith(ending):
                raise self._error(f"its base_url ends with {ending}, which is added to it; remove that", "base_url", "endpoint")
        return url._replace(path=prefix)

    def _key(self) -> str | None:
        given = self._upstream.access_key
        if given is None:
            return None
        try:
            key = fill_in_key(given, self._environment)
        except MissingVariableError as exc:
            raise self._missing(exc, "access_key") from None
        if not key or not _HEADER_VALUE.fullmatch(key):
            raise self._error("its access_key is empty, or has characters that no header can hold", "access_key")
        return key

    def _added(self) -> tuple[list[tuple[bytes, bytes]], list[str]]:
        """The headers that the configuration adds, and what of them is secret."""
        added: list[tuple[bytes, bytes]] = []
        secrets: list[str] = []
        for name, given in self._upstream.headers.items():
            lowered = name.lower()
            if lowered in _OURS:
                raise self._error(f"the header {shorten(name)} belongs to the connection; remove it", "headers")
            value = self._filled_in(given, "headers").strip()
            if not _HEADER_VALUE.fullmatch(value):
                raise self._error(f"the header {shorten(name)} has characters that no header can hold", "headers")
            secrets += self._values_in(given)
            if lowered.encode() in CREDENTIALS:
                secrets.append(value.split(" ")[-1])
            added.append((lowered.encode(), value.encode()))
        return added, secrets

    def _check_needs_no_key(self, place: Provider, url: SplitResult) -> None:
        """Refuse a model without a key whose provider is known to ask for one."""
        at_home = self._upstream.base_url is None or not place.host or url.hostname == urlsplit(place.host).hostname
        if place.needs_key and at_home:
            variable = f"{place.name.upper()}_API_KEY"
            raise self._error(
                f"{place.name} answers nothing without a key; add access_key: ${variable}, or passthrough_auth: true to send "
                "the client's own",
                "model",
            )

    def _filled_in(self, text: str, *at: str) -> str:
        try:
            return fill_in(text, self._environment)
        except MissingVariableError as exc:
            raise self._missing(exc, *at) from None

    def _values_in(self, text: str) -> list[str]:
        """The values of the variables in a text; they were there when it was filled in."""
        return [self._environment[each].strip() for each in variables_in(text)]

    def _missing(self, exc: MissingVariableError, *at: str) -> ConfigError:
        return UnsetVariableError(self._whose, exc.name, self._path, self._line(*at))

    def _error(self, message: str, *at: str) -> ConfigError:
        return ConfigError(f"{self._whose}: {message}", path=self._path, line=self._line(*at))

    @property
    def _whose(self) -> str:
        return f"{shorten(self._definition.model)} cannot be reached"

    def _line(self, *at: str) -> int | None:
        """The line of the first of some fields that the file has, or else of the entry itself."""
        lines = self._upstream.lines
        return next((lines[each] for each in (*at, "model") if each in lines), None)


def _as_quoted(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Secrets as an error may quote them, as they are or within JSON, the longest first."""
    plain = {each for each in secrets if len(each) >= _SHORTEST_SECRET}
    in_json = {json.dumps(each)[1:-1] for each in plain}
    # Some write "/" as "\/".
    found = {*plain, *in_json, *(each.replace("/", "\\/") for each in in_json)}
    return tuple(sorted((each.encode() for each in found), key=len, reverse=True))


def _credentials(spoken: Provider, operation: Operation, key: str) -> list[tuple[bytes, bytes]]:
    header = spoken.messages_key_header if operation == "messages" else spoken.key_header
    return [(header.encode(), (f"Bearer {key}" if header == "authorization" else key).encode())]
