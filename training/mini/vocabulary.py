"""The pieces of XLM-R's vocabulary that the encoder keeps, and its tokenizer in Hugging Face's format.

96 of the base's 118 million parameters are vectors of 250,002 pieces, most of them for words that are rare in the languages
served. ``python -m training.mini vocabulary`` chooses the pieces that matter most (:mod:`training.mini.choose_vocabulary`) and
writes them to ``vocabulary.bin``: a zlib stream of one bit a piece, so that a training needs no word lists.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FILE: Final = Path(__file__).parent / "vocabulary.bin"
SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")
MASK: Final = "<mask>"


def kept_pieces(file: Path = FILE) -> npt.NDArray[np.int64]:
    """The numbers of the kept pieces in XLM-R's vocabulary, in order."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(zlib.decompress(file.read_bytes()), np.uint8))).astype(np.int64)


def write_kept_pieces(numbers: npt.NDArray[np.int64], n_pieces: int, file: Path = FILE) -> None:
    """Write the choice."""
    marks = np.zeros(n_pieces, np.uint8)
    marks[numbers] = 1
    file.write_bytes(zlib.compress(np.packbits(marks).tobytes(), 9))


def normalization() -> bytes:
    """The table of sentencepiece's rule ``nmt_nfkc``, in the form that its models carry it."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    trained = io.BytesIO()
    # A model has the table of its rule whatever it was trained on.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"a few words to train on {number}" for number in range(200)]),
        model_writer=trained,
        vocab_size=40,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(trained.getvalue())
    table: bytes = model.normalizer_spec.precompiled_charsmap
    return table


def tokenizer_json(pieces: Sequence[str], scores: Sequence[float]) -> dict[str, Any]:
    """``tokenizer.json`` as transformers writes XLM-R's: normalize, cut at white space, mark beginnings of words, unigram."""
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    specials = [(number, pieces[number]) for number in range(len(SPECIAL))]
    if pieces[-1] == MASK:
        specials.append((len(pieces) - 1, MASK))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ends = {name: {"id": name, "ids": [pieces.index(name)], "tokens": [name]} for name in ("<s>", "</s>")}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **flags} for number, text in specials],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(normalization()).decode()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "special_tokens": ends,
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": SPECIAL.index("<unk>"),
            "vocab": [[piece, score] for piece, score in zip(pieces, scores, strict=True)],
            "byte_fallback": False,
        },
    }


def write_tokenizer(pieces: Sequence[str], scores: Sequence[float], folder: Path) -> None:
    """Write the tokenizer's files of a checkpoint."""
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(pieces, scores), ensure_ascii=False), encoding="utf-8")
    named = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>"}
    named |= {"pad_token": "<pad>", "mask_token": MASK}
    (folder / "special_tokens_map.json").write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
    config = {**named, "tokenizer_class": "XLMRobertaTokenizerFast", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
