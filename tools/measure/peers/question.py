"""The question to every peer, and its answer. Imports nothing, so that peers' processes stay as they are alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

# No two of a run begin alike, so that nothing of a message is in anybody's cache.
_SUBJECTS = (
    *("Parser", "Login", "Import", "Scheduler", "Loader", "Socket", "Build", "Cache", "Export", "Printer", "Search", "Upload"),
    *("Backup", "Checkout", "Mailer", "Worker", "Compiler", "Linter", "Router", "Gateway", "Monitor", "Report", "Editor"),
    *("Player", "Camera", "Sensor", "Crawler", "Queue", "Index", "Archive", "Billing", "Calendar", "Chat", "Dashboard"),
    *("Database", "Driver", "Emulator", "Filter", "Form", "Game", "Installer", "Keyboard", "Library", "Map", "Notebook"),
    *("Optimizer", "Proxy", "Renderer", "Server", "Terminal", "Updater", "Viewer", "Widget", "Timer", "Plugin", "Simulation"),
)
_FAULTS = (
    *("raises a KeyError", "hangs on start", "returns None", "leaks memory", "skips the last line", "crashes on exit"),
    "ignores its settings",
)


def fresh_messages() -> Iterator[str]:
    """One-turn messages of some 40 tokens, all different."""
    for number in itertools.count():
        subject, fault = _SUBJECTS[number % len(_SUBJECTS)], _FAULTS[number % len(_FAULTS)]
        yield (
            f"{subject} {fault} since I moved it to version {number % 10}.{number // 10 % 10}, and the log says nothing but "
            "'failed'. What is wrong with it, and how can I fix it?"
        )


def token_literal_grammar(tokens: Sequence[int]) -> str:
    """GBNF that allows exactly these token ids, and then the end of generation."""
    return "root ::= " + " ".join(f"<[{token}]>" for token in tokens)


@dataclass(frozen=True)
class Question:
    """One decision to make.

    Args:
        table: name of the route table.
        message: what the user says.
        body: the prompt's one user message, around which the model's chat template goes.
        prompt: the whole prompt's token ids.
        n_message: tokens of the prompt that are neither instructions nor routes.
        answer: the text that everybody is held to.
        answer_tokens: its canonical token ids.
    """

    table: str
    message: str
    body: str
    prompt: list[int]
    n_message: int
    answer: str
    answer_tokens: list[int]


@dataclass(frozen=True)
class Reply:
    """A peer's reply to a question.

    Args:
        seconds: wall-clock time, from the call to the answer.
        answer: its text; None if the peer was not held to one.
        n_prompt: tokens of the prompt.
        n_reused: those of them that were not evaluated again.
        n_evaluated: tokens put through the model, the answer's included.
        evaluate_seconds: the part of ``seconds`` in which the model worked, where the peer says so.
    """

    seconds: float
    answer: str | None
    n_prompt: int
    n_reused: int
    n_evaluated: int
    evaluate_seconds: float | None = None


class Peer(Protocol):
    """Something that decides."""

    def decide(self, question: Question) -> Reply:
        """Answer ``question``, as a user of the peer would have it answered."""
