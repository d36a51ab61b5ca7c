"""The same on a Ray cluster: Ray Data reads the files, shares out the rows, and keeps which are done.

An actor holds a router. Ray starts as many as the cluster has room for, and calls again what a node that is lost had not
finished. Its checkpoints name each row whose label is written, so that another run leaves those out.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.config import RoutingConfig
from archroute_edge.conversation import read_messages
from archroute_edge.errors import ArchRouteError, ConversationError, LabelError, SettingsError
from archroute_edge.label._claims import Claims
from archroute_edge.label._files import InputFile
from archroute_edge.label._folder import LabelFolder, label_schema, label_table
from archroute_edge.label._labeller import Labeller
from archroute_edge.label._rows import Fields, Row, read_rows
from archroute_edge.label._run import Summary
from archroute_edge.routing import Router

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_BYTES: Final = 4 << 20
"""Rows that one call gets, at most. A node that is lost costs about as much."""
_READ_AT_ONCE: Final = 256
_SIDE_CPUS: Final = 0.25
"""What reading a file, or writing one, takes of a processor."""
_KEY: Final = "key"
_CHECKPOINTS: Final = "_ray_checkpoint"
_RUN: Final = "_ray_run"
"""What a run claims."""
_LOOK_S: Final = 1.0
_PATIENCE: Final = 1.5
"""How long to wait for the claim of a run that may have ended, of the time after which it is known to have."""


@dataclass(frozen=True)
class RouterRecipe:
    """What an actor makes its router from. Relative names in the settings are below ``place``, where the run was started."""

    config: RoutingConfig
    settings: Mapping[str, Any]
    scores: bool
    place: Path = field(default_factory=Path.cwd)

    def open(self) -> Router:
        """The router, on as many threads as it takes processors of the cluster. This process works at the place from now on."""
        # A node that has no such folder has nothing below it, either.
        with contextlib.suppress(OSError):
            os.chdir(self.place)
        return Router(config=self.config, **{**self.settings, "threads": self.threads})

    @property
    def threads(self) -> int:
        """How many threads it has."""
        return self.settings.get("threads") or 1

    def check(self) -> None:
        """Open the router once.

        Raises:
            ArchRouteError: it cannot be made.
        """
        self.open().close()


def need_ray() -> None:
    """Go on only if Ray is installed.

    Raises:
        SettingsError: it is not.
    """
    if find_spec("ray") is None:
        raise SettingsError("--ray needs ray, which is not installed: pip install 'archroute-edge[ray]'")


def label_on_ray(
    address: str,
    recipe: RouterRecipe,
    inputs: Sequence[InputFile],
    folder: LabelFolder,
    fields: Fields,
    *,
    shows_progress: bool = False,
) -> Summary:
    """Label files on a running cluster. Their nodes need the inputs and the folder under the same names, and this package.

    Args:
        address: of the cluster; ``auto`` is the one that this machine belongs to.
        recipe: the router of each actor. Its number of threads, one by default, is what an actor takes of the cluster.
        inputs: the files.
        folder: where the labels go, as files of Parquet. A row of them has the name of its file, too.
        fields: what to read of a row.
        shows_progress: whether Ray draws its bars on stderr.

    Raises:
        SettingsError: there is no cluster, or it is too small.
        LabelError: the cluster failed, or another run is at work in the folder.
    """
    with alone_in(folder.path, Claims()):
        return _label(address, recipe, inputs, folder, fields, shows_progress)


@contextmanager
def alone_in(folder: Path, claims: Claims) -> Iterator[None]:
    """Keep other runs on Ray out of a folder while the block lasts: the rows that they leave out are read at their start.

    Raises:
        LabelError: another run is at work there, or the folder cannot be written to.
    """
    until = time.monotonic() + _PATIENCE * claims.takeover_s
    try:
        while (claim := claims.take(folder / _RUN)) is None:
            if time.monotonic() > until:
                raise LabelError(
                    f"{folder}: another run on Ray is at work there; wait for it, or choose another folder with -o"
                )
            time.sleep(min(_LOOK_S, claims.takeover_s / 4))
    except OSError as exc:
        raise LabelError(f"{folder}: cannot be written to ({exc.strerror or exc})") from exc
    with claim:
        yield


def _label(
    address: str,
    recipe: RouterRecipe,
    inputs: Sequence[InputFile],
    folder: LabelFolder,
    fields: Fields,
    shows_progress: bool,
) -> Summary:
    import ray
    from ray.data.checkpoint import CheckpointConfig

    try:
        ray.init(address=address, log_to_driver=False, logging_level="WARNING")
    except (ConnectionError, ValueError, RuntimeError) as exc:
        raise SettingsError(f"--ray {address}: no Ray cluster there ({_shown(exc)}); start one with ray start --head") from exc
    began = time.monotonic()
    before = {path.name for path in folder.path.glob("*.parquet")}
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = shows_progress
        context.target_max_block_size = _BLOCK_BYTES
        checkpoints = str(folder.path.absolute() / _CHECKPOINTS)
        context.checkpoint_config = CheckpointConfig(_KEY, checkpoints, delete_checkpoint_on_success=False)
        n_cpus, threads = ray.cluster_resources().get("CPU", 0.0), recipe.threads
        most = actors_for(n_cpus, threads)
        if most < 1:
            raise SettingsError(f"--ray {address}: the cluster has {n_cpus:g} CPUs, and labelling needs {threads + 2}")
        # A mistake in a setting is one line then. Ray tries actors again and again, and shows where in its processes they end.
        ray.get(ray.remote(num_cpus=threads)(RouterRecipe.check).remote(recipe))
        # Each leaves out rows that are labelled already, and takes a processor.
        context.checkpoint_config.checkpoint_actor_pool_max_size = max(1, int(n_cpus // 20))
        labels = ray.data.read_datasource(_datasource(inputs, fields), num_cpus=_SIDE_CPUS).map_batches(
            RayLabeller,
            fn_constructor_args=(recipe, folder),
            batch_format="pyarrow",
            batch_size=_READ_AT_ONCE,
            num_cpus=threads,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
        )
        labels.write_parquet(str(folder.path.absolute()), ray_remote_args={"num_cpus": _SIDE_CPUS})
    except ray.exceptions.RayTaskError as exc:
        # Of the check; what fails in an actor is another error.
        raise exc.cause if isinstance(exc.cause, ArchRouteError) else LabelError(f"Ray failed: {_shown(exc)}") from exc
    except (ray.exceptions.RayError, RuntimeError, OSError) as exc:
        raise LabelError(f"Ray failed: {_shown(exc)}") from exc
    finally:
        ray.shutdown()
    written = [path for path in folder.path.glob("*.parquet") if path.name not in before]
    n_rows, n_errors = _count(written)
    return Summary(files=len(inputs), rows=n_rows, errors=n_errors, seconds=time.monotonic() - began)


def actors_for(n_cpus: float, threads: int) -> int:
    """How many actors a cluster has room for, beside those that read checkpoints, and the tasks that read and write.

    Ray places actors first, and would wait for ever for a processor that is left to read with.
    """
    return int((n_cpus - 1 - max(1.0, n_cpus / 10)) // threads)


class RayLabeller:
    """An actor: rows to labels, with a router of its own.

    It describes the folder, once its model is loaded: a node that cannot load it leaves the folder free.
    """

    def __init__(self, recipe: RouterRecipe, folder: LabelFolder) -> None:
        self._labeller = Labeller(recipe.open(), scores=recipe.scores)
        folder.describe()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The labels of a table of rows."""
        import pyarrow as pa

        found = batch.to_pylist()
        rows = [_row_of(each) for each in found]
        at_once = self._labeller.at_once
        labels = [
            label
            for start in range(0, len(rows), at_once)
            for label in self._labeller.label(
                rows[start : start + at_once], [each[_KEY] for each in found[start : start + at_once]]
            )
        ]
        scores = self._labeller.scores
        table = label_table(labels, label_schema(pa.string(), scores), scores)
        return pa.table([batch[_KEY], batch["file"], *table.columns], names=[_KEY, "file", *table.column_names])


def _datasource(inputs: Sequence[InputFile], fields: Fields) -> Any:
    """The files as what Ray reads: a task each, on whichever node."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Conversations(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int:
            return sum(each.size for each in inputs)

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            # A node's processes work in folders of their own.
            absolute = [replace(each, path=each.path.absolute()) for each in inputs]
            return [
                ReadTask(
                    lambda file=each: read_tables(file, fields),
                    BlockMetadata(num_rows=None, size_bytes=each.size, input_files=(str(each.path),), exec_stats=None),
                )
                for each in absolute
            ]

    return Conversations()


def read_tables(file: InputFile, fields: Fields) -> Iterator[pa.Table]:
    """The rows of a file as tables. A file that cannot be read is a row 0 with an error, as the rest goes on."""
    import pyarrow as pa

    schema = pa.schema(
        [(_KEY, pa.string()), ("file", pa.string()), ("row", pa.int64())]
        + [(name, pa.string()) for name in ("id", "messages", "error")]
    )

    def table(rows: Sequence[Row]) -> pa.Table:
        values = []
        for row in rows:
            messages, error = _messages_of(row)
            name = row.id if row.id is None or isinstance(row.id, str) else json.dumps(row.id, default=str)
            texts = {_KEY: f"{file.name}:{row.number}", "file": file.name, "id": name, "messages": messages, "error": error}
            values.append({"row": row.number, **{column: _unicode(text) for column, text in texts.items()}})
        return pa.Table.from_pylist(values, schema)

    try:
        for piece in read_rows(file.path, fields, is_parquet=file.is_parquet, at_once=_READ_AT_ONCE):
            yield table(piece.rows)
    except ArchRouteError as exc:
        yield table([Row(0, error=str(exc))])


def _row_of(values: Mapping[str, Any]) -> Row:
    """A row of a table as it was read."""
    number, name, text, error = (values[each] for each in ("row", "id", "messages", "error"))
    try:
        return Row(number, name, None if text is None else json.loads(text), error)
    except RecursionError:
        return Row(number, name, error=_too_deep(number))


def _messages_of(row: Row) -> tuple[str | None, str | None]:
    """A row's messages as JSON, or what is wrong with the row: the same that a router on this machine would say."""
    if row.messages is None:
        return None, row.error
    try:
        return json.dumps(row.messages), row.error
    except RecursionError:
        return None, _too_deep(row.number)
    except TypeError:
        # JSON has no form for bytes or times. It does not matter where nobody reads them.
        try:
            read_messages(row.messages)
        except ConversationError as exc:
            return None, f"row {row.number}: {exc}"
        return json.dumps(row.messages, default=str), row.error


def _too_deep(number: int) -> str:
    return f"row {number}: nested too deep"


def _unicode(text: str | None) -> str | None:
    """A text that a table can hold: half a surrogate pair, of JSON or of a file's name, stands as its number."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _count(written: Sequence[Path]) -> tuple[int, int]:
    """The rows in files of labels, and those that have an error."""
    import pyarrow.parquet as pq

    n_rows = n_errors = 0
    for path in written:
        errors = pq.read_table(path, columns=["error"])["error"]
        n_rows += len(errors)
        n_errors += len(errors) - errors.null_count
    return n_rows, n_errors


def _shown(exc: BaseException) -> str:
    # Ray's messages have the traces of processes in front, and the cause at their end.
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(exc).__name__
