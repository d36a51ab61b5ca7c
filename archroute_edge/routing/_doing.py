"""What the owner of a decider does now, and the unfinished work that questions and warm-ups wait for."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from archroute_edge.deciders import Work
from archroute_edge.engine import Cancellation
from archroute_edge.routing._questions import Question, WarmUp

# How often in a row questions may stop work that they cannot be seen to wait for, or others that are decided at once.
_MOST_INTERRUPTIONS: Final = 3
# Work that goes on though all that waited for it have gone.
_MOST_NEEDLESS: Final = 8


@dataclass
class Doing:
    """What the owner does now."""

    stop: Cancellation = field(default_factory=Cancellation)
    questions: list[Question] = field(default_factory=list)
    warm: WarmUp | None = None
    work: Pending | None = None
    is_interrupted: bool = False
    """Whether the questions begin anew, since another caller's comes first."""

    def __post_init__(self) -> None:
        for each in (*self.questions, *filter(None, [self.warm])):
            each.is_running = True

    def make_room(self, question: Question) -> None:
        """Let ``question`` have its turn soon."""
        if self.questions:
            self.stop.give_way()
            lanes = {each.lane for each in self.questions}
            rarely = all(each.n_interruptions < _MOST_INTERRUPTIONS for each in self.questions)
            if len(self.questions) > len(lanes) and question.lane not in lanes and rarely and not self.is_interrupted:
                # Several of one caller's at once are no single turn.
                self.is_interrupted = True
                for each in self.questions:
                    each.n_interruptions += 1
                self.stop.cancel()
        elif self.warm is not None:
            if not self.warm.serves(question):
                self.stop.cancel()
            elif self.warm.whole and not self.warm.is_about(question):
                self.stop.give_way()
        elif self.work is not None and self.work.may_be_stopped_by(question):
            self.work.n_interruptions += 1
            self.stop.cancel()

    def note_newer(self, asked: Question | WarmUp) -> None:
        """Have what is decided ahead end soon, if ``asked`` is about the same conversation with another text."""
        if self.warm is not None and self.warm.is_outdated_by(asked) and not self.warm.is_about(asked):
            self.warm.is_outdated = True
            self.stop.give_way()


@dataclass(eq=False)
class Pending:
    """Unfinished work, and what waits for it."""

    work: Work
    questions: list[Question] = field(default_factory=list)
    warms: list[WarmUp] = field(default_factory=list)
    stop: Cancellation | None = None
    """Stops it, if it runs apart."""
    n_interruptions: int = 0

    @property
    def waiting(self) -> list[Question | WarmUp]:
        """All that wait for it."""
        return [*self.questions, *self.warms]

    def drop(self, asked: Question | WarmUp) -> None:
        """Have ``asked`` wait no longer, and stop work that was for it alone."""
        self.questions = [each for each in self.questions if each is not asked]
        self.warms = [each for each in self.warms if each is not asked]
        if self.stop is not None and self.work.is_for_these_alone and not self.waiting:
            self.stop.cancel()

    def may_be_stopped_by(self, question: Question) -> bool:
        """Whether ``question`` can begin without it."""
        if self.work.table is None:
            return self.n_interruptions < _MOST_INTERRUPTIONS
        return self.work.table != question.table


class Works(dict[Hashable, Pending]):
    """All unfinished work, by its key."""

    def add(self, work: Work, asked: Question | WarmUp) -> Pending:
        """Let ``asked`` wait for ``work``."""
        pending = self.setdefault(work.key, Pending(work))
        if isinstance(asked, Question):
            pending.questions.append(asked)
        else:
            pending.warms.append(asked)
        # The oldest that nothing waits for, beyond what is worth finishing for later questions.
        needless = [key for key, each in self.items() if not each.waiting and each.stop is None]
        for key in needless[:-_MOST_NEEDLESS]:
            del self[key]
        return pending

    def next(self, *, only_needed: bool) -> Pending | None:
        """The oldest that does not run apart, or of those that questions wait for; None if there is none."""
        return next((each for each in self.values() if each.stop is None and (each.questions or not only_needed)), None)

    def drop(self, asked: Question | WarmUp) -> None:
        """Have ``asked`` wait no longer."""
        for pending in self.values():
            pending.drop(asked)

    @property
    def questions(self) -> list[Question]:
        """All that wait."""
        return [each for pending in self.values() for each in pending.questions]

    @property
    def warms(self) -> list[WarmUp]:
        """All that wait."""
        return [each for pending in self.values() for each in pending.warms]

    def stop_apart(self, *, only_needless: bool = False) -> None:
        """Stop work that runs apart from the owner; or only what no question waits for."""
        for pending in self.values():
            if pending.stop is not None and not (only_needless and pending.questions):
                pending.stop.cancel()
