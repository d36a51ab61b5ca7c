"""Prompts with grades of models' answers: in lines of their own, in exports of the record, in tables of grades beside either.

A table of grades is a file in CSV with the columns ``id`` (of a prompt), ``model`` and ``score``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from archroute_edge.config import shorten
from archroute_edge.conversation import replace_surrogates
from archroute_edge.errors import QualityError
from archroute_edge.quality._lines import (
    LARGEST_FILE,
    Line,
    problem_of_name,
    read_objects,
    read_rows,
    read_score,
    shown,
    wrong,
)
from archroute_edge.quality._outcomes import Outcomes, Prompt
from archroute_edge.quality._prompts_reading import group_of, read_prompt_line

_LIKE: Final = '{"id": "...", "text": "...", "scores": {"model-a": 1, "model-b": 0.5}}'
_LIKE_EITHER: Final = f"{_LIKE}, or what archroute log export --outcomes writes,"
_NO_GRADES: Final = f"there are no graded prompts; expected {_LIKE} on each line, or a table of grades beside it"
_COLUMNS: Final = ("id", "model", "score")

MAX_MODELS: Final = 1000
"""Most models of a set, or of a file of graded prompts."""


class Gradable(Protocol):
    """Prompts that answers can be graded of."""

    def holds(self, name: str) -> bool:
        """Whether a prompt has this id."""

    def grade(self, name: str, model: str, score: float) -> None:
        """Take a grade in place of those that are known of this model and prompt."""


@dataclass
class Graded:
    """The prompts of a file.

    Attributes:
        path: the file, for messages.
        is_record: whether it is an export of the record.
        prompts: by id; None if the text is not known.
        grades: by id and model; several count as their mean.
    """

    path: str
    is_record: bool = False
    prompts: dict[str, Prompt | None] = field(default_factory=dict)
    grades: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def holds(self, name: str) -> bool:
        """As :meth:`Gradable.holds` says."""
        return name in self.prompts

    def grade(self, name: str, model: str, score: float) -> None:
        """As :meth:`Gradable.grade` says."""
        self.grades[name][model] = [score]

    def outcomes(self) -> Outcomes:
        """The prompts that have a text and a grade.

        Raises:
            QualityError: there is none.
        """
        kept = [
            (prompt, self.grades[name]) for name, prompt in self.prompts.items() if prompt is not None and self.grades[name]
        ]
        if not kept:
            raise QualityError(f"{self.path} line 1: {self._why_none()}")
        models = tuple(dict.fromkeys(model for _, scores in kept for model in scores))
        _check_number(self.path, models)
        means = [[np.mean(scores[model]) if model in scores else np.nan for model in models] for _, scores in kept]
        return Outcomes(tuple(prompt for prompt, _ in kept), models, np.array(means, np.float64))

    def _why_none(self) -> str:
        """Why no outcome is left, and what to do."""
        if not self.is_record:
            return _NO_GRADES
        if all(prompt is None for prompt in self.prompts.values()):
            return "no request has its text; record texts with archroute serve --record=content, and export again"
        if not any(self.grades.values()):
            return "no answer has a grade; grade answers with archroute log grade, or in a table of id,model,score"
        return "no request has both its text and a grade; grade answers of requests whose texts were recorded"


class GradedSet:
    """Outcomes that grades are joined to.

    Args:
        path: of their prompts, for messages.
        outcomes: of a set.
    """

    def __init__(self, path: Path | str, outcomes: Outcomes) -> None:
        self._path = path
        self._outcomes = outcomes
        self._rows = {prompt.id: row for row, prompt in enumerate(outcomes.prompts)}
        self._grades: list[tuple[int, str, float]] = []

    def holds(self, name: str) -> bool:
        """As :meth:`Gradable.holds` says."""
        return name in self._rows

    def grade(self, name: str, model: str, score: float) -> None:
        """As :meth:`Gradable.grade` says."""
        self._grades.append((self._rows[name], model, score))

    def outcomes(self) -> Outcomes:
        """The outcomes with their grades."""
        models = tuple(dict.fromkeys([*self._outcomes.models, *(model for _, model, _ in self._grades)]))
        _check_number(self._path, models)
        found, place = self._outcomes.columns(models), {model: number for number, model in enumerate(models)}
        for row, model, score in self._grades:
            found.scores[row, place[model]] = score
        return found


def _check_number(path: Path | str, models: Sequence[str]) -> None:
    """Refuse more models than a table of their scores has room for."""
    if len(models) > MAX_MODELS:
        raise QualityError(f"{path}: grades of {len(models):,} models; at most {MAX_MODELS:,} are read")


def read_graded_file(path: Path | str, model: str | None = None, *, may_lack: bool = False) -> Graded:
    """Prompts with grades: lines that have a prompt and its grades, or an export of the record, as the first line tells.

    A line has ``scores`` of models by name, or ``model`` and ``score``, from 0 to 1; else it is as prompts are read. A prompt
    may stand on several lines, if it is the same each time and has grades of other models.

    Args:
        path: of the file, plain or packed with gzip, which is opened once and so may be a pipe; ``-`` is standard input.
        model: whose ``score`` it is if a line does not tell.
        may_lack: whether a line may have no grade, since they stand elsewhere.

    Raises:
        QualityError: the file cannot be read, or a line is no graded prompt or request of the record.
    """
    from archroute_edge.quality._record_outcomes import read_record

    lines = read_objects(path, _LIKE_EITHER, LARGEST_FILE)
    first = next(lines, None)
    if first is None:
        return Graded(shown(path))
    if "winner" in first.fields and {"outcomes", "scores", "score"}.isdisjoint(first.fields):
        raise first.wrong(f"a battle, which is no outcome; name its file with --battles; here lines are like {_LIKE}")
    every = chain([first], lines)
    # In the record, texts stand in the request.
    if {"text", "messages"}.isdisjoint(first.fields) and not {"outcomes", "request"}.isdisjoint(first.fields):
        return read_record(path, every)
    return _read_lines(path, every, model, may_lack)


def _read_lines(path: Path | str, every: Iterable[Line], model: str | None, may_lack: bool) -> Graded:
    found = Graded(shown(path))
    group = group_of(path)
    lines: dict[str, int] = {}
    for line in every:
        name = line.id() or str(line.number)
        prompt = read_prompt_line(line, name, group)
        scores = _scores(line, model, may_lack)
        first = lines.setdefault(name, line.number)
        known = found.prompts.setdefault(name, prompt)
        if known is not None and (known.messages, known.category) != (prompt.messages, prompt.category):
            raise line.wrong(f"the id {shorten(name)} is that of line {first}, too; each prompt has one of its own")
        grades = found.grades.setdefault(name, {})
        twice = next((one for one in scores if one in grades), None)
        if twice is not None or (not scores and first != line.number):
            whose = "" if twice is None else f", with a grade of {shorten(twice)}"
            raise line.wrong(f"the id {shorten(name)} is that of line {first}, too{whose}; expected one grade for each")
        grades.update({one: [score] for one, score in scores.items()})
    return found


def read_graded(path: Path | str, model: str, grades: Sequence[Path | str] = ()) -> Outcomes:
    """Prompts with grades of one model's answers, and of others' if they are there.

    Args:
        path: as :func:`read_graded_file` reads it; ``-`` is standard input.
        model: whose ``score`` it is if a line does not tell.
        grades: tables of grades; they replace those of ``path``.

    Raises:
        QualityError: a file cannot be read or is wrong at some line, no answer is graded, or ``model`` is no name.
    """
    if problem := problem_of_name(model):
        raise QualityError(f"the new model's name {problem}; expected that of a model")
    found = read_graded_file(path, model, may_lack=bool(grades))
    join_grades(grades, [found])
    return found.outcomes()


def join_grades(tables: Sequence[Path | str], sources: Sequence[Gradable]) -> None:
    """Read tables of grades, and have each grade taken by the prompts that it is about.

    Raises:
        QualityError: a table cannot be read or is wrong at some line, or no prompt, or more than one, has an id.
    """
    for table in tables:
        _join_table(table, sources)


def _join_table(table: Path | str, sources: Sequence[Gradable]) -> None:
    file, rows = str(table), read_rows(table)
    number, header = next(rows, (1, []))
    if sorted(header) != sorted(_COLUMNS):
        raise wrong(file, number, f"the columns are {shorten(','.join(header))}; expected {','.join(_COLUMNS)}")
    first: dict[tuple[str, str], int] = {}
    for number, row in rows:
        if len(row) != len(header):
            raise wrong(file, number, f"{len(row)} cells; expected {','.join(header)}")
        name, model, score = (row[header.index(column)] for column in _COLUMNS)
        holders = [each for each in sources if each.holds(name)]
        if not holders:
            raise wrong(
                file, number, f"no prompt has the id {shorten(name)}; name the file with it, too, or leave out this grade"
            )
        if len(holders) > 1:
            raise wrong(
                file, number, f"prompts of {len(holders)} files have the id {shorten(name)}; give each an id of its own"
            )
        if problem := problem_of_name(model):
            raise wrong(file, number, f"the model's name {problem}; expected that of a model")
        if first.setdefault((name, model), number) != number:
            problem = f"line {first[name, model]} grades this prompt and model, too"
            raise wrong(file, number, f"{problem}; expected one grade for each")
        holders[0].grade(name, model, read_score(file, number, f"model {shorten(model)}", score))


def _scores(line: Line, model: str | None, may_lack: bool) -> dict[str, float]:
    """The grades of a line, by model."""
    several, one = line.fields.get("scores"), line.fields.get("score")
    if several is not None and one is not None:
        raise line.wrong("both 'score' and 'scores'; expected either")
    if several is not None:
        return _several(line, several)
    named = line.name("model", "the name of a model") if line.fields.get("model") is not None else model
    if one is not None and named is None:
        raise line.wrong("a 'score' without 'model'; expected the name of the model that answered")
    if named is not None and not (one is None and may_lack):
        return {named: line.score(one, "'score'")}
    if not may_lack:
        raise line.wrong(f"no 'scores'; expected {_LIKE}, or grades in a table")
    return {}


def _several(line: Line, scores: Any) -> dict[str, float]:
    if not isinstance(scores, Mapping):
        raise line.wrong(f"'scores' is {shorten(json.dumps(scores))}; expected an object of models and their scores")
    found = {}
    for key, score in scores.items():
        name = replace_surrogates(key)
        if problem := problem_of_name(name):
            raise line.wrong(f"a model's name in 'scores' {problem}; expected that of a model")
        if name in found:
            raise line.wrong(f"two scores of {shorten(name)}; expected one")
        # Not run.
        if score is not None:
            found[name] = line.score(score, f"score of {shorten(name)}")
    return found
