"""Words and phrases of many languages to choose a vocabulary by: wordfreq's lists, and the translations of Django.

wordfreq (Speer 2022, data CC BY-SA 4.0) has the frequencies of words in 42 languages, Django (BSD) its messages in 100 locales.
Their wheels are fetched once and checked; the lists are read out of them, and nothing of the packages is imported.
"""

from __future__ import annotations

import gzip
import re
import struct
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import platformdirs

from training.wheels import check_files, download_wheel

_WORDFREQ: Final = "wordfreq==3.1.1"
_DJANGO: Final = "Django==5.2.19"
_SHA256: Final = {
    _WORDFREQ: "4b1c6ecffc6198be3396d5cf871c4423ca71c907c231348d352dd54d62b97473",
    _DJANGO: "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
}
_LIST: Final = re.compile(r"wordfreq/data/small_(\w+)\.msgpack\.gz")
_MESSAGES: Final = re.compile(r"django/.*locale/(\w+)/LC_MESSAGES/\w+\.mo")
# What programs put into a message, and its markup.
_NO_WORDS: Final = re.compile(r"%\(?\w*\)?[sd]|<[^>]*>")
_MO_MAGIC: Final = 0x950412DE


def word_lists(folder: Path | None = None) -> dict[str, dict[str, float]]:
    """The frequency of each word by language, from wordfreq's smaller lists.

    Raises WheelError if the wheel cannot be fetched or is not the published one.
    """
    with zipfile.ZipFile(_fetch(_WORDFREQ, folder)) as wheel:
        found = [(match[1], name) for name in wheel.namelist() if (match := _LIST.fullmatch(name))]
        return {code: frequencies(gzip.decompress(wheel.read(name))) for code, name in sorted(found)}


def translated_phrases(folder: Path | None = None) -> dict[str, list[str]]:
    """Django's messages by locale; raises WheelError as :func:`word_lists` does."""
    phrases: dict[str, list[str]] = defaultdict(list)
    with zipfile.ZipFile(_fetch(_DJANGO, folder)) as wheel:
        for name in sorted(wheel.namelist()):
            if match := _MESSAGES.fullmatch(name):
                phrases[match[1]] += [_NO_WORDS.sub("", text) for text in translations(wheel.read(name))]
    return dict(phrases)


def frequencies(packed: bytes) -> dict[str, float]:
    """The words of a list in wordfreq's format "cB", each with its frequency: list n has those of 10 ** (-n / 100).

    Raises ValueError for another format.
    """
    (header, *lists), _ = _unpack(packed, 0)
    if header != {"format": "cB", "version": 1}:
        raise ValueError(f"a word list has the header {header!r}; expected format 'cB', version 1")
    return {word: 10 ** (-number / 100) for number, words in enumerate(lists) for word in words}


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    """A value of MessagePack and where the next one begins; only the types that occur in the lists."""
    kind = data[at]
    at += 1
    if kind < 0x80:
        return kind, at
    if kind < 0x90:
        return _unpack_map(data, at, kind & 15)
    if kind < 0xA0:
        return _unpack_list(data, at, kind & 15)
    if kind < 0xC0:
        return data[at : at + (kind & 31)].decode(), at + (kind & 31)
    if kind == 0xD9:
        return data[at + 1 : at + 1 + data[at]].decode(), at + 1 + data[at]
    if kind in (0xDC, 0xDD):
        (count,) = struct.unpack_from(">H" if kind == 0xDC else ">I", data, at)
        return _unpack_list(data, at + (2 if kind == 0xDC else 4), count)
    raise ValueError(f"a word list has a value of MessagePack's type {kind:#x}, which is not read here")


def _unpack_list(data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    values = []
    for _ in range(count):
        value, at = _unpack(data, at)
        values.append(value)
    return values, at


def _unpack_map(data: bytes, at: int, count: int) -> tuple[dict[Any, Any], int]:
    values, at = _unpack_list(data, at, 2 * count)
    return dict(zip(values[::2], values[1::2], strict=True)), at


def translations(compiled: bytes) -> Iterator[str]:
    """The translated messages of a file of gettext, every plural form of them; not its header."""
    magic, _, count, originals, translated = struct.unpack_from("<5I", compiled, 0)
    if magic != _MO_MAGIC:
        raise ValueError("a file of messages is none of gettext's in little-endian order")
    for number in range(count):
        (length,) = struct.unpack_from("<I", compiled, originals + 8 * number)
        size, start = struct.unpack_from("<2I", compiled, translated + 8 * number)
        # The header is the translation of nothing.
        if length:
            yield from compiled[start : start + size].decode().split("\0")


def _fetch(package: str, folder: Path | None) -> Path:
    folder = folder or platformdirs.user_cache_path("archroute-edge") / "word-lists"
    name = f"{package.replace('==', '-').lower()}-py3-none-any.whl"
    if not (folder / name).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            download_wheel(package, Path(partial)).replace(folder / name)
    check_files(folder, {name: _SHA256[package]})
    return folder / name
