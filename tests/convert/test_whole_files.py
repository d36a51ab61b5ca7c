"""A converted file is there whole, or what was there before still is."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from archroute_edge.errors import CheckpointError
from archroute_edge.system import replaced_when_whole
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.checkpoints import write_checkpoint


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    """Each has a file of its own, and the last to finish wins."""
    target = tmp_path / "file"
    with replaced_when_whole(target) as first, replaced_when_whole(target) as second:
        first.write_text("first")
        second.write_text("second")
        assert not target.exists()
    assert target.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    """Links stay, also one that leads to nothing yet; the file is written beside what it replaces."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old").write_text("old")
    (tmp_path / "link").symlink_to("elsewhere/to-old")
    (tmp_path / "elsewhere" / "to-old").symlink_to("old")
    (tmp_path / "dangling").symlink_to("elsewhere/new")
    for name in ("link", "dangling"):
        with replaced_when_whole(tmp_path / name) as partial:
            assert partial.parent == tmp_path / "elsewhere"
            partial.write_text("new")
    assert {path.name for path in tmp_path.rglob("*") if path.is_symlink()} == {"link", "to-old", "dangling"}
    assert [(tmp_path / "elsewhere" / name).read_text() for name in ("old", "new")] == ["new", "new"]
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="circle"), replaced_when_whole(tmp_path / "circle"):
        pass
    assert {path.name for path in tmp_path.rglob("*")} == {"elsewhere", "link", "dangling", "old", "new", "to-old", "circle"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is /proc")
def test_a_file_that_another_process_has_open_loses_nothing(tmp_path: Path) -> None:
    """Opened by the name of that process's descriptor, it was emptied."""
    path = tmp_path / "log"
    path.write_text("earlier\n")
    with path.open("a") as file:
        other = subprocess.Popen(["sleep", "60"], stdout=file)
    try:
        (tmp_path / "link").symlink_to(f"/proc/{other.pid}/fd/1")
        for target in (Path(f"/proc/{other.pid}/fd/1"), tmp_path / "link"):
            with replaced_when_whole(target) as partial:
                partial.write_text("whole\n")
    finally:
        other.kill()
        other.wait()
    assert path.read_text() == "earlier\nwhole\nwhole\n"
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_or_a_device_is_written_to(tmp_path: Path) -> None:
    """As root, /dev/null and /dev/stdout became files."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        for target in (tmp_path / "pipe", tmp_path / "link", Path(f"/dev/fd/{file}")):
            before = target.lstat()
            with replaced_when_whole(target) as partial:
                with partial.open("x") as written:
                    written.write("whole\n")
                partial.chmod(0o600)
            assert (target.lstat().st_ino, target.lstat().st_mode) == (before.st_ino, before.st_mode)
        assert os.read(reader, 100) == b"whole\nwhole\n"
        assert os.pread(file, 100, 0) == b"whole\n"
        with pytest.raises(RuntimeError), replaced_when_whole(tmp_path / "pipe") as partial:
            partial.write_text("half")
            raise RuntimeError
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)
        os.close(file)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link", "file"}


PRINTS = """
import sys
from pathlib import Path
from archroute_edge.system import replaced_when_whole
print("printed before")
with replaced_when_whole(Path(sys.argv[1])) as partial:
    partial.write_text("whole\\n")
print("printed after", file=sys.stderr if "2" in sys.argv[1] or "err" in sys.argv[1] else sys.stdout)
"""


STREAMS = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/stderr", "/proc/self/fd/2")


@pytest.mark.parametrize("name", [name for name in STREAMS if Path(name).exists()])
@pytest.mark.parametrize("mode", ["a", "w"])
def test_a_redirected_stream_keeps_all_that_is_written(tmp_path: Path, name: str, mode: str) -> None:
    """Opened by its name, the file was emptied, and what was printed next overwrote its beginning."""
    path = tmp_path / "all.out"
    path.write_text("earlier\n")
    for _ in range(2):
        with path.open(mode) as file:
            subprocess.run([sys.executable, "-c", PRINTS, name], stdout=file, stderr=subprocess.STDOUT, check=True)
    run = "printed before\nwhole\nprinted after\n"
    assert path.read_text() == ("earlier\n" + run + run if mode == "a" else run)


def test_target_in_a_missing_folder(tmp_path: Path) -> None:
    """Said before any work is done."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        convert_checkpoint(checkpoint.folder, tmp_path / "nowhere" / "model.gguf")
    with pytest.raises(CheckpointError, match="is a folder"):
        convert_checkpoint(checkpoint.folder, tmp_path)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files of this process end at 100 kB, with the error of a full disk's kind."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_full_leaves_the_old_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Writing fails halfway: what stood under the name stays."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    target = tmp_path / "model.gguf"
    target.write_bytes(b"the old model")
    request.getfixturevalue("small_disk")
    with pytest.raises(CheckpointError, match="cannot be written"):
        convert_checkpoint(checkpoint.folder, target, "f32")
    assert target.read_bytes() == b"the old model"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "model.gguf"]


def test_too_little_room_is_said_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the result is known before the first byte of it."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=10**9, used=10**9 - 1000, free=1000))
    with pytest.raises(CheckpointError, match=r"0\.4 MB are needed there, 0\.0 MB are free"):
        convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_interrupt_leaves_no_file(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the tensors."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32", on_progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
