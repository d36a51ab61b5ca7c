"""The question for a mark as a model's tokens, exactly as a decision asks it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from archroute_edge.conversation import Turn, trim
from archroute_edge.decoding import AnswerSet
from archroute_edge.engine import LoadedModel
from archroute_edge.prompts import PromptBuilder
from archroute_edge.quality import LEVEL_FORMAT, Prompt, read_prompt
from archroute_edge.routes import Route, RouteTable

# The question does not show it.
_TABLE = RouteTable([Route("levels")])


@dataclass(frozen=True)
class Question:
    """A prompt's tokens, those of its answer last, and how many these are."""

    tokens: tuple[int, ...]
    n_answer: int


@dataclass(frozen=True)
class Questioner:
    """Writes questions for one model.

    Args:
        model: its vocabulary, which goes with the last reference to it.
        prompt: writes its prompts.
        answers: the tokens of each mark.
        budget: tokens of a conversation that are read.
    """

    model: LoadedModel
    prompt: PromptBuilder
    answers: tuple[tuple[int, ...], ...]
    budget: int

    def question(self, prompt: Prompt, mark: int) -> Question:
        """The question about a prompt, answered by a mark from 0 to 4."""

        def count(turn: Turn) -> int:
            return self.prompt.count_tokens(turn)

        kept = trim(read_prompt(prompt), self.budget, count).turns
        answer = self.answers[mark]
        return Question((*self.prompt.tokens(_TABLE, kept), *answer), len(answer))


def open_questioner(vocabulary: Path, budget: int) -> Questioner:
    """A questioner for the model whose vocabulary a GGUF has."""
    model = LoadedModel(vocabulary, vocabulary_only=True, needs_weights=False, wanted="generative")
    prompt = PromptBuilder(model, LEVEL_FORMAT)
    return Questioner(model, prompt, AnswerSet(model.vocabulary, prompt.answers(_TABLE)).canonical, budget)


def write_vocabulary(checkpoint: Path, path: Path) -> None:
    """Write a checkpoint's vocabulary as a GGUF without weights; CalledProcessError if it cannot be converted."""
    command = [sys.executable, "-m", "tools.convert", str(checkpoint), "--vocab-only", "-o", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def batches(questions: Sequence[Question], n_tokens: int, seed: int, first: int = 0) -> Iterator[list[Question]]:
    """Batches without end, of questions of like length that have at most ``n_tokens`` together, padding counted.

    Each pass is in another order. ``first`` leaves out so many batches, as if they had been drawn.
    """
    number = 0
    for epoch in range(sys.maxsize):
        rng = random.Random(f"{seed} {epoch}")
        drawn = sorted(questions, key=lambda question: (len(question.tokens) // 16, rng.random()))
        found: list[list[Question]] = [[]]
        longest = 0
        for question in drawn:
            longest = max(longest, len(question.tokens))
            if found[-1] and (len(found[-1]) + 1) * longest > n_tokens:
                found.append([])
                longest = len(question.tokens)
            found[-1].append(question)
        rng.shuffle(found)
        for batch in found:
            if number >= first:
                yield batch
            number += 1
