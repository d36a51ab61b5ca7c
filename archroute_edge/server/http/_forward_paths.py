"""Where requests come in that are forwarded, and whose API they speak there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from archroute_edge.record import Operation

FORWARD_PATHS: Final[dict[str, Operation]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
