"""Files: hashes, files that appear whole or not at all, and what a file is that stands where a model is wanted."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

ENOUGH_BYTES: Final = 512
"""How much of a file's beginning :func:`other_kind` needs."""

SAFETENSORS: Final = (
    "a safetensors file; a GGUF is made from the folder of its checkpoint: python -m tools.convert FOLDER -o FILE"
)
"""What :func:`other_kind` says of these."""

_BLOCK: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_DEVICES: Final = (Path("/dev"), Path("/dev/fd"))
_STANDARD: Final = {"stdin": 0, "stdout": 1, "stderr": 2}
_MOST_LINKS: Final = 40
_counter = itertools.count()


def is_digest(text: str) -> bool:
    """Whether ``text`` is a hash as the hub writes them: SHA-256 for large files, git's SHA-1 for small ones."""
    return _DIGEST.fullmatch(text) is not None


def file_digest(path: Path, like: str, on_bytes: Callable[[int], None] = lambda done: None) -> str:
    """Hash a file in the way in which ``like`` was made.

    Args:
        like: 64 hexadecimal digits stand for SHA-256, 40 for git's SHA-1 over ``blob SIZE``, a zero byte and the file.
        on_bytes: called with the bytes done so far.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(like) != 64:
        digest.update(b"blob %d\0" % path.stat().st_size)
    done = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            on_bytes(done)
    return digest.hexdigest()


@contextmanager
def replaced_when_whole(target: Path, *, mark: str | None = None) -> Iterator[Path]:
    """Give a path beside ``target`` to write to, and move it onto ``target`` when the block ends without an exception.

    The file is flushed to the disk before it is moved. On any exception, an interrupt included, it is removed and
    ``target`` stays as it was. A pipe, a device or an open descriptor (``/dev/stdout``) is never replaced: the path is in a
    temporary folder then, and its content is written into ``target``. A descriptor of this process takes it where it stands,
    after everything that was printed before; the file behind another process's gets it at its end.

    Args:
        target: the file to replace. A link stays, and what it leads to is replaced.
        mark: tells the path from those of others who write the same file. By default, it tells processes of one machine apart.

    Raises:
        OSError: the file cannot be flushed or moved, or links lead in a circle.
    """
    target = _led_to(target)
    if _is_no_file(target):
        with tempfile.TemporaryDirectory() as folder:
            partial = Path(folder) / "partial"
            yield partial
            with partial.open("rb") as source, _opened(target) as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
        return
    partial = partial_path(target, mark or f"{os.getpid()}-{next(_counter)}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def partial_path(target: Path, mark: str) -> Path:
    """Where :func:`replaced_when_whole` lets the file be written that a process marks so.

    Raises:
        OSError: links lead in a circle.
    """
    target = _led_to(target)
    return target.with_name(f".{target.name}.{mark}.partial")


def _led_to(path: Path) -> Path:
    """Where links lead, but no further than to a name that stands for an open descriptor."""
    found = path
    for _ in range(_MOST_LINKS):
        if not found.is_symlink() or _is_descriptor(found):
            return found
        found = found.parent / found.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _is_no_file(path: Path) -> bool:
    """Whether something stands there that a file must not replace. A folder is left to fail as one."""
    if not path.exists() or path.is_dir():
        return False
    return not path.is_file() or _is_descriptor(path)


def _is_descriptor(path: Path) -> bool:
    """Whether it is in a folder whose names stand for open descriptors, which may be those of files."""
    folder = path.absolute().parent.resolve()
    return folder.is_relative_to("/proc") or folder in _DEVICES


def _opened(path: Path) -> BinaryIO:
    """What :func:`_is_no_file` names, to write to."""
    descriptor = _descriptor(path)
    if descriptor is None:
        # A file that another process has open must lose nothing; a device knows no end.
        return os.fdopen(os.open(path, os.O_WRONLY | (os.O_APPEND if path.is_file() else 0)), "wb")
    for stream in (sys.stdout, sys.stderr):
        # None without a console, or closed. A full one fails when it is written to.
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    # Opened by its name, a file would be emptied, and stdout would go on at its old place in it.
    return os.fdopen(os.dup(descriptor), "wb")


def _descriptor(path: Path) -> int | None:
    """The descriptor of this process that a name in ``/dev`` or ``/proc/self/fd`` stands for; None for other names."""
    folder = path.absolute().parent.resolve()
    if folder == Path("/dev"):
        return _STANDARD.get(path.name)
    is_ours = folder == Path("/dev/fd") or (folder.name == "fd" and folder.is_relative_to(f"/proc/{os.getpid()}"))
    return int(path.name) if is_ours and path.name.isdecimal() else None


_ARCHIVES: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}
_OLD_GGML: Final = (b"lmgg", b"fmgg", b"tjgg", b"algg")
_UNPACK: Final = "unpack it, and name the file inside"
_PICKLE: Final = (
    "pickled weights of PyTorch, which can run code when read; save the model again with "
    "save_pretrained(..., safe_serialization=True)"
)


def other_kind(start: bytes) -> str | None:
    """What a file is that begins with ``start``, and what to do; None where it is none of the usual mistakes.

    Args:
        start: its first bytes, :data:`ENOUGH_BYTES` of them if it has as many.
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs.github.com/"):
        return "a Git LFS pointer and not the file itself, which is still to be fetched: git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "a web page and not the file; get it again by its download link (on the hub .../resolve/..., not .../blob/...)"
    if text.startswith(b"{") and b"docker.distribution.manifest" in text:
        return "a manifest of Ollama; name the blob of its model layer (models/blobs/sha256-...)"
    if text.startswith((b'{"error', b'{ "error', b"invalid username", b"access to model", b"entry not found")):
        return "a server's error message and not the file; get it again, with access to it"
    # Before the others: the length that these begin with may have any bytes.
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") < 1 << 30:
        return SAFETENSORS
    for magic, name in _ARCHIVES.items():
        if start.startswith(magic):
            return f"packed with {name}; {_UNPACK}"
    if start.startswith(b"PK\x03\x04"):
        return _PICKLE if b"/data.pkl" in start else f"a zip archive; {_UNPACK}"
    if start[257:262] == b"ustar":
        return f"a tar archive; {_UNPACK}"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and len(start) > 1:
        return _PICKLE
    if start.startswith(_OLD_GGML):
        return "in llama.cpp's format from before GGUF; get the model as GGUF"
    if start.startswith(b"GGUF"):
        return "a GGUF already"
    if len(start) >= ENOUGH_BYTES and not start.strip(b"\0"):
        return "zeros only at its beginning, as an unfinished download leaves it; get it again"
    return None


def kind_of_file(path: Path) -> str | None:
    """As :func:`other_kind`, for the file at ``path``; None also where it cannot be read."""
    try:
        with path.open("rb") as file:
            return other_kind(file.read(ENOUGH_BYTES))
    except OSError:
        return None


def kind_of_folder(folder: Path) -> str | None:
    """What a folder holds in the place of a whole checkpoint, and what to do; None where nothing is known."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return None
    if "adapter_config.json" in names and "config.json" not in names:
        base = _read(folder / "adapter_config.json").get("base_model_name_or_path")
        of = f" of {base[:100]}" if isinstance(base, str) and base else ""
        return f"a LoRA adapter{of}; merge it into its base model first (merge_and_unload() of PEFT, then save_pretrained)"
    quantization = _read(folder / "config.json").get("quantization")
    if isinstance(quantization, dict) and "group_size" in quantization:
        return "a quantized MLX model; take the checkpoint that it was made from"
    if "config.json" not in names and (ggufs := sorted(name for name in names if name.endswith(".gguf"))):
        return f"a folder of GGUF files, which are models already ({', '.join(ggufs[:3])})"
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
