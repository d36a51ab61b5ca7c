"""How well a request will probably be answered, as a language model says it: one of the marks [[1]] to [[5]].

The model is asked as it is asked for a route: its own chat template, the instructions as a resident prefix, the answer under a
grammar that allows the five marks alone. All marks share their beginning, which is evaluated with the prompt, so the chance of
each of the five is known after one evaluation.

The mark is about the request and names no model. So one evaluation is enough for any number of models; what a mark means for
each of them is learned apart (see ``_causal``), and a model can be added without asking the language model anything new.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from archroute_edge.conversation import Conversation, Turn
from archroute_edge.prompts import Answer, PromptFormat
from archroute_edge.quality._outcomes import Scores
from archroute_edge.routes import Route, RouteTable

if TYPE_CHECKING:
    from archroute_edge.engine import Cancellation

LEVELS: Final = ("1", "2", "3", "4", "5")
"""The marks, from requests that hardly a model answers well to those that nearly all do."""

LEVELS_FORMAT: Final = 1
"""Version of the question; a predictor reads the levels of one."""

BUDGET: Final = 1024
"""Tokens of the conversation that are read, its last turns."""

_TABLE: Final = RouteTable([Route("levels")])


@dataclass(frozen=True)
class _LevelFormat(PromptFormat):
    """A prompt that shows no routes, and is answered by a mark."""

    def answers(self, table: RouteTable, *, nfc: bool = False) -> tuple[Answer, ...]:
        """The five marks, whatever the table."""
        return tuple(Answer(self.reply(json.dumps(level)), level) for level in LEVELS)


def _conversation(turns: Sequence[Turn]) -> str:
    return "".join(f"{turn.role}: {turn.content}\n" for turn in turns)


def _mark(encoded: str | None) -> str:
    return f"[[{'' if encoded is None else json.loads(encoded)}]]"


LEVEL_FORMAT: Final = _LevelFormat(
    name="levels",
    opening=(
        "How well will language models answer the last message of the user? Answer with a mark: [[1]] if hardly any answer "
        "will be right, [[2]] if few, [[3]] if about half, [[4]] if most, [[5]] if nearly all.\n\n<conversation>\n"
    ),
    middle="",
    closing="</conversation>\n",
    write_routes=lambda table: "",
    write_conversation=_conversation,
    reply=_mark,
)
"""The question."""


class LevelReader:
    """A language model that says levels.

    Args:
        path: its GGUF.
        n_threads: threads for evaluation; the physical cores by default.

    Raises:
        ModelError: it cannot be read or loaded, or is no language model.
        PromptFormatError: its chat template cannot carry the question.
    """

    def __init__(self, path: Path, n_threads: int | None = None) -> None:
        # Loads llama.cpp, and brings prompts, prefixes and decoding, with Jinja.
        from archroute_edge.deciders import GenerativeDecider, GenerativeSettings
        from archroute_edge.engine import LoadedModel

        model = LoadedModel(path, wanted="generative")
        try:
            settings = GenerativeSettings(n_threads=n_threads, budget=BUDGET)
            self._decider = GenerativeDecider(model, path.name, LEVEL_FORMAT, settings, _TABLE)
        except BaseException:
            model.close()
            raise
        self.identity: str = model.fingerprint

    def levels(self, conversations: Sequence[Conversation], cancellation: Cancellation | None = None) -> Scores:
        """(n, 5) the chances of the marks, which come to 1.

        Raises:
            DecisionCancelledError: ``cancellation`` was set.
            EngineError: llama.cpp failed.
        """
        verdicts = self._decider.decide_many(_TABLE, conversations, scores=True, keep=False, cancellation=cancellation)
        found = np.empty((len(verdicts), len(LEVELS)))
        for row, verdict in enumerate(verdicts):
            assert verdict.scores is not None
            found[row] = [verdict.scores[level] for level in LEVELS]
        return found

    def close(self) -> None:
        """Free the model."""
        self._decider.close()
