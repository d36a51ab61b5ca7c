"""Which pieces of XLM-R's vocabulary the encoder keeps, and how well they cover each language.

A piece counts as much as its share of the tokens in the source that uses it most, times the importance of that source: word
lists and translations of many languages, the public data, our own texts, and the code of this project. All single characters
and symbols stay, so that a word can always be spelled.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.mini.languages import FOLDER as LANGUAGES
from training.mini.vocabulary import MASK, SPECIAL, tokenizer_json
from training.mini.word_lists import translated_phrases, word_lists
from training.yaml_files import read_yaml

PIECES: Final = 90_000
_PROJECT: Final = Path(__file__).parents[2]
_CODE_FOLDERS: Final = ("archroute_edge", "docs", "examples", "tests", "tools", "training")
_CODE_ENDINGS: Final = frozenset({".py", ".md", ".html", ".js", ".css", ".json", ".sh", ".toml"})
_IN_ENGLISH: Final = ("training/mini/domains", "training/mini/tables", "training/tiny/kinds")
# Languages with few speakers among those of the word lists, and how much they count beside the others.
_FEW_SPEAKERS: Final = frozenset({"bg", "br", "ca", "is", "lt", "lv", "mk", "sk", "sl"})
_OF_FEW: Final = 0.4
# Locales of Django's in whose language or script there is no word list, or a poor one.
_WITHOUT_WORD_LIST: Final = frozenset(
    {
        "af", "am", "az", "be", "bn", "bs", "cy", "et", "eu", "fil", "ga", "gl", "gu", "hy", "id", "ig", "is", "ka", "kk",
        "km", "kn", "ky", "ml", "mn", "mr", "my", "ne", "pa", "sq", "sr", "sr_Latn", "sw", "ta", "te", "tg", "th", "ur", "uz",
        "vi", "zh_Hant",
    }
)  # fmt: skip
_PHRASES, _OTHER_PHRASES, _OWN_TEXTS = 0.1, 0.02, 0.3
# How words of the lists, which are in lower case, are also written: as the first one of a sentence, and in capitals.
_FIRST_WORD, _CAPITALS, _N_CAPITALS = 0.25, 0.01, 4000
_WITHOUT_CASE: Final = frozenset({"ar", "bn", "fa", "he", "hi", "ja", "ko", "ta", "ur", "zh"})
# Words of these are written without spaces; most do not begin a text, and then have no mark of a beginning.
_WITHOUT_SPACES: Final = ("ja", "zh")
_INSIDE: Final = 3.0
_AT_ONCE: Final = 5000


@dataclass(frozen=True)
class Source:
    """Texts with their weights beside one another, and the importance of the whole."""

    name: str
    importance: float
    texts: Sequence[str]
    weights: Sequence[float]


def text_sources(data: Path) -> Iterator[Source]:
    """All sources; raises FileNotFoundError for a data set that is missing, WheelError for a list that cannot be fetched."""
    for code, words in word_lists().items():
        yield _of_words(code, words)
    for locale, phrases in translated_phrases().items():
        yield _plain(f"Django {locale}", _PHRASES if locale in _WITHOUT_WORD_LIST else _OTHER_PHRASES, phrases)
    by_code: dict[str, list[str]] = {}
    for row in _lines(data / "intents/sib200_parallel.jsonl.gz"):
        for code, text in row["texts"].items():
            by_code.setdefault(f"SIB-200 {code}", []).append(text)
    for row in _lines(data / "intents/xsid_valid.jsonl.gz"):
        by_code.setdefault(f"xSID {row['lang']}", []).append(row["text"])
    for path in sorted(LANGUAGES.glob("*.yaml")):
        by_code[f"ours {path.stem}"] = list(_texts_of(read_yaml(path)))
    for name, texts in by_code.items():
        yield _plain(name, _OWN_TEXTS, texts)
    for name in ("clinc150_train_val", "banking77_train", "intents/metatool", "intents/hwu64", "intents/snips"):
        yield _plain(name, 1.0, [row["text"] for row in _lines(data / f"{name}.jsonl.gz")])
    english = [path for folder in _IN_ENGLISH for path in sorted((_PROJECT / folder).glob("*.yaml"))]
    yield _plain("ours en", 1.0, [text for path in english for text in _texts_of(read_yaml(path))])
    yield _plain("code", 1.0, list(_code()))


def _of_words(code: str, words: Mapping[str, float]) -> Source:
    written = list(words.items())
    if code not in _WITHOUT_CASE:
        written += [(word[:1].upper() + word[1:], _FIRST_WORD * frequency) for word, frequency in words.items()]
        written += [(word.upper(), _CAPITALS * frequency) for word, frequency in list(words.items())[:_N_CAPITALS]]
    if code in _WITHOUT_SPACES:
        written += [("\u3002" + word, _INSIDE * frequency) for word, frequency in words.items()]
    importance = _OF_FEW if code in _FEW_SPEAKERS else 1.0
    return Source(code, importance, [text for text, _ in written], [weight for _, weight in written])


def _plain(name: str, importance: float, texts: Sequence[str]) -> Source:
    return Source(name, importance, texts, [1.0] * len(texts))


def _texts_of(content: Any) -> Iterator[str]:
    """Every text of a file of ours, without its keys."""
    if isinstance(content, dict | list):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _texts_of(part)
    elif content is not None:
        yield str(content)


def _code() -> Iterator[str]:
    for folder in _CODE_FOLDERS:
        for path in sorted((_PROJECT / folder).rglob("*")):
            if path.suffix in _CODE_ENDINGS:
                yield from path.read_text(encoding="utf-8").splitlines()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def build_tokenizer(pieces: Sequence[str], scores: Sequence[float]) -> Tokenizer:
    """The tokenizer of these pieces, as a checkpoint has it."""
    return Tokenizer.from_str(json.dumps(tokenizer_json(pieces, scores)))


def choose(pieces: Sequence[str], scores: Sequence[float], sources: Iterator[Source], count: int) -> npt.NDArray[np.int64]:
    """The numbers of the `count` pieces to keep, in order: those that always stay, then those that matter most."""
    tokenizer = build_tokenizer(pieces, scores)
    matters = np.zeros(len(pieces))
    for source in sources:
        used = _use(tokenizer, len(pieces), source)
        if used.any():
            matters = np.maximum(matters, source.importance * used / used.sum())
    always = np.array([_always(number, piece) for number, piece in enumerate(pieces)])
    order = np.argsort(-matters, kind="stable")
    rest = order[~always[order] & (matters[order] > 0)]
    return np.sort(np.concatenate([np.flatnonzero(always), rest[: max(0, count - int(always.sum()))]])).astype(np.int64)


def _use(tokenizer: Tokenizer, n_pieces: int, source: Source) -> npt.NDArray[np.float64]:
    used = np.zeros(n_pieces)
    for first in range(0, len(source.texts), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        encoded = [one.ids for one in tokenizer.encode_batch_fast(source.texts[part], add_special_tokens=False)]
        weights = np.repeat(np.asarray(source.weights[part]), [len(ids) for ids in encoded])
        used += np.bincount(np.array([n for ids in encoded for n in ids], np.int64), weights, n_pieces)
    return used


def _always(number: int, piece: str) -> bool:
    bare = piece.lstrip("\u2581")
    symbols = {"So", "Sk", "Mn", "Cf"}
    return number < len(SPECIAL) or piece == MASK or len(bare) <= 1 or all(unicodedata.category(c) in symbols for c in bare)


@dataclass(frozen=True)
class Coverage:
    """Tokens a word with all pieces and with those kept, and the share of words with a character that is unknown then."""

    language: str
    uncut: float
    cut: float
    unknown: float


def coverage(pieces: Sequence[str], scores: Sequence[float], kept: npt.NDArray[np.int64]) -> list[Coverage]:
    """For each language of the word lists by the frequency of its words, then for the rest of Django's locales."""
    words: dict[str, Mapping[str, float]] = dict(word_lists())
    for locale, phrases in translated_phrases().items():
        if locale.split("_")[0] not in words:
            words[locale] = Counter(word for phrase in phrases for word in phrase.split())
    full = build_tokenizer(pieces, scores)
    cut = build_tokenizer([pieces[n] for n in kept], [scores[n] for n in kept])
    return [cover(full, cut, language, of_language) for language, of_language in words.items()]


def cover(full: Tokenizer, cut: Tokenizer, language: str, words: Mapping[str, float]) -> Coverage:
    """The figures of one language."""
    weights = np.array(list(words.values())) / sum(words.values())
    tokens = [[one.ids for one in which.encode_batch_fast(list(words), add_special_tokens=False)] for which in (full, cut)]
    uncut, kept = (float(weights @ np.array([len(ids) for ids in of_words])) for of_words in tokens)
    unknown = SPECIAL.index("<unk>")
    return Coverage(language, uncut, kept, float(weights @ np.array([unknown in ids for ids in tokens[1]])))


def show(rows: Sequence[Coverage]) -> str:
    """The figures as a table, a language a line."""
    lines = [f"{'language':10}{'tokens a word':>16}{'cut':>8}{'words with <unk>':>19}"]
    lines += [f"{row.language:10}{row.uncut:>16.3f}{row.cut:>8.3f}{row.unknown:>19.3%}" for row in rows]
    return "\n".join(lines)
