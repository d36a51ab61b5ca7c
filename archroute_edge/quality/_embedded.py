"""Predictors in the GGUF of the model that they read, as one more value of its metadata.

llama.cpp refuses tensors that it does not know, and ignores values. So a whole predictor's file stands as an array of bytes at
one key, its length before it. It is put before the other values, and filled up so that all that follows keeps its alignment.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Final

from archroute_edge.errors import ModelError, QualityError
from archroute_edge.system import replaced_when_whole

KEY: Final = "archroute.quality.predictor"
MAGIC: Final = b"GGUF"

_ARRAY: Final = 9
_BYTES: Final = 0
# A multiple of the usual one, which is that of pages.
_ALIGNMENT: Final = 4096
_COUNTS: Final = struct.Struct("<4sIQQ")
_LENGTH: Final = struct.Struct("<Q")


def read_embedded(path: Path, most: int) -> tuple[bytes, str]:
    """The bytes of the predictor that stands in a model's file, and the model's identity.

    Args:
        path: the model's file.
        most: bytes that a predictor may have.

    Raises:
        QualityError: the file is no model, or has no predictor in it.
    """
    from archroute_edge.engine import MetadataArray, check_model_file, model_fingerprint, read_array

    try:
        header = check_model_file(path)
        entry = header.metadata.get(KEY)
        if not isinstance(entry, MetadataArray) or entry.element_type != _BYTES:
            raise QualityError("a model that has no predictor of quality in it; name the predictor's own file")
        if entry.n_bytes > most + _ALIGNMENT:
            raise QualityError(f"the predictor of quality in it has more than {most:,} bytes, and is none")
        raw = read_array(header, KEY)
        identity = model_fingerprint(header)
    except ModelError as exc:
        raise QualityError(str(exc).removeprefix(f"{path}: ")) from exc
    length = _LENGTH.unpack_from(raw)[0] if len(raw) >= _LENGTH.size else 0
    if not 0 < length <= len(raw) - _LENGTH.size:
        raise QualityError("the predictor of quality in it is cut off; the file is damaged")
    return raw[_LENGTH.size : _LENGTH.size + length], identity


def write_embedded(predictor: bytes, model: Path, target: Path) -> None:
    """Copy a model's file with a predictor in it, instead of the one that is there. The new file appears whole or not at all.

    Args:
        predictor: the bytes of a predictor's file.
        model: GGUF of the model that it reads.
        target: the new file.

    Raises:
        ModelError: it is no usable model.
        QualityError: the predictor in it was not put there by this function, or the new file cannot be written.
    """
    from archroute_edge.engine import MetadataArray, check_model_file

    header, key = check_model_file(model), KEY.encode()
    there, start, n_more = header.metadata.get(KEY), _COUNTS.size, 1
    if there is not None:
        first = start + _LENGTH.size + len(key) + 8 + _LENGTH.size
        if not isinstance(there, MetadataArray) or there.offset != first:
            raise QualityError(f"{model}: has a predictor of quality in another place; name the model's own file")
        start, n_more = first + there.n_bytes, 0
    before = _LENGTH.pack(len(key)) + key + struct.pack("<II", _ARRAY, _BYTES)
    content = _LENGTH.pack(len(predictor)) + predictor
    alignment = math.lcm(_ALIGNMENT, header.integer("general.alignment") or 1)
    content += bytes(-(len(before) + _LENGTH.size + len(content)) % alignment)
    try:
        with model.open("rb") as source, replaced_when_whole(target) as partial, partial.open("wb") as copy:
            magic, version, n_tensors, n_values = _COUNTS.unpack(source.read(_COUNTS.size))
            copy.write(_COUNTS.pack(magic, version, n_tensors, n_values + n_more))
            copy.write(before + _LENGTH.pack(len(content)) + content)
            source.seek(start)
            while part := source.read(1 << 20):
                copy.write(part)
    except OSError as exc:
        raise QualityError(f"{target}: cannot be written ({exc.strerror or exc})") from exc
