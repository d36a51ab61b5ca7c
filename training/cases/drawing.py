"""Cases from messages with intents: route tables drawn from the intents, and messages drawn for each table."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from archroute_edge.routes import OTHER
from training.cases.errors import DataSetError
from training.cases.published_intents import LabelledMessages

_DESCRIPTIONS: Final = Path(__file__).parent / "intents.yaml"


@dataclass(frozen=True)
class Drawing:
    """The numbers to draw.

    Attributes:
        count: cases in all.
        tables: route tables that they are spread over.
        routes: routes of each table.
        other: share of the cases that belong to no intent.
        across_domains: draw the routes of a table from all domains and not from one.
        seed: the same seed, the same cases.
    """

    count: int
    tables: int
    routes: int
    other: float = 0.0
    across_domains: bool = False
    seed: int = 0


def descriptions(data_set: str) -> dict[str, str]:
    """Our descriptions of the intents of a data set, by intent."""
    found: dict[str, dict[str, str]] = yaml.safe_load(_DESCRIPTIONS.read_text(encoding="utf-8"))
    return found[data_set]


def words_of(name: str) -> list[str]:
    """The words of an identifier in lower case, such as ``pin_blocked`` or ``FindBus``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\W_]+", " ", name).lower().split()


def draw_cases(data_set: str, labelled: LabelledMessages, drawing: Drawing) -> Iterator[dict[str, Any]]:
    """Lines of a file of cases, table after table. No message comes twice with one table.

    Raises:
        DataSetError: more is asked for than the data set holds.
    """
    rng = random.Random(drawing.seed)
    described = descriptions(data_set)
    pools = {intent: _Pool(texts, rng) for intent, texts in sorted(labelled.messages.items())}
    out_of_scope = _Pool(labelled.out_of_scope, rng)
    for index, (domain, intents) in enumerate(_tables(labelled, drawing, rng)):
        routes = [{"name": intent, "description": described.get(intent) or " ".join(words_of(intent))} for intent in intents]
        n_cases = drawing.count * (index + 1) // drawing.tables - drawing.count * index // drawing.tables
        labels = [OTHER if rng.random() < drawing.other else rng.choice(intents) for _ in range(n_cases)]
        taken = {label: iter(_take(pools.get(label, out_of_scope), n, label)) for label, n in Counter(labels).items()}
        for label in labels:
            tags = [data_set, domain, "single-turn", *([OTHER] if label == OTHER else [])]
            message = {"role": "user", "content": next(taken[label])}
            yield {"messages": [message], "route": label, "tags": tags, "routes": routes}


def _tables(labelled: LabelledMessages, drawing: Drawing, rng: random.Random) -> Iterator[tuple[str, list[str]]]:
    if drawing.across_domains:
        candidates: Mapping[str, Sequence[str]] = {"all-domains": sorted(labelled.messages)}
    else:
        present = {domain: sorted(labelled.messages.keys() & set(each)) for domain, each in sorted(labelled.domains.items())}
        candidates = {domain: intents for domain, intents in present.items() if len(intents) >= drawing.routes}
        largest = max((len(intents) for intents in present.values()), default=0)
        if not candidates:
            raise DataSetError(f"no domain has {drawing.routes} intents, the largest has {largest}; ask for fewer routes")
    domains = rng.sample(list(candidates), len(candidates))
    for index in range(drawing.tables):
        domain = domains[index % len(domains)]
        if drawing.routes > len(candidates[domain]):
            raise DataSetError(f"{drawing.routes} routes are more than the {len(candidates[domain])} intents that there are")
        yield domain, rng.sample(candidates[domain], drawing.routes)


class _Pool:
    """Texts in a drawn order, handed out in turn; after the last one the first comes again."""

    def __init__(self, texts: Sequence[str], rng: random.Random) -> None:
        self.texts = rng.sample(sorted(set(texts)), len(set(texts)))
        self.next = 0


def _take(pool: _Pool, n_texts: int, label: str) -> list[str]:
    if n_texts > len(pool.texts):
        raise DataSetError(
            f"one table would need {n_texts} messages of {label}, and the split has {len(pool.texts)}; "
            "ask for fewer cases, or spread them over more tables"
        )
    start = pool.next
    pool.next = (start + n_texts) % len(pool.texts)
    return [pool.texts[(start + offset) % len(pool.texts)] for offset in range(n_texts)]
