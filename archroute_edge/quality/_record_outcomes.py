"""Outcomes from the gateway's record, as ``archroute log export --outcomes`` writes it.

A line of an export is a request with the models that were asked, and with the grades of their answers that have one. The
request's text is there only if texts were recorded. So prompts are the requests with a text and a grade, and their routes are
their categories. Grades may also come from a file beside the export.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from archroute_edge.config import shorten
from archroute_edge.conversation import read_messages
from archroute_edge.errors import ConversationError
from archroute_edge.quality._graded import Graded
from archroute_edge.quality._lines import Line, shown
from archroute_edge.quality._outcomes import Prompt
from archroute_edge.quality._prompts_reading import group_of, tokens_of_all, turns_as_messages

_LIKE: Final = '{"id": "...", "request": "...", "outcomes": [...]}'


def read_record(path: Path | str, lines: Iterable[Line]) -> Graded:
    """The requests of an export of the record, also those without a text or a grade.

    Args:
        path: of the file; ``-`` is standard input.
        lines: of the file.

    Raises:
        QualityError: the file cannot be read or is wrong at some line.
    """
    found = Graded(shown(path), is_record=True)
    group = group_of(path)
    for line in lines:
        name = line.name("id", f"a request of the record: {_LIKE}")
        if name in found.prompts:
            raise line.wrong(f"the request {shorten(name)} stands on a line before, too; expected each once")
        found.prompts[name] = _prompt(line, name, group)
        found.grades[name] = _grades(line)
    return found


def _prompt(line: Line, name: str, group: str) -> Prompt | None:
    """The request of a line; None if its text was not recorded."""
    request = line.fields.get("request")
    if request is None:
        return None
    if not isinstance(request, str):
        raise line.wrong("'request' is no text; expected the request's body as it was sent")
    try:
        body = json.loads(request)
    except (ValueError, RecursionError):
        return None
    messages = (body.get("messages") or body.get("input")) if isinstance(body, Mapping) else None
    if isinstance(messages, list):
        # Items of the Responses API that are no messages, such as calls of tools, have no role.
        messages = [each for each in messages if isinstance(each, Mapping) and "role" in each]
    try:
        turns = read_messages(messages or [])
    except ConversationError:
        return None
    route = line.name("route", "a route's name") if line.fields.get("route") is not None else None
    return Prompt(name, turns_as_messages(turns), route, group, tokens_of_all(turns)) if turns else None


def _grades(line: Line) -> dict[str, list[float]]:
    outcomes = line.fields.get("outcomes")
    if not isinstance(outcomes, list):
        raise line.wrong(f"no 'outcomes'; expected {_LIKE}, which archroute log export --outcomes writes")
    grades: dict[str, list[float]] = {}
    for number, one in enumerate(outcomes, start=1):
        if not isinstance(one, dict):
            raise line.wrong(f"outcome {number} is no object; expected one with 'model'")
        fields: dict[str, Any] = one
        model = Line(line.file, line.number, fields).name("model", f"the model of outcome {number}")
        if fields.get("score") is not None:
            grades.setdefault(model, []).append(line.score(fields["score"], f"'score' of outcome {number}"))
    return grades
