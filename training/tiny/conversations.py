"""Conversations of one kind: a first request, later turns, changes of subject, thanks."""

from __future__ import annotations

import random

from training.tiny.kinds_bank import BANK_FOLDER, Kind, held_back
from training.tiny.noise import disturb
from training.yaml_files import read_yaml

Messages = list[dict[str, str]]

_PHRASES: dict[str, list[str]] = read_yaml(BANK_FOLDER / "small_talk.yaml")
CHATTER = [text for text in _PHRASES["irrelevant"] + _PHRASES["foreign"] if not held_back(text)]
HELD_CHATTER = [text for text in _PHRASES["irrelevant"] + _PHRASES["foreign"] if held_back(text)]
_THANKS = [text for text in _PHRASES["thanks"] if not held_back(text)]
_HELD_THANKS = [text for text in _PHRASES["thanks"] if held_back(text)]


def phrases(group: str) -> list[str]:
    """Everything that `small_talk.yaml` has of a group, such as `foreign` or `thanks`."""
    return list(_PHRASES[group])


def _say(messages: Messages, role: str, content: str) -> None:
    messages.append({"role": role, "content": content})


def _ask(messages: Messages, kind: Kind, rng: random.Random, held: bool) -> None:
    """Add a request of `kind`, and its template as `phrasing`."""
    phrasing = kind.phrasing(rng, held)
    messages.append({"role": "user", "content": disturb(kind.fill(phrasing, rng), rng), "phrasing": phrasing})


def _reply(rng: random.Random) -> str:
    return rng.choice(_PHRASES[rng.choice(["assistant_done", "assistant_asks"])])


def of_dialogue(kind: Kind, rng: random.Random, held: bool) -> Messages:
    """A recorded dialogue from the beginning of this intent, or a little before, up to a user turn of it."""
    pool = kind.held_dialogues if held and kind.held_dialogues else kind.dialogues
    recorded, begun, turn = rng.choice(pool)
    start = max(0, begun - rng.choice([0, 0, 0, 2, 4]))
    return [dict(message) for message in recorded[start : turn + 1]]


def of_kind(kind: Kind, before: Kind | None, rng: random.Random, held: bool, short_replies: bool = True) -> Messages:
    """A conversation whose latest intent is `kind`; `before` may be another kind that it was about earlier.

    Without `short_replies` no later turn is a bare "yes" or "again".
    """
    if kind.dialogues:
        return of_dialogue(kind, rng, held)
    shape = rng.random()
    messages: Messages = []
    if shape < 0.72:
        _ask(messages, kind, rng, held)
        return messages
    if shape < 0.84 and before is not None:
        for message in of_kind(before, None, rng, held=False)[-3:]:
            messages.append(message)
        _say(messages, "assistant", _reply(rng))
        later = kind.followup(rng, held) if rng.random() < 0.4 else None
        if later is None:
            _ask(messages, kind, rng, held)
        else:
            _say(messages, "user", disturb(later, rng))
        return messages
    _say(messages, "user", disturb(kind.request(rng, held), rng))
    for _ in range(rng.choice([1, 1, 1, 2])):
        _say(messages, "assistant", _reply(rng))
        later = kind.followup(rng, held) if rng.random() < 0.7 else None
        if later is None:
            later = rng.choice(_PHRASES["short_replies"]) if short_replies else kind.request(rng, held)
        _say(messages, "user", disturb(later, rng))
    return messages


def finished(kind: Kind, rng: random.Random, held: bool) -> Messages:
    """A conversation of a kind that ends with thanks: nothing is left to route."""
    messages = of_kind(kind, None, rng, held=False)
    _say(messages, "assistant", rng.choice(_PHRASES["assistant_done"]))
    _say(messages, "user", disturb(rng.choice(_HELD_THANKS if held else _THANKS), rng))
    return messages


def chatter(rng: random.Random, held: bool) -> Messages:
    """A message that asks for nothing."""
    return [{"role": "user", "content": disturb(rng.choice(HELD_CHATTER if held else CHATTER), rng)}]


def english_chatter(rng: random.Random, held: bool) -> Messages:
    """The same in English, for a model that reads little else and would take a language for the reason."""
    pool = [text for text in _PHRASES["irrelevant"] if held_back(text) == held]
    return [{"role": "user", "content": disturb(rng.choice(pool), rng)}]
