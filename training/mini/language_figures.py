"""How many of the requests in `language_messages.yaml` a packaged encoder routes rightly, language by language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from archroute_edge import OTHER, Route, Router

_FILE: Final = Path(__file__).parent / "language_messages.yaml"
_TRAINED: Final = Path(__file__).parent / "languages"


@dataclass(frozen=True)
class LanguageFigures:
    """One language: the number of its requests, those routed rightly and those that became `other`; whether it was trained."""

    code: str
    trained: bool
    requests: int
    right: int
    other: int


def figures_by_language(model: Path) -> list[LanguageFigures]:
    """The figures of a GGUF, in the order of the file; raises ArchRouteError if it cannot be used."""
    content: Mapping[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    names = list(content["routes"])
    found = []
    with Router([Route(name, about) for name, about in content["routes"].items()], model=model, prefix_cache=False) as router:
        for code, requests in content["requests"].items():
            decided = [decision.route for decision in router.route_many(requests)]
            right = sum(route == name for route, name in zip(decided, names, strict=True))
            trained = code == "en" or (_TRAINED / f"{code}.yaml").is_file()
            found.append(LanguageFigures(code, trained, len(requests), right, decided.count(OTHER)))
    return found


def show(figures: list[LanguageFigures]) -> str:
    """A line for each language, the best first, those trained before the others; means below."""
    lines = [f"{'language':10}{'trained':>9}{'right':>8}{'other':>8}"]
    for one in sorted(figures, key=lambda one: (not one.trained, -one.right, one.code)):
        lines.append(f"{one.code:10}{'yes' if one.trained else 'no':>9}{one.right:>5}/{one.requests}{one.other:>8}")
    for trained, what in ((True, "trained"), (False, "not trained")):
        chosen = [one for one in figures if one.trained is trained]
        share = sum(one.right for one in chosen) / max(1, sum(one.requests for one in chosen))
        lines.append(f"{what}: {share:.1%} right in {len(chosen)} languages")
    return "\n".join(lines)
