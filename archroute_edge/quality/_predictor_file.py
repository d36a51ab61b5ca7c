"""Predictors in files: safetensors, written whole and read strictly.

Eight bytes say how long the header is, a JSON object of the tensors' types, shapes and places and of texts about the whole;
the tensors follow. A file may come from anywhere. So its size is bounded before it is read, every number of the header is
checked against the others, the tensors must fill the file, and every value must be finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from archroute_edge.config import parse_json, shorten
from archroute_edge.conversation import replace_surrogates
from archroute_edge.errors import ConversationError, QualityError
from archroute_edge.quality._embedded import MAGIC, read_embedded, write_embedded
from archroute_edge.quality._novelty import Novelty
from archroute_edge.quality._predictor import Predictor
from archroute_edge.system import ENOUGH_BYTES, other_kind, replaced_when_whole

MOST_BYTES: Final = 64 << 20
"""Largest file of a predictor."""

MOST_MODELS: Final = 1000

_FORMAT: Final = "archroute_edge.quality"
_VERSION: Final = "1"
# Its tensors' names begin with this and a dot.
_NOVELTY: Final = "novelty"
_MOST_HEADER_BYTES: Final = 4 << 20
_LONGEST_NAME: Final = 200
_MOST_DIMENSIONS: Final = 3
_DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_NAMES: Final = {np.dtype(code): name for name, code in _DTYPES.items()}
_TEXTS: Final = ("format", "version", "policy", "models", "encoder", "settings", "trained_on", "licence")
_AGAIN: Final = "train it again with archroute quality train"

Tensors = dict[str, npt.NDArray[Any]]


def check_models(models: Sequence[str]) -> None:
    """Make sure, before a long training, that a file can hold a predictor of models of these names.

    Raises:
        QualityError: they are too many, two have the same name, or a name is blank or too long.
    """
    if len(models) > MOST_MODELS:
        raise QualityError(f"{len(models):,} models are more than the {MOST_MODELS:,} that a predictor may have")
    names: set[str] = set()
    for name in map(replace_surrogates, models):
        if not name.strip() or len(name) > _LONGEST_NAME:
            problem = f"has {len(name)} characters; {_LONGEST_NAME} are the most" if name.strip() else "is blank"
            raise QualityError(f"the name of the model {shorten(name)} {problem}")
        if name in names:
            raise QualityError(f"two models are called {shorten(name)}; a predictor has each once")
        names.add(name)


def save_predictor(predictor: Predictor, path: str | Path, *, trained_on: str = "", licence: str = "") -> None:
    """Write a predictor; one that stands in the model that it reads, with a copy of that. The file appears whole or not at all.

    Lone surrogates in texts become U+FFFD.

    Args:
        predictor: what to write.
        path: the file, replaced if it is there.
        trained_on: names of the outcomes, for people.
        licence: the licences of the outcomes, for people.

    Raises:
        QualityError: it cannot be written, or could not be read: it would be too large, or its models' names are none.
    """
    target = Path(path)
    check_models(predictor.models)
    settings = predictor.settings()
    tensors = {**predictor.tensors(), "sample": np.asarray(predictor.sample, np.float32)}
    if predictor.sample_tokens is not None:
        tensors["sample_tokens"] = np.asarray(predictor.sample_tokens, np.float32)
    if predictor.novelty is not None:
        settings[_NOVELTY] = predictor.novelty.settings()
        tensors |= predictor.novelty.tensors()
    texts = {
        "format": _FORMAT,
        "version": _VERSION,
        "policy": predictor.policy,
        "models": json.dumps(list(predictor.models), ensure_ascii=False),
        "encoder": predictor.encoder or "",
        "settings": json.dumps(settings, ensure_ascii=False, allow_nan=False, sort_keys=True),
        "trained_on": trained_on,
        "licence": licence,
    }
    raw = _packed({name: replace_surrogates(text) for name, text in texts.items()}, tensors)
    if len(raw) > MOST_BYTES:
        raise QualityError(f"{target}: would have {len(raw):,} bytes, more than the {MOST_BYTES:,} that a predictor may have")
    if predictor.model_file is not None:
        write_embedded(raw, predictor.model_file, target)
        return
    try:
        with replaced_when_whole(target) as partial:
            partial.write_bytes(raw)
    except OSError as exc:
        raise QualityError(f"{target}: cannot be written ({exc.strerror or exc})") from exc


def _packed(texts: Mapping[str, str], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(texts)}
    parts, place = [], 0
    for name, tensor in sorted(tensors.items()):
        # On a machine of the other byte order they are turned.
        stored = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        part = stored.tobytes()
        shape = list(stored.shape)
        header[name] = {"dtype": _NAMES[stored.dtype], "shape": shape, "data_offsets": [place, place + len(part)]}
        parts.append(part)
        place += len(part)
    text = json.dumps(header, ensure_ascii=False).encode()
    # The tensors begin at a multiple of eight.
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def load_predictor(path: str | Path) -> Predictor:
    """Read a predictor that :func:`save_predictor` wrote, or that stands in the model that it reads.

    Raises:
        QualityError: there is no such file, it is no predictor, or damaged; the message has the file.
    """
    source = Path(path)
    raw, model = _read(source)
    try:
        texts, tensors = _unpacked(raw)
        predictor = _restored(texts, tensors, model)
        if model is not None:
            predictor.model_file = source
            _check_kind(predictor, source)
        return predictor
    except QualityError as exc:
        raise QualityError(f"{source}: {exc}") from exc


def _check_kind(predictor: Predictor, model: Path) -> None:
    """Refuse a predictor in a model that does not say what it reads."""
    from archroute_edge.quality._features import kind_of_model

    if (kind_of_model(model) == "encoder") != (predictor.reads == "vectors"):
        wanted = "an encoder's vectors" if predictor.reads == "vectors" else "the levels of a language model"
        raise QualityError(f"the predictor in it reads {wanted}, and this is another kind of model")


def read_about(path: str | Path) -> dict[str, str]:
    """What a predictor's file says about itself: ``trained_on``, ``licence`` and the like, as it was written.

    Raises:
        QualityError: as :func:`load_predictor`.
    """
    source = Path(path)
    try:
        return _unpacked(_read(source)[0])[0]
    except QualityError as exc:
        raise exc if str(exc).startswith(str(source)) else QualityError(f"{source}: {exc}") from exc


def embed_predictor(path: str | Path, model: str | Path, target: str | Path) -> None:
    """Put a predictor into a copy of the model that it reads, so that one file is enough to decide.

    Args:
        path: the predictor's file.
        model: GGUF of the encoder or language model that it was trained with.
        target: the new GGUF.

    Raises:
        QualityError: it is no predictor, was trained with another model, or the file cannot be written.
        ModelError: the model's file is none.
    """
    from archroute_edge.quality._features import check_encoder, model_identity

    predictor = load_predictor(path)
    if predictor.encoder is None:
        raise QualityError(f"{path}: reads no model, and needs none around it")
    if predictor.model_file is not None:
        raise QualityError(f"{path}: stands in its model already")
    check_encoder(predictor.encoder, model_identity(model), str(model))
    write_embedded(_read(Path(path))[0], Path(model), Path(target))


def _read(path: Path) -> tuple[bytes, str | None]:
    """The bytes of a predictor's file, and the identity of the model that it stands in, if any."""
    try:
        if path.is_dir():
            raise QualityError(f"{path}: a folder, and no predictor")
        with path.open("rb") as file:
            is_model = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
            raw = b"" if is_model else file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise QualityError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    if is_model:
        try:
            return read_embedded(path, MOST_BYTES)
        except QualityError as exc:
            raise QualityError(f"{path}: {exc}") from exc
    if len(raw) > MOST_BYTES:
        raise QualityError(f"{path}: has more than {MOST_BYTES:,} bytes, and is no predictor")
    return raw, None


def _unpacked(raw: bytes) -> tuple[dict[str, str], Tensors]:
    """The texts and tensors in a file's bytes."""
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or raw[8:9] != b"{" or not 2 <= length <= len(raw) - 8:
        kind = None if raw[8:9] == b"{" else other_kind(raw[:ENOUGH_BYTES])
        raise QualityError(f"is no predictor of quality: {kind}" if kind else f"is no predictor, or cut off; {_AGAIN}")
    if length > _MOST_HEADER_BYTES:
        raise QualityError(f"has a header of {length:,} bytes, and is no predictor")
    header = _json(raw[8 : 8 + length], "header")
    if not isinstance(header, dict):
        raise QualityError("has a header that is no object, and is no predictor")
    texts = header.pop("__metadata__", None)
    if not isinstance(texts, dict) or texts.get("format") != _FORMAT:
        raise QualityError(f"a safetensors file that holds no predictor of quality; {_AGAIN}")
    if not all(isinstance(texts.get(name), str) for name in _TEXTS):
        raise QualityError(f"its header lacks one of {', '.join(_TEXTS)}; {_AGAIN}")
    if texts["version"] != _VERSION:
        raise QualityError(
            f"has version {texts['version'][:20]!r} of the format, and this archroute-edge reads {_VERSION}; {_AGAIN}"
        )
    return texts, _tensors(header, raw, 8 + length)


def _tensors(entries: Mapping[str, Any], raw: bytes, start: int) -> Tensors:
    places = [(name, *_place(name, entry)) for name, entry in entries.items()]
    found: Tensors = {}
    expected = 0
    for name, dtype, shape, begin, end in sorted(places, key=lambda place: (place[3], place[4])):
        n_bytes = math.prod(shape) * dtype.itemsize
        if begin != expected or end - begin != n_bytes or end > len(raw) - start:
            raise QualityError(f"tensor {_shown(name)} does not lie where its shape says; the file is damaged or cut off")
        expected = end
        values = np.frombuffer(raw, dtype, math.prod(shape), start + begin).reshape(shape)
        if dtype.kind == "f" and not np.isfinite(values).all():
            raise QualityError(f"tensor {_shown(name)} has a value that is not finite; the file is damaged")
        found[name] = values
    if start + expected != len(raw):
        raise QualityError("has bytes behind its tensors; the file is damaged")
    return found


def _place(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Type, shape, begin and end in the header's entry for a tensor."""
    problem = QualityError(f"tensor {_shown(name)} has no usable dtype, shape and data_offsets; the file is damaged")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise problem
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise problem
    if not _are_counts(shape) or not _are_counts(offsets) or len(shape) > _MOST_DIMENSIONS or len(offsets) != 2:
        raise problem
    return np.dtype(_DTYPES[code]), tuple(shape), offsets[0], offsets[1]


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each <= MOST_BYTES for each in value)


def _json(raw: bytes, place: str) -> Any:
    try:
        return parse_json(raw, place)
    except ConversationError as exc:
        raise QualityError(f"its {exc}; the file is damaged") from exc


def _restored(texts: Mapping[str, str], tensors: Tensors, model: str | None) -> Predictor:
    """The predictor; ``model`` is the identity of the model that it stands in."""
    models = _json(texts["models"].encode("utf-8", "replace"), "models")
    if not isinstance(models, list) or not 1 <= len(models) <= MOST_MODELS or len({*map(str, models)}) != len(models):
        raise QualityError(f"must name 1 to {MOST_MODELS} models, each once; the file is damaged")
    if not all(isinstance(name, str) and name.strip() and len(name) <= _LONGEST_NAME for name in models):
        raise QualityError(f"a model's name must be a text of at most {_LONGEST_NAME} characters; the file is damaged")
    settings = _json(texts["settings"].encode("utf-8", "replace"), "settings")
    if not isinstance(settings, dict):
        raise QualityError("its settings are no object; the file is damaged")
    encoder = texts["encoder"] or None
    if encoder is not None and (len(encoder) != 64 or not set(encoder) <= set("0123456789abcdef")):
        raise QualityError("its encoder is no SHA-256; the file is damaged")
    if model is not None:
        # The file around it has an identity of its own.
        encoder = model
    sample = tensors.pop("sample", None)
    if sample is None or sample.ndim != 2 or sample.shape[1] != len(models) or sample.dtype.kind != "f":
        raise QualityError(f"its sample has no column for each of {len(models)} models; the file is damaged")
    if not ((sample >= 0) & (sample <= 1)).all():
        raise QualityError("its sample has a score outside 0 to 1; the file is damaged")
    tokens = tensors.pop("sample_tokens", None)
    if tokens is not None and (tokens.shape != sample.shape[:1] or tokens.dtype.kind != "f" or not (tokens >= 0).all()):
        raise QualityError("its sample_tokens are not a number for each prompt of the sample; the file is damaged")
    about = settings.pop(_NOVELTY, None)
    of_novelty = {name: tensors.pop(name) for name in [*tensors] if name.startswith(f"{_NOVELTY}.")}
    kind = _class_of(texts["policy"], settings)
    predictor = kind.restore(tuple(models), encoder, sample.astype(np.float64), tensors, settings)
    predictor.sample_tokens = None if tokens is None else tokens.astype(np.float64)
    if about is not None:
        if not isinstance(about, dict):
            raise QualityError("its novelty is no object; the file is damaged")
        predictor.novelty = Novelty.restore(of_novelty, about)
    return predictor


def _class_of(policy: str, settings: Mapping[str, Any]) -> type[Predictor]:
    # Each with its own imports, and all of them only where files are read.
    if policy == "heads" and "kinds" in settings:
        from archroute_edge.quality._heads_by_kind import HeadsByKind

        return HeadsByKind
    if policy == "heads":
        from archroute_edge.quality._heads import Heads

        return Heads
    if policy == "factorization":
        from archroute_edge.quality._factorization import Factorization

        return cast(type[Predictor], Factorization)
    if policy == "similarity":
        from archroute_edge.quality._similarity import Similarity

        return cast(type[Predictor], Similarity)
    if policy == "classifier":
        from archroute_edge.quality._classifier import Classifier

        return cast(type[Predictor], Classifier)
    if policy == "causal":
        from archroute_edge.quality._causal import Causal

        return Causal
    raise QualityError(f"has the policy {policy[:40]!r}, which this archroute-edge does not know; {_AGAIN}")


def _shown(name: str) -> str:
    return repr(name[:60])
