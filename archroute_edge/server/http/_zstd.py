"""Bodies that are compressed with zstd, within bounds: a few bytes can stand for gigabytes."""

from __future__ import annotations

import sys
from typing import Final

from archroute_edge.server.http._api_errors import ApiError

# What a decoder has to keep in memory: 8 MiB. Encoders take more only for larger contents.
_WINDOW_LOG: Final = 23


def decompressed(raw: bytes, limit: int) -> bytes:
    """What ``raw``, one zstd frame, stands for.

    Raises:
        ApiError: 400; no whole frame, or one that needs too much memory. 413; it stands for more than ``limit`` bytes.
    """
    # Few requests need it.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
    try:
        body: bytes = decoder.decompress(raw, max_length=limit + 1)
    except zstd.ZstdError as exc:
        raise _not_whole("no zstd that this server can decompress") from exc
    if len(body) > limit:
        message = f"the body is decompressed larger than the {limit:,} bytes that this server takes; see --max-body"
        raise ApiError(413, message, code="body_too_large")
    if not decoder.eof:
        raise _not_whole("a zstd frame that is cut off")
    if decoder.unused_data:
        raise _not_whole("more than one zstd frame")
    return body


def _not_whole(what: str) -> ApiError:
    return ApiError(400, f"the body is {what}", code="invalid_encoding")
