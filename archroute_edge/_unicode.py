"""Unicode normalization whose time grows with a text's length only, whatever its marks."""

from __future__ import annotations

import re
import unicodedata
from itertools import chain, groupby
from typing import Final, Literal

# No letter or digit is a mark, or begins with one when it is decomposed.
_MANY_MARKS: Final = re.compile(r"[^\w\x00-\x7f]{64,}")


def normalized(form: Literal["NFC", "NFD"], text: str) -> str:
    """``text`` in a normal form, as :func:`unicodedata.normalize` gives it.

    That function sorts the marks on a letter in a time that grows with their number squared, and other threads wait for
    it. So long runs of marks are sorted before.
    """
    return unicodedata.normalize(form, _MANY_MARKS.sub(_in_order, text))


def _in_order(run: re.Match[str]) -> str:
    """The same marks, decomposed, in the canonical order."""
    decomposed = "".join(unicodedata.normalize("NFD", character) for character in run[0])
    letters = groupby(decomposed, key=lambda character: unicodedata.combining(character) == 0)
    return "".join(chain.from_iterable(sorted(characters, key=unicodedata.combining) for _, characters in letters))
