"""Pull a checkpoint on the Hugging Face hub into the hub's cache: the needed files and no others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.cli.pull_view import PullView
from archroute_edge.errors import CheckpointError, DownloadError
from archroute_edge.models import PulledModel, pull_checkpoint
from archroute_edge.system import expanded
from tools.convert.model_card import read_card

_HUB_ID: Final = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint's folder, what to call it, and for one of the hub the commit."""

    folder: Path
    name: str
    revision: str | None = None
    licence: str = ""


def find_checkpoint(name: str) -> CheckpointSource:
    """A folder, or ``OWNER/NAME`` or ``OWNER/NAME@REVISION`` on the hub, which is pulled if it is not in the cache.

    As with ``archroute models pull``: no pickled weights, an interrupted pull goes on, hashes are checked, and HF_HOME,
    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE hold. Shows licence and progress on stderr.

    Raises:
        CheckpointError: there is no such checkpoint, no access to it, no connection, or no room.
    """
    folder = expanded(name)
    match = _HUB_ID.fullmatch(name)
    # A path that is mistyped must not be asked for on the hub.
    if folder.exists() or match is None or folder.parent.is_dir() or folder.suffix == ".gguf":
        return CheckpointSource(folder, folder.resolve().name)
    try:
        with ProgressLine() as line:
            pulled = pull_checkpoint(match["repo"], revision=match["revision"], listener=PullView(line))
    except DownloadError as exc:
        raise CheckpointError(f"{name}: no such folder here, and from the hub: {exc}") from exc
    return CheckpointSource(pulled.path, match["repo"].rpartition("/")[2], pulled.revision, _licence(pulled))


def _licence(pulled: PulledModel) -> str:
    card = read_card(pulled.path)
    stated = str(card.get("license_name") or card.get("license") or pulled.licence.name)
    return stated + (f" ({pulled.licence.path})" if pulled.licence.path else "")
