"""How a unigram vocabulary normalises text: SentencePiece's table of replacements, applied as Hugging Face's tokenizers do.

Format (SentencePiece, ``src/builder.cc``): the size of a trie in bytes, the trie, and the replacements, each ended by a zero
byte. The trie is a double array of 32-bit units (https://github.com/s-yata/darts-clone): a node's children stand at its offset
XOR their byte, its value at the offset itself.
"""

from __future__ import annotations

import re
import struct
import sys
import unicodedata
from array import array
from collections.abc import Iterator
from typing import Final

_HAS_VALUE: Final = 1 << 8
_LABEL: Final = 1 << 31 | 0xFF
_VALUE: Final = (1 << 31) - 1
_MOST_KNOWN: Final = 1 << 14

_SHORT: Final = 6
"""Bytes from which a letter and its marks are no longer looked up together."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PRINTABLE: Final = [chr(code) for code in range(0x20, 0x7F)]
# The classes of Unicode Standard Annex 29 that its categories do not tell.
_MORE_MARKS: Final = frozenset("\u0e33\u0eb3\u200c\u200d\uff9e\uff9f")
_PICTURE_MARKS: Final = ((0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F))
_NO_MARKS: Final = frozenset(
    "\u102b\u102c\u1038\u1062\u1063\u1064\u1067\u1068\u1069\u106a\u106b\u106c\u106d\u1083\u1087\u1088\u1089\u108a\u108b\u108c"
    "\u108f\u109a\u109b\u109c\u1a61\u1a63\u1a64\uaa7b\uaa7d"
)
_BEFORE_A_LETTER: Final = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e")


class CharsMap:
    """A table of replacements. Safe to use from several threads.

    Args:
        raw: the table; :func:`is_charsmap` is true of it.
    """

    def __init__(self, raw: bytes) -> None:
        (n_bytes,) = struct.unpack_from("<I", raw)
        self._trie = array("I", raw[4 : 4 + n_bytes])
        if sys.byteorder == "big":
            self._trie.byteswap()
        self._replacements = raw[4 + n_bytes :]
        self._characters = _Characters(self)
        self._marks = _Marks()
        self._keeps_printable = all(self.replacement(character) is None for character in _PRINTABLE)

    def normalise(self, text: str) -> str:
        """``text`` with everything replaced; half a surrogate pair counts as U+FFFD."""
        if text.isascii():
            return text if self._keeps_printable and text.isprintable() else text.translate(self._characters)
        text = _SURROGATE.sub("\ufffd", text)
        marks = self._marks
        places = [place for place, character in enumerate(text) if marks[character]]
        if not places:
            return text.translate(self._characters)
        return "".join(self._with_marks(text, places))

    def _with_marks(self, text: str, places: list[int]) -> Iterator[str]:
        """``text`` in pieces, a letter with the marks at ``places`` replaced as one where there are few bytes of it."""
        done = 0
        for number, place in enumerate(places):
            if number and places[number - 1] == place - 1:
                continue
            begin, end = _begin_of_letter(text, place), place + 1
            while end < len(text) and self._marks[text[end]]:
                end += 1
            if end - begin < _SHORT and len(text[begin:end].encode()) < _SHORT:
                found = self.replacement(text[begin:end])
                if found is not None:
                    yield text[done:begin].translate(self._characters)
                    yield found
                    done = end
        yield text[done:].translate(self._characters)

    def replacement(self, text: str) -> str | None:
        """What the shortest beginning of ``text`` in the table is replaced by; the rest of ``text`` goes with it."""
        trie, place = self._trie, 0
        for byte in b"".join((b"\0", text.encode())):
            place ^= byte
            if place >= len(trie):
                return None
            unit = trie[place]
            if unit & _LABEL != byte:
                return None
            place ^= (unit >> 10) << ((unit & 1 << 9) >> 6)
            if unit & _HAS_VALUE and byte:
                start = trie[place] & _VALUE if place < len(trie) else len(self._replacements)
                end = self._replacements.find(b"\0", start)
                return self._replacements[start:end].decode("utf-8", "replace") if end >= 0 else None
        return None


class _Characters(dict[int, str]):
    """What each character is replaced by, for ``str.translate``; looked up when it is first met."""

    def __init__(self, charsmap: CharsMap) -> None:
        self._charsmap = charsmap

    def __missing__(self, code: int) -> str:
        if len(self) >= _MOST_KNOWN:
            self.clear()
        character = chr(code)
        found = self._charsmap.replacement(character)
        self[code] = character if found is None else found
        return self[code]


class _Marks(dict[str, bool]):
    """Whether a character belongs to the one before it, as an accent does."""

    def __missing__(self, character: str) -> bool:
        if len(self) >= _MOST_KNOWN:
            self.clear()
        code = ord(character)
        is_mark = (unicodedata.category(character)[0] == "M" and character not in _NO_MARKS) or (
            character in _MORE_MARKS or any(first <= code <= last for first, last in _PICTURE_MARKS)
        )
        self[character] = is_mark
        return is_mark


def _begin_of_letter(text: str, mark: int) -> int:
    """Where the letter begins that the mark belongs to: at the mark itself if it follows no letter."""
    before = text[mark - 1 : mark]
    if not before or (unicodedata.category(before) in ("Cc", "Cf", "Zl", "Zp") and before not in _BEFORE_A_LETTER):
        return mark
    begin = mark - 1
    while begin and text[begin - 1] in _BEFORE_A_LETTER:
        begin -= 1
    return begin


def is_charsmap(raw: bytes) -> bool:
    """Whether ``raw`` has the parts of a table of replacements, in sizes that go together."""
    if len(raw) < 5:
        return False
    (n_bytes,) = struct.unpack_from("<I", raw)
    return 0 < n_bytes <= len(raw) - 5 and n_bytes % 4 == 0 and raw.endswith(b"\0")
