"""What a prompt's text says about how hard it is, at the cost of a fraction of a millisecond: some numbers, and its words.

Nothing here depends on a model, a locale or a process: hashes are our own, and the same everywhere. All of it is computed
from bytes with NumPy, so that a long prompt takes little longer than a short one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

TEXT_FORMAT: Final = 1
"""Version of all that is computed here. A predictor was trained on one, and is refused by another."""

TEXT_FEATURES: Final[tuple[tuple[str, str], ...]] = (
    ("characters", "logarithm of the number of characters"),
    ("words", "logarithm of the number of words"),
    ("lines", "logarithm of the number of lines"),
    ("word_length", "mean length of a word in bytes"),
    ("distinct", "share of the words that are distinct"),
    ("capitals", "share of the letters A to Z among letters"),
    ("digits", "share of digits among bytes"),
    ("numbers", "logarithm of the number of whole numbers"),
    ("long_numbers", "share of the numbers that have three digits or more"),
    ("punctuation", "share of . , ; : ! among bytes"),
    ("operators", "share of + * / = < > ^ | % among bytes"),
    ("brackets", "share of brackets among bytes"),
    ("latex", "logarithm of the number of backslashes and dollar signs"),
    ("code", "logarithm of the number of marks of program code"),
    ("indented", "share of the lines that are indented"),
    ("choices", "number of choices, lines such as 'B. text'"),
    ("choice_length", "logarithm of the mean length of a choice"),
    ("choices_of_numbers", "share of the choices that have digits"),
    ("questions", "logarithm of the number of question marks"),
    ("blanks", "whether there are blanks to fill in, as ___"),
    ("asks_what", "question words for facts: what, which, who, where, when"),
    ("asks_how", "question words for reasons: how, why, explain"),
    ("asks_to_solve", "words such as compute, solve, prove, find"),
    ("asks_to_write", "words such as write, implement, translate, summarize"),
    ("negations", "words such as not, except, false, incorrect"),
    ("conditions", "words such as if, each, every, than, then, must"),
    ("accents", "share of letters of Latin script with accents"),
    ("other_scripts", "share of letters of any other script"),
)
"""Names of the numbers and what they are, in order."""

N_FEATURES: Final = len(TEXT_FEATURES)

LONGEST_TEXT: Final = 16_384
"""Characters that are read: one half from the beginning and one from the end of a longer text."""

_CODE_MARKS: Final = (
    "```",
    "def ",
    "return",
    "import ",
    "#include",
    "();",
    "){",
    "==",
    "!=",
    "->",
    "</",
    "self.",
    "print(",
)
_CHOICE: Final = re.compile(r"^[ \t]*\(?[A-J][.):][ \t]+(\S.{0,200})", re.MULTILINE)
_INDENTED: Final = re.compile(r"^(?:\t|  +)\S", re.MULTILINE)
_DIGIT: Final = re.compile(r"[0-9]")
_MOST_CHOICES: Final = 10

# Constants of SplitMix64, and a prime of FNV's.
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_BASE: Final = 0x100000001B3


@dataclass(frozen=True)
class ReadText:
    """What is read of one text.

    Attributes:
        numbers: one for each of :data:`TEXT_FEATURES`, finite.
        words: which cells of a table its words and pairs of words fall into, in order.
        weights: how much of each there is; their squares sum to 1, if there are words.
    """

    numbers: npt.NDArray[np.float64]
    words: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float32]


def read_text(text: str, n_bits: int) -> ReadText:
    """Read one text.

    Args:
        text: any text, the empty one included.
        n_bits: the table of words has two to the power of this cells.
    """
    part = text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT // 2]}\n{text[-LONGEST_TEXT // 2 :]}"
    folded = part.lower().encode("utf-8", "replace")
    hashes, n_bytes = _word_hashes(folded)
    pairs = _mixed(hashes[:-1] * _STEP + hashes[1:]) if len(hashes) > 1 else hashes[:0]
    cells = (np.concatenate([_mixed(hashes), pairs]) >> np.uint64(64 - n_bits)).astype(np.intp)
    counts = np.bincount(cells, minlength=1)
    words = np.flatnonzero(counts)
    weights = np.log1p(counts[words])
    weights /= math.sqrt(float(np.square(weights).sum())) or 1.0
    numbers = _numbers(text, part, folded, hashes, n_bytes)
    return ReadText(numbers, words, weights.astype(np.float32))


def _numbers(text: str, part: str, folded: bytes, hashes: npt.NDArray[np.uint64], n_word_bytes: int) -> npt.NDArray[np.float64]:
    raw = np.frombuffer(part.encode("utf-8", "replace"), np.uint8)
    of_byte = np.bincount(raw, minlength=256)
    n_bytes = max(len(raw), 1)
    capitals, smalls = int(of_byte[65:91].sum()), int(of_byte[97:123].sum())
    # Every character beyond ASCII begins with a byte from 0xC2 on.
    accented, others = int(of_byte[0xC2:0xC6].sum()), int(of_byte[0xC6:0xF5].sum())
    n_letters = max(capitals + smalls + accented + others, 1)
    is_digit = (raw >= 48) & (raw <= 57)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_digit, [False]])))
    lengths = edges[1::2] - edges[::2]
    n_words, n_lines = len(hashes), part.count("\n") + 1
    choices = [match.group(1) for match in _CHOICE.finditer(part)][:_MOST_CHOICES]
    choices = choices if len(choices) > 1 else []
    found = {
        "characters": math.log1p(len(text)),
        "words": math.log1p(n_words),
        "lines": math.log(n_lines),
        "word_length": min(n_word_bytes / max(n_words, 1), 20.0),
        "distinct": len(np.unique(hashes)) / max(n_words, 1),
        "capitals": capitals / n_letters,
        "digits": int(is_digit.sum()) / n_bytes,
        "numbers": math.log1p(len(lengths)),
        "long_numbers": float((lengths >= 3).mean()) if len(lengths) else 0.0,
        "punctuation": _share(of_byte, b".,;:!", n_bytes),
        "operators": _share(of_byte, b"+*/=<>^|%", n_bytes),
        "brackets": _share(of_byte, b"()[]{}", n_bytes),
        "latex": math.log1p(int(of_byte[92] + of_byte[36])),
        "code": math.log1p(sum(part.count(mark) for mark in _CODE_MARKS)),
        "indented": sum(1 for _ in _INDENTED.finditer(part)) / n_lines,
        "choices": float(len(choices)),
        "choice_length": math.log1p(sum(map(len, choices)) / len(choices)) if choices else 0.0,
        "choices_of_numbers": sum(1 for each in choices if _DIGIT.search(each)) / len(choices) if choices else 0.0,
        "questions": math.log1p(int(of_byte[63])),
        "blanks": float(b"___" in folded),
        **_known_counts(hashes),
        "accents": accented / n_letters,
        "other_scripts": others / n_letters,
    }
    return np.array([found[name] for name, _ in TEXT_FEATURES])


def _share(of_byte: npt.NDArray[np.intp], which: bytes, n_bytes: int) -> float:
    return int(of_byte[list(which)].sum()) / n_bytes


_KNOWN_WORDS: Final = {
    "asks_what": "what which who whom whose where when",
    "asks_how": "how why explain because reason",
    "asks_to_solve": "compute calculate solve prove find determine evaluate derive simplify estimate",
    "asks_to_write": "write implement create generate translate summarize rewrite compose draft design list describe",
    "negations": "not no never except false incorrect without least cannot neither nor",
    "conditions": "if each every than then must only exactly both either all more less per",
}


@cache
def _known_words() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.intp]]:
    """The hashes of the words that count for a feature, in order, and the place of its feature for each."""
    hashes = [_word_hashes(words.encode())[0] for words in _KNOWN_WORDS.values()]
    joined = np.concatenate(hashes)
    places = np.repeat(np.arange(len(hashes)), [len(each) for each in hashes])
    order = np.argsort(joined)
    return joined[order], places[order]


def _known_counts(hashes: npt.NDArray[np.uint64]) -> dict[str, float]:
    known, places = _known_words()
    nearest = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    counts = np.bincount(places[nearest[known[nearest] == hashes]], minlength=len(_KNOWN_WORDS))
    return dict(zip(_KNOWN_WORDS, np.log1p(counts).tolist(), strict=True))


def _kinds() -> bytes:
    """Of each byte, whether it is in a word (1), begins a character that is a word of its own (2), or neither (0)."""
    kinds = bytearray(256)
    for byte in (*range(48, 58), *range(97, 123), *range(0x80, 0x100)):
        kinds[byte] = 1
    # Chinese, Japanese and Korean: three bytes a character, no spaces between words.
    for byte in range(0xE3, 0xEE):
        kinds[byte] = 2
    return bytes(kinds)


_KINDS: Final = _kinds()
# Numbers are known by how long they are.
_DIGITS_ALIKE: Final = bytes(48 if 48 <= byte < 58 else byte for byte in range(256))


@cache
def _powers() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The powers of the base, and of its inverse, modulo two to the 64, for every place that a text may have."""
    n_places = 4 * (LONGEST_TEXT + 2)
    inverse = pow(_BASE, -1, 1 << 64)
    made = [np.full(n_places, base, np.uint64) for base in (_BASE, inverse)]
    for powers in made:
        powers[0] = 1
    up, down = (np.multiply.accumulate(powers) for powers in made)
    return up, down


def _word_hashes(folded: bytes) -> tuple[npt.NDArray[np.uint64], int]:
    """A hash of each word in lower-case UTF-8, and the number of bytes in words.

    A hash is the polynomial of the word's bytes, had for all words at once from sums over the text's beginning.
    """
    kinds = np.frombuffer(folded.translate(_KINDS), np.uint8)
    if not kinds.any():
        return np.empty(0, np.uint64), 0
    is_word, alone = kinds > 0, kinds == 2
    starts = is_word.copy()
    starts[1:] &= ~is_word[:-1]
    starts |= alone
    starts[3:] |= alone[:-3] & is_word[3:]
    ends = np.zeros(len(kinds) + 1, bool)
    ends[1:] = is_word
    ends[1:-1] &= ~is_word[1:] | starts[1:]
    up, down = _powers()
    values = np.frombuffer(folded.translate(_DIGITS_ALIKE), np.uint8).astype(np.uint64)
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * up[: len(values)], out=sums[1:])
    first, last = np.flatnonzero(starts), np.flatnonzero(ends)
    return (sums[last] - sums[first]) * down[first], int(is_word.sum())


def _mixed(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Hashes whose every bit depends on all bits of those given (the end of SplitMix64)."""
    found = hashes + _STEP
    found = (found ^ (found >> np.uint64(30))) * _MIX_1
    found = (found ^ (found >> np.uint64(27))) * _MIX_2
    return np.asarray(found ^ (found >> np.uint64(31)), np.uint64)
