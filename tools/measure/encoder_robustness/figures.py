"""What was found: for each change, how many decisions it turned, and how many it left right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from archroute_edge.report import Column, Share, percent, values
from tools.measure.encoder_robustness.probes import Change, Question


@dataclass(frozen=True)
class Row:
    """The figures of a change.

    Attributes:
        changed: decisions for another route than before, a renamed route counting as the same.
        right_before: right decisions before the change.
        right_after: right decisions after it.
        stayed_right: right decisions after it, of those that were right before.
    """

    kind: str
    change: str
    changed: Share
    right_before: Share
    right_after: Share
    stayed_right: Share


def _share(key: str) -> Column:
    return Column(key, key.replace("_", " "), attrgetter(key), lambda share: percent(share.share))


COLUMNS: Final = (
    Column("kind", "", attrgetter("kind")),
    Column("change", "change", attrgetter("change")),
    Column("decisions", "decisions", attrgetter("changed.total")),
    *(_share(key) for key in ("changed", "right_before", "right_after", "stayed_right")),
)


def row_of(change: Change, answers: Mapping[Question, str]) -> Row:
    """The figures of a change, from the decided route of every question."""
    changed = before = after = both = 0
    for probe in change.probes:
        first, second = answers[probe.before], answers[probe.after]
        changed += second != probe.names.get(first, first)
        was_right, is_right = first == probe.right, second == probe.names.get(probe.right, probe.right)
        before += was_right
        after += is_right
        both += was_right and is_right
    total = len(change.probes)
    return Row(change.kind, change.name, Share(changed, total), Share(before, total), Share(after, total), Share(both, before))


def markdown(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of a table; a row says its kind where it is another than the row's before."""
    yield f"| {' | '.join(column.title for column in COLUMNS)} |"
    yield "|---" * 2 + "|---:" * (len(COLUMNS) - 2) + "|"
    kind = None
    for row in rows:
        cells = [cell for column in COLUMNS for cell in column.cells(row)]
        cells[0] = "" if row.kind == kind else row.kind
        kind = row.kind
        yield f"| {' | '.join(cells)} |"


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for ``json.dumps``; a share with its count, total and 95 % interval."""
    return [values(COLUMNS, row) for row in rows]
