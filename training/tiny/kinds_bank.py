"""Kinds of request: the subjects of routes, with names, descriptions and phrasings.

A bank (`kinds/*.yaml`) holds `slots` (word -> fillers) and `kinds`; a phrasing is a template whose `{word}` is replaced by a
filler. Public data sets become kinds of the same shape in `public_data.py`.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.yaml_files import read_yaml

HELD_BACK_PERCENT = 12
BANK_FOLDER = Path(__file__).parent / "kinds"
_SLOT = re.compile(r"\{\{|\}\}|\{(\w+)\}")


def held_back(text: str) -> bool:
    """Whether a phrasing is kept out of the training: a fixed 12 % by hash of its text."""
    return int.from_bytes(hashlib.sha256(text.strip().lower().encode()).digest()[:4], "big") % 100 < HELD_BACK_PERCENT


@dataclass
class Kind:
    """One kind of request. `train` and `held` are phrasings (templates unless `slots` is empty).

    `domain` is its part of the source, if the source has such parts.
    """

    id: str
    source: str
    names: list[str]
    descriptions: list[str]
    train: list[str]
    held: list[str]
    near: set[str] = field(default_factory=set)
    followups: list[str] = field(default_factory=list)
    held_followups: list[str] = field(default_factory=list)
    slots: dict[str, list[str]] = field(default_factory=dict)
    dialogues: list[Any] = field(default_factory=list)
    held_dialogues: list[Any] = field(default_factory=list)
    domain: str = ""

    def fill(self, template: str, rng: random.Random) -> str:
        """Replace every slot of a phrasing; a filler may hold slots, and braces that are none."""
        if not self.slots:
            return template

        def filler(match: re.Match[str]) -> str:
            if match.group(1) is None:
                return match.group(0)[0]
            fillers = self.slots.get(match.group(1))
            return self.fill(rng.choice(fillers), rng) if fillers else match.group(0)

        return _SLOT.sub(filler, template)

    def phrasing(self, rng: random.Random, held: bool) -> str:
        """A phrasing of a first message, one that training sees or one that it does not; its slots are still empty."""
        return rng.choice(self.held if held and self.held else self.train)

    def request(self, rng: random.Random, held: bool) -> str:
        """A first message of this kind, of a phrasing that training sees or of one that it does not."""
        return self.fill(self.phrasing(rng, held), rng)

    def followup(self, rng: random.Random, held: bool) -> str | None:
        """A later message of this kind, or None if the kind has none."""
        pool = self.held_followups if held and self.held_followups else self.followups
        return self.fill(rng.choice(pool), rng) if pool else None


def split_phrasings(phrasings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Phrasings for training and held-back ones, without repetitions."""
    unique = list(dict.fromkeys(phrasings))
    return [p for p in unique if not held_back(p)], [p for p in unique if held_back(p)]


def load_banks(folder: Path = BANK_FOLDER) -> dict[str, Kind]:
    """Read every bank of a folder.

    Raises ValueError, naming file and kind, for an id used twice or a slot that the file does not define.
    """
    kinds: dict[str, Kind] = {}
    for path in sorted(folder.glob("*.yaml")):
        bank = read_yaml(path)
        slots = {word: [str(f) for f in fillers] for word, fillers in (bank.get("slots") or {}).items()}
        for entry in bank.get("kinds", []):
            kind = _read_kind(entry, path.stem, slots)
            if kind.id in kinds:
                raise ValueError(f"{path.name}: kind {kind.id!r} is defined twice; rename one of them")
            kinds[kind.id] = kind
    for kind in kinds.values():
        kind.near &= kinds.keys()
        for other in kind.near:
            kinds[other].near.add(kind.id)
    return kinds


def _read_kind(entry: dict[str, Any], source: str, slots: dict[str, list[str]]) -> Kind:
    train, held = split_phrasings([str(r) for r in entry["requests"]])
    follow, held_follow = split_phrasings([str(r) for r in entry.get("followups") or []])
    kind = Kind(
        id=entry["kind"],
        source=source,
        names=[str(n) for n in entry["names"]],
        descriptions=[str(d) for d in entry["descriptions"]],
        train=train,
        held=held,
        near=set(entry.get("near") or []) - {entry["kind"]},
        followups=follow,
        held_followups=held_follow,
        slots=slots,
    )
    for template in train + held + follow + held_follow:
        for match in _SLOT.finditer(template):
            if match.group(1) is not None and match.group(1) not in slots:
                raise ValueError(f"{source}.yaml: kind {kind.id!r}: no slot {match.group(1)!r} for {template!r}")
    return kind
