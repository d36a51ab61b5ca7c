"""The tokenizer's files in one shape: tokenizer.json, or vocab.json with merges.txt for byte-level BPE."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tokenizers

from archroute_edge.errors import CheckpointError
from tools.convert.json_files import Settings, as_number, read_object, read_settings, read_text
from tools.convert.pre_tokenizers import QWEN2_PATTERN

_CLASSES_WITHOUT_JSON: Final = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
"""Whose pre-tokenizer and normaliser are in the class, so that vocabulary and merges are enough."""

_WORKS_AS: Final[dict[str, dict[str, object]]] = {
    "BPE": dict.fromkeys(
        ("ignore_merges", "byte_fallback", "fuse_unk", "continuing_subword_prefix", "end_of_word_suffix"), None
    ),
    "WordPiece": {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
    "Unigram": {"byte_fallback": None},
}
"""What must be true of ``model`` in tokenizer.json, by its type; None stands for absent, false and empty."""


@dataclass(frozen=True)
class Definition:
    """A tokenizer in the shape of tokenizer.json: ``content`` is the whole object, the rest the parts used here.

    ``kind`` is ``BPE``, ``WordPiece`` or ``Unigram``. Only the first has merges, only the last has scores, by id.
    """

    path: Path
    kind: str
    content: dict[str, Any]
    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    scores: list[float]

    @property
    def listed_ids(self) -> list[int]:
        """Of the added tokens that tokenizer.json itself lists."""
        listed = self.content.get("added_tokens") if self.path.name == "tokenizer.json" else None
        return [token["id"] for token in listed or []]

    @property
    def post_processors(self) -> list[dict[str, Any]]:
        """The steps that run over the ids of a text, each with its ``type``."""
        whole = self.content.get("post_processor") or {}
        steps = whole.get("processors") if whole.get("type") == "Sequence" else [whole]
        return [step for step in steps or [] if step]


def read_definition(folder: Path, settings: Settings) -> Definition:
    """Read the tokenizer's files. ``settings`` is tokenizer_config.json.

    Raises:
        CheckpointError: they are missing, malformed, or none of byte-level BPE, WordPiece and Unigram.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        content = read_object(path)
    else:
        path = folder / "vocab.json"
        content = _from_vocabulary_and_merges(folder, settings)
    model = content.get("model")
    kind = model.get("type", "BPE") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind not in _WORKS_AS:
        raise CheckpointError(f"{path}: its tokenizer is none of {', '.join(_WORKS_AS)}, and no other can be converted")
    for key, value in _WORKS_AS[kind].items():
        if (model.get(key) or None) != value:
            raise CheckpointError(f"{path}: model.{key} is {model.get(key)!r}, which no GGUF of this kind can say")
    vocabulary: Any = model.get("vocab")
    scores: list[float] = []
    if kind == "Unigram":
        vocabulary, scores = _with_scores(vocabulary, path)
    if not isinstance(vocabulary, dict) or not all(type(token_id) is int and token_id >= 0 for token_id in vocabulary.values()):
        raise CheckpointError(f"{path}: model.vocab is not a map from tokens to ids; the file is damaged")
    merges = _merges(model.get("merges"), path) if kind == "BPE" else []
    return Definition(path, kind, content, vocabulary, merges, scores)


def load(definition: Definition) -> tokenizers.Tokenizer:
    """The tokenizer itself, to observe its behaviour.

    Raises:
        CheckpointError: the ``tokenizers`` package refuses it.
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(definition.content))
    except Exception as exc:  # noqa: BLE001 - the package raises nothing narrower
        raise CheckpointError(f"{definition.path}: not a usable tokenizer ({exc})") from None
    # Sentence encoders keep their training's here.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _with_scores(entries: Any, path: Path) -> tuple[dict[str, int], list[float]]:
    vocabulary: dict[str, int] = {}
    scores: list[float] = []
    for entry in entries if isinstance(entries, list) else [None]:
        piece, score = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        number = as_number(score)
        if not isinstance(piece, str) or number is None:
            raise CheckpointError(f"{path}: model.vocab holds {repr(entry)[:200]}, which is no piece with its score")
        if vocabulary.setdefault(piece, len(scores)) != len(scores):
            raise CheckpointError(f"{path}: model.vocab holds {piece!r} twice; the file is damaged")
        scores.append(number)
    return vocabulary, scores


def _merges(merges: Any, path: Path) -> list[tuple[str, str]]:
    pairs = []
    for entry in merges if isinstance(merges, list) else [None]:
        # Older files hold "a b", newer ones ["a", "b"].
        parts = entry.split(" ") if isinstance(entry, str) else entry
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise CheckpointError(f"{path}: model.merges holds {entry!r}, which is no pair of tokens")
        pairs.append((parts[0], parts[1]))
    return pairs


def _from_vocabulary_and_merges(folder: Path, settings: Settings) -> dict[str, Any]:
    if not (folder / "vocab.json").is_file() or not (folder / "merges.txt").is_file():
        raise CheckpointError(f"{folder}: has no tokenizer.json, nor vocab.json with merges.txt; the tokenizer is needed")
    if settings.get("tokenizer_class") not in _CLASSES_WITHOUT_JSON:
        raise CheckpointError(
            f"{folder}: vocab.json and merges.txt are enough only for {' or '.join(_CLASSES_WITHOUT_JSON)}, "
            f"tokenizer_config.json names {settings.get('tokenizer_class')!r}; save the tokenizer with tokenizer.json"
        )
    lines = read_text(folder / "merges.txt").split("\n")
    # The first line may be a comment such as "#version: 0.2"; a later "#" is a token.
    merges = [line for line in lines[1 if lines[0].startswith("#version") else 0 :] if line.strip()]
    added = [
        {"id": token_id, "content": text, "special": False, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for text, token_id in read_settings(folder / "added_tokens.json", required=False).values.items()
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "model": {"type": "BPE", "vocab": read_object(folder / "vocab.json"), "merges": merges},
    }
