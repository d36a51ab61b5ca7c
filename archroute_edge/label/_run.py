"""Labelling files one after the other, beside others who do the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from archroute_edge.errors import LabelError
from archroute_edge.label._claims import Claim, ClaimLostError, Claims
from archroute_edge.label._files import InputFile
from archroute_edge.label._folder import LabelFolder
from archroute_edge.label._labeller import Labeller
from archroute_edge.label._rows import Fields, read_rows

_LOOK_S: Final = 1.0
"""How often to look at files that others are labelling."""
_PIECE: Final = 8
"""Rows that are read at once, if the model decides about one at a time."""


@dataclass
class Summary:
    """What a run did.

    Attributes:
        files: labelled by this process.
        files_before: labelled before it began.
        files_by_others: labelled by others meanwhile.
        unreadable: what is wrong with files that cannot be read, one line each.
        rows: labelled by this process, those with errors included.
        errors: rows that could not be decided about.
        seconds: from its beginning to the end of its last file.
    """

    files: int = 0
    files_before: int = 0
    files_by_others: int = 0
    unreadable: list[str] = field(default_factory=list)
    rows: int = 0
    errors: int = 0
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        """Throughput of this process."""
        return self.rows / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return {**asdict(self), "seconds": round(self.seconds, 3), "rows_per_second": round(self.rows_per_second, 1)}


class LabelRun:
    """Labels files until all of them are labelled, by this process or by others.

    Args:
        labeller: decides.
        inputs: the files.
        folder: where labels go.
        fields: what to read of a row.
        claims: keeps others from the same file.
        on_progress: called with the bytes of all files that are labelled, and with those of all.
        on_wait: called once with the number of files that others are at work on, when nothing else is left to do.
    """

    def __init__(
        self,
        labeller: Labeller,
        inputs: Sequence[InputFile],
        folder: LabelFolder,
        *,
        fields: Fields,
        claims: Claims,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        on_wait: Callable[[int], None] = lambda n_files: None,
    ) -> None:
        self._labeller = labeller
        self._folder = folder
        self._fields = fields
        self._claims = claims
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._open = list(inputs)
        self._all = sum(each.size for each in inputs)
        self._done = 0
        self.summary = Summary()

    def label_all(self) -> Summary:
        """Label what is left, and wait for what others have.

        Raises:
            ArchRouteError: the model failed, there is no room for labels, or the folder is another run's.
        """
        self._folder.describe()
        began = time.monotonic()
        self.summary.files_before = self._leave_out_labelled()
        told = False
        while self._open:
            n_open, n_rows = len(self._open), self.summary.rows
            for each in tuple(self._open):
                self._try(each)
            if self.summary.rows > n_rows:
                self.summary.seconds = time.monotonic() - began
            if self._open and n_open == len(self._open):
                if not told:
                    self._on_wait(len(self._open))
                    told = True
                time.sleep(min(_LOOK_S, self._claims.takeover_s / 4))
        return self.summary

    def _leave_out_labelled(self) -> int:
        labelled = [each for each in self._open if each.output.exists()]
        for each in labelled:
            self._close(each)
        self._on_progress(self._done, self._all)
        return len(labelled)

    def _close(self, source: InputFile) -> None:
        self._open.remove(source)
        self._done += source.size
        self._on_progress(self._done, self._all)

    def _try(self, source: InputFile) -> None:
        """Label a file, unless another process does, or has."""
        if source.output.exists():
            self.summary.files_by_others += 1
            self._close(source)
            return
        try:
            source.output.parent.mkdir(parents=True, exist_ok=True)
            claim = self._claims.take(source.output)
        except OSError as exc:
            raise LabelError(f"{source.output.parent}: cannot be written to ({exc.strerror or exc})") from exc
        if claim is None:
            return
        with claim:
            # It may have been finished between the look and the claim.
            if source.output.exists():
                return
            try:
                rows, errors = self._label(source, claim)
            except ClaimLostError:
                return
            except LabelError as exc:
                self.summary.unreadable.append(str(exc))
                self._close(source)
                return
        self.summary.files += 1
        self.summary.rows += rows
        self.summary.errors += errors
        self._close(source)

    def _label(self, source: InputFile, claim: Claim) -> tuple[int, int]:
        """Label a file; how many rows it has, and how many of them could not be decided about."""
        n_rows = n_errors = 0
        at_once = self._labeller.at_once if self._labeller.at_once > 1 else _PIECE
        pieces = read_rows(source.path, self._fields, is_parquet=source.is_parquet, at_once=at_once)
        # Read before the writer opens: a file that cannot be read is said to be so by its reader.
        piece = next(pieces, None)
        try:
            with claim.written() as partial, self._folder.writing(source, partial, self._fields) as writer:
                while piece is not None:
                    labels = self._labeller.label(piece.rows, [f"{source.name}:{row.number}" for row in piece.rows])
                    writer.write(labels)
                    n_rows += len(labels)
                    n_errors += sum(label.error is not None for label in labels)
                    claim.check()
                    self._on_progress(self._done + int(piece.share * source.size), self._all)
                    piece = next(pieces, None)
        except OSError as exc:
            raise OSError(exc.errno, f"{source.output}: cannot be written: {exc.strerror or exc}") from exc
        return n_rows, n_errors
