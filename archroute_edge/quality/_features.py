"""From prompts to what predictors read of them: the user's last text, and what a model makes of the conversation.

An encoder's vectors are exactly those that it decides by, so that a decision's vector can be used again. A language model says
levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from archroute_edge.conversation import Conversation, read_user_text
from archroute_edge.errors import ConversationError, ModelError, QualityError
from archroute_edge.quality._kept_vectors import KeptVectors
from archroute_edge.quality._outcomes import Prompt
from archroute_edge.quality._predictor import PromptFeatures, Vectors
from archroute_edge.quality._prompts_reading import tokens_of_all

if TYPE_CHECKING:
    from archroute_edge.engine import Cancellation, ModelKind

# Conversations between two reports of progress.
_PART: Final = 64
# So many of them are lost at most if the process is killed.
_PARTS_WRITTEN: Final = 16


def features_of(
    prompts: Iterable[Prompt],
    model: str | Path | None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    kept: Path | None = None,
) -> PromptFeatures:
    """What predictors read of prompts.

    Args:
        prompts: in order.
        model: GGUF of the encoder or language model that is read, or its identity, as a predictor has it; None reads none.
        on_progress: called with the prompts done and in all, while a model is read.
        kept: file of an encoder's vectors. Those that it lacks are computed and put there, so that an interrupted run goes on.

    Raises:
        QualityError: a prompt has no text, there is no model of that identity on this machine, or the file cannot be used.
        ModelError: the model cannot be read or loaded.
        EngineError: llama.cpp failed.
    """
    conversations = [read_prompt(prompt) for prompt in prompts]
    if model is None:
        return plain_features(conversations)
    path = model if isinstance(model, Path) else find_encoder(model)
    if kept is not None and conversations:
        return PromptFeatures(plain_features(conversations).texts, _kept_vectors(conversations, path, kept, on_progress))
    with open_reader(path) as reader:
        parts = [reader.features([])]
        for start in range(0, len(conversations), _PART):
            parts.append(reader.features(conversations[start : start + _PART]))
            on_progress(min(start + _PART, len(conversations)), len(conversations))
    vectors = [part.vectors for part in parts if part.vectors is not None]
    levels = [part.levels for part in parts if part.levels is not None]
    return PromptFeatures(
        tuple(text for part in parts for text in part.texts),
        np.concatenate(vectors) if vectors else None,
        np.concatenate(levels) if levels else None,
    )


def _kept_vectors(
    conversations: Sequence[Conversation], model: Path, file: Path, on_progress: Callable[[int, int], None]
) -> Vectors:
    kept = KeptVectors(file, encoder_identity(model))
    if missing := kept.lacks(conversations):
        with VectorMaker(model) as maker:
            try:
                for number, start in enumerate(range(0, len(missing), _PART), 1):
                    part = missing[start : start + _PART]
                    kept.add(part, maker.vectors(part))
                    if number % _PARTS_WRITTEN == 0:
                        kept.write()
                    on_progress(min(start + _PART, len(missing)), len(missing))
            finally:
                kept.write()
    return kept.of(conversations)


def plain_features(conversations: Sequence[Conversation]) -> PromptFeatures:
    """What is read of conversations without a model."""
    return PromptFeatures(tuple(last_text(each) for each in conversations), None)


class ModelReader(Protocol):
    """A model that predictors read. One caller at a time; freed when it is closed, or with the last reference."""

    identity: str

    def features(self, conversations: Sequence[Conversation], cancellation: Cancellation | None = None) -> PromptFeatures:
        """What predictors read of conversations.

        Raises:
            DecisionCancelledError: ``cancellation`` was set.
            EngineError: llama.cpp failed.
        """

    def __enter__(self) -> ModelReader: ...

    def __exit__(self, *_: object) -> None: ...


def open_reader(path: Path, n_threads: int | None = None) -> ModelReader:
    """The encoder or the language model in a file, loaded.

    Args:
        path: its GGUF.
        n_threads: threads for evaluation; the physical cores by default.

    Raises:
        ModelError: it cannot be read or loaded.
    """
    return VectorMaker(path, n_threads) if kind_of_model(path) == "encoder" else LevelMaker(path, n_threads)


def read_prompt(prompt: Prompt) -> Conversation:
    """The prompt's conversation.

    Raises:
        QualityError: it has no text of a user.
    """
    try:
        return read_user_text(prompt.messages if isinstance(prompt.messages, str) else list(prompt.messages))
    except ConversationError as exc:
        raise QualityError(f"prompt {prompt.id!r}: {exc}") from exc


def prompt_tokens(prompt: Prompt) -> int:
    """About how many tokens the request has, as targets count them: those of all messages.

    Raises:
        QualityError: it has no text of a user.
    """
    return tokens_of_all(read_prompt(prompt)) if prompt.tokens is None else prompt.tokens


def last_text(conversation: Conversation) -> str:
    """What the user said last."""
    return next(turn.content for turn in reversed(conversation) if turn.role == "user")


class VectorMaker:
    """An encoder that gives the vectors it decides by.

    Args:
        path: its GGUF.
        n_threads: threads for evaluation; the physical cores by default.

    Raises:
        ModelError: it cannot be read or loaded, or is no encoder.
    """

    def __init__(self, path: Path, n_threads: int | None = None) -> None:
        # Loads llama.cpp, which predictors without vectors do not need.
        from archroute_edge.deciders import TRAINED_TOKENS, conversation_text
        from archroute_edge.engine import EmbeddingEngine, LoadedModel, physical_cores

        self._text_of = conversation_text
        self._model = LoadedModel(path, wanted="encoder")
        try:
            self._engine = EmbeddingEngine(self._model, n_threads or physical_cores(), TRAINED_TOKENS)
        except BaseException:
            self._model.close()
            raise
        self.identity: str = self._model.fingerprint

    def vectors(self, conversations: Sequence[Conversation], cancellation: Cancellation | None = None) -> Vectors:
        """(n, d), rows of length 1."""
        return self._engine.embed([self._engine.encode(self._text_of(each)) for each in conversations], cancellation)

    def features(self, conversations: Sequence[Conversation], cancellation: Cancellation | None = None) -> PromptFeatures:
        """As :meth:`ModelReader.features` says."""
        return PromptFeatures(plain_features(conversations).texts, self.vectors(conversations, cancellation))

    def close(self) -> None:
        """Free the model."""
        self._engine.close()
        self._model.close()

    def __enter__(self) -> VectorMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LevelMaker:
    """A language model that says levels; arguments and errors are those of :class:`VectorMaker`."""

    def __init__(self, path: Path, n_threads: int | None = None) -> None:
        # Loads llama.cpp.
        from archroute_edge.quality._levels import LevelReader

        self._reader = LevelReader(path, n_threads)
        self.identity: str = self._reader.identity

    def features(self, conversations: Sequence[Conversation], cancellation: Cancellation | None = None) -> PromptFeatures:
        """As :meth:`ModelReader.features` says."""
        return PromptFeatures(plain_features(conversations).texts, None, self._reader.levels(conversations, cancellation))

    def __enter__(self) -> LevelMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()


def kind_of_model(path: str | Path) -> ModelKind:
    """Whether a file holds an encoder or a language model. Nothing is loaded.

    Raises:
        ModelError: it holds neither.
    """
    from archroute_edge.engine import check_model_file, model_kind

    return model_kind(check_model_file(path))


def model_identity(path: str | Path) -> str:
    """What tells a model's file from others: the fingerprint that saved vectors are kept by. Nothing is loaded.

    Raises:
        ModelError: it is no file of a model.
    """
    from archroute_edge.engine import check_model_file, model_fingerprint

    return model_fingerprint(check_model_file(path))


def encoder_identity(path: str | Path) -> str:
    """As :func:`model_identity`, of an encoder alone.

    Raises:
        ModelError: it is no file of an encoder.
    """
    from archroute_edge.engine import check_model_file, model_fingerprint

    return model_fingerprint(check_model_file(path, "encoder"))


def find_encoder(identity: str) -> Path:
    """The file of a model on this machine that a predictor reads, by its identity.

    Raises:
        QualityError: there is none.
    """
    from archroute_edge.models import BUNDLED_ENCODER, find_bundled, models_on_this_machine

    bundled = find_bundled(BUNDLED_ENCODER).path
    for path in dict.fromkeys([bundled, *(model.path for model in models_on_this_machine())]):
        try:
            if model_identity(path) == identity:
                return path
        except (ModelError, OSError):
            # One that is damaged.
            continue
    raise QualityError(
        f"the predictor reads a model that is not on this machine ({identity[:12]}); "
        "name its file with --encoder, or train again with archroute quality train --encoder"
    )


def check_encoder(predictor_encoder: str | None, identity: str, what: str) -> None:
    """Make sure that a predictor reads what the model at hand says.

    Args:
        predictor_encoder: the identity that the predictor names; None fits every model.
        identity: of the model at hand.
        what: the model at hand, for people.

    Raises:
        QualityError: it was trained on another's.
    """
    if predictor_encoder not in (None, identity):
        raise QualityError(
            f"the predictor was trained with another model than {what}; "
            f"train it again with archroute quality train --encoder {what}"
        )
