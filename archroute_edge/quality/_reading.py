"""Sets of outcomes: ``prompts_SET.jsonl`` and ``outcomes_SET.csv``, plain or packed, row by row the same prompts."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from archroute_edge.config import shorten
from archroute_edge.errors import QualityError
from archroute_edge.quality._graded import MAX_MODELS, GradedSet, join_grades, read_graded_file
from archroute_edge.quality._lines import problem_of_name, read_rows, read_score, wrong
from archroute_edge.quality._outcomes import Outcomes, Prompt, Scores
from archroute_edge.quality._prompts_reading import PROMPTS_NAME, read_numbered_prompts

_OUTCOMES_NAME: Final = re.compile(r"outcomes_(.+)\.csv(?:\.gz)?")
_MODELS_NAME: Final = re.compile(r"models_(.+)\.json(?:\.gz)?")
_LINES_NAME: Final = re.compile(r".+\.jsonl(?:\.gz)?")
_EXPECTED: Final = (
    "prompts_SET.jsonl and outcomes_SET.csv (or .gz), a folder of them, graded prompts in .jsonl, or what archroute log export "
    "writes"
)


def read_outcomes(paths: Sequence[Path | str], grades: Sequence[Path | str] = ()) -> Outcomes:
    """Outcomes from sets of files, joined over all models that have scores; in a set that does not have it a model has none.

    Sets are joined in the order of their names, so that the order in which files are given changes nothing.

    Args:
        paths: ``prompts_SET.jsonl`` and ``outcomes_SET.csv`` of every set, or folders of them; either file may be packed with
            gzip. A ``models_SET.json`` beside them is not read. Another file of JSON lines has prompts with their grades, or
            is an export of the record.
        grades: tables in CSV with the columns ``id``, ``model`` and ``score``. Their grades replace those of ``paths``; a model
            may have no others.

    Raises:
        QualityError: a file cannot be read, lacks its other half, or is wrong at some line.
    """
    sets, others = _find(paths)
    found_sets = sorted(sets.items())
    whole = [_read_set(each) for _, each in found_sets]
    files = [read_graded_file(path, may_lack=bool(grades)) for path in sorted(others)]
    if grades:
        joined = [GradedSet(each.prompts[0], outcomes) for (_, each), outcomes in zip(found_sets, whole, strict=True)]
        join_grades(grades, [*joined, *files])
        whole = [each.outcomes() for each in joined]
    found = [*whole, *(each.outcomes() for each in files)]
    models = tuple(dict.fromkeys(model for each in found for model in each.scored_models))
    prompts = tuple(prompt for each in found for prompt in each.prompts)
    return Outcomes(prompts, models, np.concatenate([each.columns(models).scores for each in found]))


@dataclass
class _Set:
    """The two files of a set."""

    name: str
    prompts: list[Path] = field(default_factory=list)
    outcomes: list[Path] = field(default_factory=list)

    def pair(self) -> tuple[Path, Path]:
        for half in (self.prompts, self.outcomes):
            if len(half) > 1:
                raise QualityError(f"{half[0]} and {half[1]} both belong to the set {self.name!r}; give one, or rename its set")
        if not self.prompts or not self.outcomes:
            there, missing = (self.prompts or self.outcomes)[0], "outcomes_{}.csv" if self.prompts else "prompts_{}.jsonl"
            raise QualityError(f"{there}: {missing.format(self.name)} (or .gz) is missing; give both files, or their folder")
        return self.prompts[0], self.outcomes[0]


def _find(paths: Sequence[Path | str]) -> tuple[dict[str, _Set], list[Path]]:
    """The sets by name, and the other files of JSON lines."""
    sets: dict[str, _Set] = {}
    others: list[Path] = []
    seen: set[str] = set()
    for path in _files(paths):
        # Unlike Path.resolve, it raises nothing if links lead in a circle.
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        prompts, outcomes = PROMPTS_NAME.fullmatch(path.name), _OUTCOMES_NAME.fullmatch(path.name)
        if prompts:
            sets.setdefault(prompts[1], _Set(prompts[1])).prompts.append(path)
        elif outcomes:
            sets.setdefault(outcomes[1], _Set(outcomes[1])).outcomes.append(path)
        elif _LINES_NAME.fullmatch(path.name):
            others.append(path)
        elif not _MODELS_NAME.fullmatch(path.name):
            raise QualityError(f"{path}: not the name of a file of outcomes; expected {_EXPECTED}")
    if not sets and not others:
        raise QualityError(f"there are no outcomes to read; expected {_EXPECTED}")
    return sets, others


def _files(paths: Sequence[Path | str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        try:
            inside = sorted(path.iterdir())
        except OSError as exc:
            raise QualityError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
        found = [each for each in inside if PROMPTS_NAME.fullmatch(each.name) or _OUTCOMES_NAME.fullmatch(each.name)]
        if not found:
            raise QualityError(f"{path}: holds no prompts_SET.jsonl and outcomes_SET.csv (or .gz)")
        yield from found


def _read_set(files: _Set) -> Outcomes:
    prompts_file, table = files.pair()
    numbered = read_numbered_prompts(prompts_file)
    models, scores = _read_table(table, prompts_file, numbered)
    return Outcomes(tuple(prompt for _, prompt in numbered), models, scores)


def _read_table(path: Path, prompts_file: Path, numbered: list[tuple[int, Prompt]]) -> tuple[tuple[str, ...], Scores]:
    """Models and scores of a set: a row for each prompt, in the same order, with its id if there is a column ``id``."""
    file, rows = str(path), read_rows(path)
    number, header = next(rows, (1, []))
    models = _models(file, number, header)
    id_column = header.index("id") if "id" in header else None
    scores, known, n_rows = array("d"), {"": np.nan, "0": 0.0, "1": 1.0}, 0
    for number, row in rows:
        if len(row) != len(header):
            raise wrong(file, number, f"{_count(len(row), 'cell')}; the header has {len(header)}")
        if n_rows == len(numbered):
            problem = f"a row more than {prompts_file.name} has prompts ({len(numbered)})"
            raise wrong(file, number, f"{problem}; expected a row for each, in the same order")
        if id_column is not None:
            _check_id(file, number, row.pop(id_column), prompts_file, numbered[n_rows])
        for model, cell in zip(models, row, strict=True):
            score = known.get(cell)
            if score is None:
                hint = " (a column of ids is called 'id')" if id_column is None and model == models[0] else ""
                score = known[cell] = read_score(file, number, f"model {shorten(model)}", cell, hint)
            scores.append(score)
        n_rows += 1
    if n_rows < len(numbered):
        problem = f"ends after {_count(n_rows, 'row')}; {prompts_file.name} has {_count(len(numbered), 'prompt')}"
        raise wrong(file, number + 1, f"{problem}; expected a row for each, in the same order")
    return models, np.array(scores, np.float64).reshape(n_rows, len(models))


def _models(file: str, number: int, header: list[str]) -> tuple[str, ...]:
    """The models of a header, in its order."""
    if len(header) == 1 and (separator := next((each for each in ";\t" if each in header[0]), None)):
        raise wrong(file, number, f"columns are separated by {separator!r}; expected commas")
    for column, name in enumerate(header, start=1):
        if problem := problem_of_name(name):
            raise wrong(file, number, f"the name of column {column} {problem}; expected 'id' or the name of a model")
    twice = next((name for column, name in enumerate(header) if name in header[:column]), None)
    if twice is not None:
        raise wrong(file, number, f"two columns are called {shorten(twice)}; expected one for each model")
    models = tuple(name for name in header if name != "id")
    if not models:
        raise wrong(file, number, "no column of a model; expected a header such as: id,model-a,model-b")
    if len(models) > MAX_MODELS:
        raise wrong(file, number, f"{len(models)} models; at most {MAX_MODELS} are read")
    return models


def _check_id(file: str, number: int, found: str, prompts_file: Path, expected: tuple[int, Prompt]) -> None:
    line, prompt = expected
    if found != prompt.id:
        problem = f"the id is {shorten(found)}, but line {line} of {prompts_file.name} has {shorten(prompt.id)}"
        raise wrong(file, number, f"{problem}; expected the prompts' order")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
