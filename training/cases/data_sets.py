"""The public data sets that cases can be made from: where they are published, under which licence, and how to fetch them.

None of their data is part of this project. Fetched files go to ``datasets`` in ``$ARCHROUTE_CACHE_DIR``, or in the user's cache
folder, laid out as published, and are not fetched again.
"""

from __future__ import annotations

import functools
import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from archroute_edge.system import replaced_when_whole
from training.cases.errors import DataSetError

PUBLISHED_AT: Final = "https://raw.githubusercontent.com"
_MEGABYTE: Final = 1 << 20
_PATIENCE_S: Final = 30.0
_CHUNK: Final = 1 << 16

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DataSet:
    """A data set as published.

    Attributes:
        name: its name in the command.
        repository: its path below :data:`PUBLISHED_AT`, with the branch.
        files: the files of each split, with the size in bytes above which it must be something else.
        attribution: title, authors and licence, as the licence asks for them to be named.
    """

    name: str
    repository: str
    files: Mapping[str, Mapping[str, int]]
    attribution: str


def _schema_guided_files(split: str, n_files: int) -> dict[str, int]:
    dialogues = {f"{split}/dialogues_{number:03}.json": 20 * _MEGABYTE for number in range(1, n_files + 1)}
    return {f"{split}/schema.json": 2 * _MEGABYTE, **dialogues}


_CLINC150_FILES = {"data/data_full.json": 20 * _MEGABYTE, "data/domains.json": _MEGABYTE}

CLINC150: Final = DataSet(
    "clinc150",
    "clinc/oos-eval/master",
    dict.fromkeys(("train", "val", "test"), _CLINC150_FILES),
    "CLINC150, from Larson et al., An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction (2019), "
    "https://github.com/clinc/oos-eval, licensed under CC BY 3.0",
)
BANKING77: Final = DataSet(
    "banking77",
    "PolyAI-LDN/task-specific-datasets/master",
    {split: {f"banking_data/{split}.csv": 20 * _MEGABYTE} for split in ("train", "test")},
    "BANKING77, from Casanueva et al., Efficient Intent Detection with Dual Sentence Encoders (2020), "
    "https://github.com/PolyAI-LDN/task-specific-datasets, licensed under CC BY 4.0",
)
SCHEMA_GUIDED: Final = DataSet(
    "sgd",
    "google-research-datasets/dstc8-schema-guided-dialogue/master",
    {split: _schema_guided_files(split, n_files) for split, n_files in (("train", 127), ("dev", 20), ("test", 34))},
    "Schema-Guided Dialogue, from Rastogi et al., Towards Scalable Multi-domain Conversational Agents (2019), "
    "https://github.com/google-research-datasets/dstc8-schema-guided-dialogue, licensed under CC BY-SA 4.0",
)


def cache_folder() -> Path:
    """Where fetched data sets are kept."""
    override = os.environ.get("ARCHROUTE_CACHE_DIR")
    return (Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("archroute-edge"))) / "datasets"


def fetch(data_set: DataSet, split: str, on_progress: OnProgress) -> Path:
    """Fetch the files of a split that are not in the cache yet; returns their folder.

    Args:
        data_set: which one.
        split: one of ``data_set.files``.
        on_progress: called with a step, the bytes that have come, and the bytes in all (0: not known).

    Raises:
        DataSetError: a file cannot be fetched or kept, or is a different one.
    """
    folder = cache_folder() / data_set.name
    files = data_set.files[split]
    for number, (name, limit) in enumerate(files.items(), start=1):
        target = folder / name
        if target.is_file():
            continue
        step = f"downloading {name}" + (f" ({number} of {len(files)})" if len(files) > 1 else "")
        url = f"{PUBLISHED_AT}/{data_set.repository}/{name}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replaced_when_whole(target) as partial:
                _download(url, partial, limit, functools.partial(on_progress, step))
        except OSError as exc:
            raise DataSetError(f"{target}: cannot be written ({exc.strerror or exc})") from exc
    return folder


def _download(url: str, target: Path, limit: int, on_bytes: Callable[[int, int], None]) -> None:
    """Download ``url`` to ``target``; ``limit`` is in bytes."""
    again = "try again, what is complete is kept; or give --from a folder that has the data"
    try:
        # The scheme is that of PUBLISHED_AT.
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as response:
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise DataSetError(f"{url}: redirects to {response.url}, which is not HTTPS; nothing was kept")
            total = int(response.headers.get("Content-Length") or 0)
            done = 0 if total <= limit else total
            with target.open("wb") as file:
                while done <= limit and (chunk := response.read(_CHUNK)):
                    done += len(chunk)
                    file.write(chunk)
                    on_bytes(done, total)
    except urllib.error.HTTPError as exc:
        raise DataSetError(f"{url}: the server answered HTTP {exc.code}; {again}") from exc
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError, ValueError) as exc:
        reason = " ".join(str(getattr(exc, "reason", exc)).split()) or type(exc).__name__
        raise DataSetError(f"{url}: cannot be fetched ({reason}); {again}") from exc
    if done > limit:
        raise DataSetError(f"{url}: sends more than the {limit:,} bytes that this file can have; nothing was kept")
    if done < total or not done:
        raise DataSetError(f"{url}: the connection ended at {done:,} of {total:,} bytes; {again}")
