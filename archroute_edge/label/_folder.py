"""The folder of labels: which run its labels are of, and how they are written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.config import QualityPolicy, RoutingConfig
from archroute_edge.errors import LabelError
from archroute_edge.label._claims import ClaimLostError, Claims
from archroute_edge.label._files import InputFile
from archroute_edge.label._labeller import Label
from archroute_edge.label._rows import Fields, column_of, open_parquet
from archroute_edge.system import file_digest
from archroute_edge.targets import predictor_path

if TYPE_CHECKING:
    import pyarrow as pa

_LOOK_S: Final = 0.1
"""How often to look while another process writes the description."""


def config_digest(config: RoutingConfig) -> str:
    """A SHA-256 (hex) of what a configuration says about labels: routes, models, predictors, and how traffic is shared."""
    forward = config.forward
    quality = {name: _deciding(policy) for name, policy in config.quality.items()}
    routes = (config.table.routes, config.default_model, config.aliases, config.selection, quality)
    deciding = (*routes, forward.models, forward.routes, forward.aliases)
    return hashlib.sha256(repr(deciding).encode()).hexdigest()


def _deciding(policy: QualityPolicy) -> tuple[QualityPolicy, str | None]:
    """A policy and the SHA-256 of its predictor, which may stand elsewhere on another machine; without places and times."""
    try:
        predictor = file_digest(predictor_path(policy), like="0" * 64)
    except (OSError, ValueError):
        # The router says what is wrong with it.
        predictor = None
    names = dict(sorted(policy.scored_as.items()))
    return replace(policy, predictor=None, scored_as=names, line=None, modified=None), predictor


class LabelFolder:
    """Labels of one run, each file of them whole.

    Args:
        path: the folder, which is made.
        run: everything that decides the labels, as JSON values by a word for each.
        scores: whether labels have scores.

    Raises:
        LabelError: the folder has labels of another run, or cannot be used.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], inputs: Iterable[InputFile], *, scores: bool) -> None:
        self.path = path
        self.scores = scores
        self._run = run
        # Ray's actors work in folders of their own.
        self._described = path.absolute() / "_label.json"
        with self._used():
            path.mkdir(parents=True, exist_ok=True)
            if self._described.exists():
                _compare(self._described, run)
            elif there := [each.output for each in inputs if each.output.exists()]:
                raise LabelError(f"{there[0]}: is there already, and is no label of this run; choose another folder with -o")

    def describe(self) -> None:
        """Write down which run the folder is of, once the model is loaded: one that cannot be is no run.

        Raises:
            LabelError: another run was faster, or the folder cannot be used.
        """
        with self._used():
            claims = Claims()
            while not self._described.exists():
                claim = claims.take(self._described)
                if claim is None:
                    time.sleep(_LOOK_S)
                    continue
                with claim, contextlib.suppress(ClaimLostError):
                    # It may have been written between the look and the claim.
                    if not self._described.exists():
                        with claim.written() as partial:
                            partial.write_text(json.dumps(self._run, indent=2) + "\n", encoding="utf-8")
            _compare(self._described, self._run)

    @contextmanager
    def _used(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise LabelError(f"{self.path}: cannot be used as the folder of labels ({exc.strerror or exc})") from exc

    @contextmanager
    def writing(self, source: InputFile, partial: Path, fields: Fields) -> Iterator[LabelWriter]:
        """A writer of the labels of one file, in that file's format.

        Raises:
            OSError: they cannot be written.
        """
        writer = (
            ParquetWriter(source.path, partial, fields, self.scores) if source.is_parquet else LineWriter(partial, self.scores)
        )
        try:
            yield writer
        finally:
            writer.close()


def _compare(described: Path, run: Mapping[str, Any]) -> None:
    try:
        there = json.loads(described.read_bytes())
    except ValueError as exc:
        raise LabelError(f"{described}: is damaged; delete the folder, or choose another one with -o") from exc
    wanted = json.loads(json.dumps(run))
    if other := [name for name in wanted if not isinstance(there, dict) or there.get(name) != wanted[name]]:
        raise LabelError(
            f"{described.parent}: has labels of another run, which differs in {', '.join(other)}; choose another folder with -o"
        )


class LineWriter:
    """Labels as JSON, one a line. What has no value is left out."""

    def __init__(self, path: Path, scores: bool) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._scores = scores

    def write(self, labels: Sequence[Label]) -> None:
        """Append labels."""
        for each in labels:
            values = each.to_dict(scores=self._scores)
            self._file.write(json.dumps({name: value for name, value in values.items() if value is not None}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetWriter:
    """Labels as Parquet. The id has the type that it has in the file that is labelled."""

    def __init__(self, source: Path, path: Path, fields: Fields, scores: bool) -> None:
        import pyarrow.parquet as pq

        self._scores = scores
        self._schema = label_schema(_id_type(source, fields.id), scores)
        self._writer = pq.ParquetWriter(path, self._schema)

    def write(self, labels: Sequence[Label]) -> None:
        """Append labels."""
        if labels:
            self._writer.write_table(label_table(labels, self._schema, self._scores))

    def close(self) -> None:
        """Write the end, without which the file is none."""
        self._writer.close()


LabelWriter = LineWriter | ParquetWriter


def label_schema(id_type: pa.DataType, scores: bool) -> pa.Schema:
    """The columns of labels, as :meth:`Label.to_dict` has them."""
    import pyarrow as pa

    columns = [
        *(("row", pa.int64()), ("id", id_type), ("route", pa.string()), ("model", pa.string()), ("confidence", pa.float64())),
        *(("decided_by", pa.string()), ("reason", pa.string()), ("trimmed", pa.bool_()), ("error", pa.string())),
    ]
    return pa.schema([*columns, *([("scores", pa.map_(pa.string(), pa.float64()))] if scores else [])])


def label_table(labels: Sequence[Label], schema: pa.Schema, scores: bool) -> pa.Table:
    """Labels as a table."""
    import pyarrow as pa

    rows = [each.to_dict(scores=scores) for each in labels]
    if scores:
        rows = [{**row, "scores": None if row["scores"] is None else list(row["scores"].items())} for row in rows]
    return pa.Table.from_pylist(rows, schema)


def _id_type(source: Path, field: str) -> pa.DataType:
    import pyarrow as pa

    with open_parquet(source) as file:
        schema = file.schema_arrow
    if column_of(schema.names, field) is None:
        return pa.null()
    if field in schema.names:
        return schema.field(field).type
    found = schema.field(field.partition(".")[0]).type
    for part in field.split(".")[1:]:
        if not pa.types.is_struct(found) or found.get_field_index(part) < 0:
            return pa.null()
        found = found.field(part).type
    return found
