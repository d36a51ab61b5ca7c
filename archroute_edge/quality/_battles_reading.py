"""Battles from files of JSON lines: two models, a prompt, and whose answer was better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from archroute_edge.config import shorten
from archroute_edge.errors import QualityError
from archroute_edge.quality._lines import LARGEST_FILE, Line, read_objects, shown
from archroute_edge.quality._outcomes import Battles, Prompt
from archroute_edge.quality._prompts_reading import group_of, messages_of

_LIKE: Final = '{"id": "...", "model_a": "...", "model_b": "...", "winner": "model_a"}'
_OWN_PROMPT: Final = ("prompt", "text", "messages")
_WON: Final[Mapping[object, float]] = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}


def read_battles(path: Path | str, prompts: Iterable[Prompt] = ()) -> Battles:
    """Battles of a file: lines of ``model_a``, ``model_b``, ``winner`` and a prompt. Other keys are ignored.

    A prompt stands in the line as ``prompt``, ``text`` or ``messages``, or the line has the ``id`` of one of ``prompts``. If
    sets share that id, ``set`` says which is meant. ``winner`` is ``model_a``, ``model_b``, ``tie`` or ``tie (bothbad)``.

    The battles have the prompts that are fought on, each once, and the models by name.

    Args:
        path: of the file, plain or packed with gzip; ``-`` is standard input.
        prompts: those that ids are looked up among, such as those of outcomes, or of :func:`read_prompts`.

    Raises:
        QualityError: the file cannot be read, a line is no battle, or there is none.
    """
    known = _Known(prompts, group_of(path))
    rows: list[tuple[int, str, str, float]] = []
    for line in read_objects(path, _LIKE, LARGEST_FILE):
        first, second = (line.name(key, "the name of a model") for key in ("model_a", "model_b"))
        if first == second:
            raise line.wrong(f"{shorten(first)} against itself; a battle has two models")
        winner = line.fields.get("winner")
        won = _WON.get(winner) if isinstance(winner, str) else None
        if won is None:
            said = f"'winner' is {shorten(winner)}" if isinstance(winner, str) else "no 'winner'"
            raise line.wrong(f"{said}; expected model_a, model_b, tie or tie (bothbad)")
        rows.append((known.number_of(line), first, second, won))
    if not rows:
        raise QualityError(f"{shown(path)} line 1: there are no battles; expected {_LIKE} on each line")
    models = tuple(sorted({name for _, first, second, _ in rows for name in (first, second)}))
    place = {name: number for number, name in enumerate(models)}
    return Battles(
        tuple(known.used),
        models,
        np.array([row[0] for row in rows], np.intp),
        np.array([place[row[1]] for row in rows], np.intp),
        np.array([place[row[2]] for row in rows], np.intp),
        np.array([row[3] for row in rows], np.float64),
    )


class _Known:
    """The prompts that battles are fought on, numbered as they come.

    Args:
        prompts: those that may be meant by an id.
        group: the set of those that stand in the file itself.
    """

    def __init__(self, prompts: Iterable[Prompt], group: str) -> None:
        self.used: list[Prompt] = []
        self._group = group
        self._by_id: dict[str, list[Prompt]] = {}
        for prompt in prompts:
            self._by_id.setdefault(prompt.id, []).append(prompt)
        self._numbers: dict[object, int] = {}
        self._own_ids: dict[str, object] = {}

    def number_of(self, line: Line) -> int:
        """The prompt of a line.

        Raises:
            QualityError: it has none, or its id is not known or not clear.
        """
        name = line.id()
        if name is not None and all(line.fields.get(key) is None for key in _OWN_PROMPT):
            prompt = self._looked_up(line, name)
            return self._number((prompt.group, prompt.id), prompt)
        if name is None and all(key not in line.fields for key in _OWN_PROMPT):
            raise line.wrong("no prompt; expected 'id', 'prompt', 'text' or 'messages'")
        messages, tokens = messages_of(line, _OWN_PROMPT)
        text = messages if isinstance(messages, str) else tuple((each["role"], each["content"]) for each in messages)
        if name is not None and self._own_ids.setdefault(name, text) != text:
            raise line.wrong(f"the id {shorten(name)} is that of another prompt on a line before; expected one for each prompt")
        return self._number(text, Prompt(name or str(line.number), messages, group=self._group, tokens=tokens))

    def _number(self, key: object, prompt: Prompt) -> int:
        number = self._numbers.setdefault(key, len(self.used))
        if number == len(self.used):
            self.used.append(prompt)
        return number

    def _looked_up(self, line: Line, name: str) -> Prompt:
        found = self._by_id.get(name, [])
        if len(found) > 1:
            group = line.fields.get("set")
            found = [prompt for prompt in found if prompt.group == group] or found
        if not found:
            raise line.wrong(f"no prompt has the id {shorten(name)}; give the file with it, or its 'text' in the line")
        if len(found) > 1:
            sets = ", ".join(sorted({prompt.group for prompt in found}))
            raise line.wrong(f"several prompts have the id {shorten(name)} (sets: {sets}); say which in 'set'")
        return found[0]
