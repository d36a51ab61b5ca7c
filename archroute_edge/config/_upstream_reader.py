"""How a model is reached, from the fields of its provider entry."""

from __future__ import annotations

import re
from typing import Final

from archroute_edge.config._forward_schema import Upstream
from archroute_edge.config._node import Node, shorten

# RFC 9110, 5.6.2: the characters of a header's name.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def read_upstream(fields: dict[str, Node]) -> Upstream:
    """What a provider entry says about reaching its model.

    archgw 0.1 to 0.2 has ``endpoint``, ``port`` and ``protocol`` in place of ``base_url``, and ``provider`` in place of
    ``provider_interface``.

    Raises:
        ConfigError: a wrong type, or a header that cannot be sent.
    """
    interface = fields.get("provider_interface", fields.get("provider"))
    return Upstream(
        base_url=_base_url(fields),
        interface=interface.name() if interface is not None else None,
        access_key=fields["access_key"].secret() if "access_key" in fields else None,
        passthrough_auth="passthrough_auth" in fields and fields["passthrough_auth"].flag(),
        headers=_headers(fields["headers"]) if "headers" in fields else {},
        lines={key: node.line or 0 for key, node in fields.items()},
    )


def _base_url(fields: dict[str, Node]) -> str | None:
    prefix = fields["base_url_path_prefix"].text() if "base_url_path_prefix" in fields else ""
    if "base_url" in fields:
        return _joined(fields["base_url"].name(), prefix)
    if "endpoint" not in fields:
        return None
    address, protocol = fields["endpoint"].name(), fields["protocol"].text() if "protocol" in fields else None
    if "port" in fields:
        address = f"{address}:{fields['port'].number():.0f}"
    if "://" not in address:
        address = f"{protocol or ('https' if address.endswith(':443') else 'http')}://{address}"
    return _joined(address, prefix)


def _joined(address: str, prefix: str) -> str:
    ending = f"/{prefix.strip('/')}"
    # Files that Plano itself wrote have the path in both.
    is_there = ending == "/" or address.rstrip("/").endswith(ending)
    return address if is_there else address.rstrip("/") + ending


def _headers(section: Node) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in section.entries():
        text = value.called(f"the header {shorten(key.content)}").secret()
        if _HEADER_NAME.fullmatch(key.content) is None:
            raise key.error(f"{shorten(key.content)} is no name of a header")
        if not text.isprintable() or not text.isascii():
            raise value.error_inside(f"the header {shorten(key.content)} must be printable ASCII")
        found[key.content] = text
    return found
