"""A checkpoint named as the Hugging Face hub names it: pulled into the hub's cache, the files that are needed and no others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from archroute_edge.errors import CheckpointError
from tools.convert.model_card import read_card

_HUB_ID: Final = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")
_NEEDED: Final = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
    "added_tokens.json", "special_tokens_map.json", "chat_template.json", "chat_template.jinja",
    "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", "LICENSE*", "README.md",
]  # fmt: skip
"""No pickled weights: reading those can run code."""


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint's folder, what to call it, and for one of the hub the commit."""

    folder: Path
    name: str
    revision: str | None = None
    licence: str = ""


def find_checkpoint(name: str) -> CheckpointSource:
    """A folder, or ``OWNER/NAME`` or ``OWNER/NAME@REVISION`` on the hub, which is pulled if it is not in the cache.

    The hub's own client is used, so its settings hold: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.

    Raises:
        CheckpointError: there is no such checkpoint, no access to it, or no connection.
    """
    folder = Path(name).expanduser()
    match = _HUB_ID.fullmatch(name)
    # A path that is mistyped must not be asked for on the hub.
    if folder.exists() or match is None or folder.parent.is_dir() or folder.suffix == ".gguf":
        return CheckpointSource(folder, folder.resolve().name)
    try:
        pulled = Path(snapshot_download(match["repo"], revision=match["revision"], allow_patterns=_NEEDED))
    except GatedRepoError as exc:
        raise CheckpointError(
            f"{name}: its owners grant access on request; accept the terms at https://huggingface.co/{match['repo']}, then "
            "log in with: hf auth login"
        ) from exc
    except RepositoryNotFoundError as exc:
        raise CheckpointError(f"{name}: neither a folder here nor a repository on the hub that this login can see") from exc
    except LocalEntryNotFoundError as exc:
        raise CheckpointError(f"{name}: is no folder, is not in the hub's cache, and the hub cannot be reached") from exc
    except (HfHubHTTPError, OSError, ValueError) as exc:
        raise CheckpointError(f"{name}: cannot be pulled ({' '.join(str(exc).split())[:200]})") from exc
    return CheckpointSource(pulled, match["repo"].rpartition("/")[2], pulled.name, _licence(pulled))


def _licence(folder: Path) -> str:
    card = read_card(folder)
    texts = sorted(folder.glob("LICENSE*"))
    stated = str(card.get("license_name") or card.get("license") or "none stated")
    return stated + (f" ({texts[0]})" if texts else "")
