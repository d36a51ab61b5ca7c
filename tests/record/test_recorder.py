"""The record keeps what it is given, below its bound, and stands aside when its file cannot be written."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from archroute_edge.errors import RecordError
from archroute_edge.record import Content, Entry, Recorder, Usage, Wanted, _database, clear, open_record
from tests.record.entries import entry, kept, seen, until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "record" / "requests.sqlite"


def record(file: Path, *entries: Entry, keep_content: bool = False) -> None:
    with closing(Recorder(file, keep_content=keep_content)) as recorder:
        for each in entries:
            recorder.add(each)


def bare(number: int) -> Entry:
    return Entry(id=f"{number:032x}", time=float(number), operation="route", outcome="completed", status=200)


def test_entries_come_back_as_they_were(file: Path) -> None:
    record(file, entry(1), bare(2), keep_content=True)
    assert kept(file) == [bare(2), entry(1)]


def test_texts_are_kept_only_if_asked_for(file: Path) -> None:
    record(file, entry(content=Content("my secret", "its answer")))
    assert kept(file)[0].content is None
    assert not any(b"secret" in each.read_bytes() for each in file.parent.iterdir())


def test_a_text_that_is_no_unicode_does_not_lose_its_request(file: Path) -> None:
    record(file, entry(content=Content("half \ud800", None)), keep_content=True)
    assert kept(file)[0].content == Content("half ?", None)


@pytest.mark.parametrize("wrong", [{"usage": Usage(input=1 << 70)}, {"cost": object()}, {"status": None}, {"usage": None}])
def test_what_cannot_be_written_holds_nothing_up(
    file: Path, caplog: pytest.LogCaptureFixture, wrong: dict[str, object]
) -> None:
    record(file, entry(1, **wrong), entry(2))
    assert [each.id for each in kept(file)] == [entry(2).id]
    assert "missing in the record" in caplog.text


def test_only_the_user_may_read_it(file: Path) -> None:
    before = os.umask(0)
    try:
        with closing(Recorder(file)) as recorder:
            recorder.add(entry())
            until(lambda: file.with_name(f"{file.name}-wal").exists())
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_process_that_is_killed_leaves_a_sound_file_with_all_that_it_had_committed(file: Path) -> None:
    command = [sys.executable, "-m", "tests.record.recording_process", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        # It never closes the record, so what is seen from here has been committed by the clock.
        until(lambda: file.exists() and len(seen(file)) > 50)
        before = seen(file)
        process.send_signal(signal.SIGKILL)
    numbers = [int(each.id, 16) for each in kept(file)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= len(before)
    record(file, entry(1_000_000))
    assert len(kept(file)) == len(numbers) + 1
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_several_processes_write_one_file(file: Path) -> None:
    one, two = Recorder(file), Recorder(file)
    with closing(one), closing(two):
        for number in range(1, 1501):
            one.add(bare(number))
            two.add(bare(10_000 + number))
    assert len(kept(file)) == 3000


def test_the_oldest_go_and_the_file_stops_growing(file: Path) -> None:
    text = Content("a" * 10_000, None)
    with closing(Recorder(file, max_bytes=1_000_000, keep_content=True)) as recorder:
        for number in range(1, 301):
            recorder.add(replace(bare(number), content=text))
    numbers = [int(each.id, 16) for each in kept(file)]
    assert numbers[-1] == 300
    assert 40 < len(numbers) < 100
    assert numbers == list(range(numbers[0], 301))
    assert file.stat().st_size <= 1_000_000


def test_a_smaller_bound_makes_the_file_smaller(file: Path) -> None:
    record(file, *(replace(bare(number), content=Content("a" * 10_000, None)) for number in range(200)), keep_content=True)
    assert file.stat().st_size > 2_000_000
    with closing(Recorder(file, max_bytes=1_000_000)) as recorder:
        recorder.add(bare(1000))
    assert file.stat().st_size <= 1_000_000


def test_a_full_disk_stops_the_record_and_it_comes_back(file: Path) -> None:
    """RLIMIT_FSIZE is a disk that is full for one process; a child has it, since it holds for all its files."""
    child = """
import logging, resource, signal, sys
from pathlib import Path
from archroute_edge.record import Content, Recorder, open_record
from tests.record.entries import entry, seen, until
logging.basicConfig()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = Path(sys.argv[1])
recorder = Recorder(file, keep_content=True, retry=0.05)
recorder.add(entry(1))
until(lambda: len(seen(file)) == 1)
size = file.with_name(file.name + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
for number in range(2, 20):
    recorder.add(entry(number, content=Content("a" * 100_000, None)))
until(lambda: recorder.has_failed)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
until(lambda: len(seen(file)) == 19)
recorder.close()
"""
    done = subprocess.run([sys.executable, "-c", child, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("requests are not recorded, but served as before") == 1
    assert done.stderr.count("requests are recorded again; 0 are missing") == 1


def test_a_damaged_file_stops_the_record_only(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(file, entry(1))
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    with closing(Recorder(file, retry=0.05)) as recorder:
        recorder.add(entry(2))
        until(lambda: recorder.has_failed)
        file.write_bytes(whole)
        until(lambda: not recorder.has_failed)
    assert [each.id for each in kept(file)] == [entry(1).id, entry(2).id]
    assert [each.levelname for each in caplog.records] == ["ERROR", "WARNING"]


def test_a_file_that_is_moved_away_gets_a_successor(file: Path) -> None:
    with closing(Recorder(file)) as recorder:
        recorder.add(entry(1))
        until(lambda: len(seen(file)) == 1)
        for each in list(file.parent.iterdir()):
            each.rename(each.with_name(f"old-{each.name}"))
        recorder.add(entry(2))
    assert [each.id for each in kept(file)] == [entry(2).id]
    assert [each.id for each in kept(file.with_name(f"old-{file.name}"))] == [entry(1).id]


def test_a_reader_that_never_ends_stops_the_record_before_the_disk_is_full(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its view of the file keeps SQLite from emptying the log beside it."""
    monkeypatch.setattr("archroute_edge.record._pruning._LARGEST_LOG", 200_000)
    monkeypatch.setattr("archroute_edge.record._database.LOCK_WAIT_S", 0.1)
    record(file, entry(1))
    with closing(Recorder(file, keep_content=True, retry=0.05)) as recorder:
        with open_record(file) as reading:
            reading.connection.execute("BEGIN")
            assert len(reading.entries()) == 1
            recorder.add(entry(2, content=Content("a" * 300_000, None)))
            until(lambda: recorder.has_failed)
        recorder.add(entry(3))
        until(lambda: not recorder.has_failed)
    assert [int(each.id, 16) for each in kept(file)] == [1, 2, 3]
    assert "cannot be emptied" in caplog.text


def test_texts_that_a_reader_keeps_in_the_file_are_told_until_they_are_gone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archroute_edge.record._database.LOCK_WAIT_S", 0.1)
    record(file, entry(1, content=Content("a secret", None)), entry(2), keep_content=True)

    def is_there() -> bool:
        return any(b"a secret" in each.read_bytes() for each in (file, file.with_name(f"{file.name}-wal")) if each.exists())

    with open_record(file) as reading:
        reading.connection.execute("BEGIN")
        assert len(reading.entries()) == 2
        with pytest.raises(RecordError, match="2 requests deleted, but a program that is reading"):
            clear(file)
        assert is_there()
    assert clear(file) == 0
    assert not is_there()


def test_what_waits_while_the_file_is_locked_is_bounded_and_written_later(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archroute_edge.record._recorder.MOST_WAITING", 100)
    record(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other, closing(Recorder(file, retry=0.05)) as recorder:
        other.execute("BEGIN IMMEDIATE")
        for number in range(150):
            recorder.add(bare(number))
        other.execute("ROLLBACK")
    assert [int(each.id, 16) for each in kept(file)] == list(range(100))


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be read as one" * 100])
def test_what_is_not_a_record_is_told_from_one(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    if content:
        with closing(Recorder(file)) as recorder:
            recorder.add(entry())
        assert file.read_bytes() == content
    else:
        record(file, entry())
        assert len(kept(file)) == 1


def test_a_file_that_can_never_be_the_record_is_refused(file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(RecordError, match="another program"):
        Recorder(file)
    file.unlink()
    record(file)
    with closing(sqlite3.connect(file)) as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(RecordError, match="version 99"):
        Recorder(file)
    with pytest.raises(RecordError, match="cannot be recorded there"):
        Recorder(file / "below")
    with pytest.raises(RecordError, match="no such record"), open_record(file.with_name("none")):
        pass


def test_a_file_that_another_process_makes_meanwhile_is_no_other_programs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server would not start if a reader had made the file between two looks at it."""
    read = _database._one
    meanwhile: list[str] = []

    def read_slowly(connection: sqlite3.Connection, statement: str) -> int:
        if "user_version" in statement and not meanwhile:
            meanwhile.append(statement)
            with closing(sqlite3.connect(file, timeout=0.0)) as other, suppress(sqlite3.OperationalError):
                other.execute(f"PRAGMA application_id = {_database._APPLICATION}")
                other.execute("PRAGMA user_version = 1")
        return read(connection, statement)

    monkeypatch.setattr(_database, "_one", read_slowly)
    record(file, entry(1))
    assert meanwhile
    assert len(kept(file)) == 1


def test_a_file_of_an_earlier_version_keeps_what_it_has(file: Path) -> None:
    """Columns that were added since are empty there, and filled from now on."""
    first, second = entry(1, content=None), entry(2, content=None)
    record(file, first)
    with closing(sqlite3.connect(file)) as earlier:
        earlier.execute('ALTER TABLE requests DROP COLUMN "archroute.expected_scores"')
        earlier.execute("PRAGMA user_version = 1")
    assert kept(file) == [replace(first, expected_scores=None)]
    record(file, second)
    assert kept(file) == [replace(first, expected_scores=None), second]


def test_a_forked_process_records_nothing(file: Path) -> None:
    with closing(Recorder(file)) as recorder:
        recorder.add(entry(1))
        child = os.fork()
        if child == 0:
            recorder.add(entry(2))
            recorder.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        recorder.add(entry(3))
    assert [each.id for each in kept(file)] == [entry(1).id, entry(3).id]


def test_the_end_of_a_program_that_closes_nothing_loses_nothing(file: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from archroute_edge.record import Recorder; "
        "from tests.record.entries import entry; recorder = Recorder(Path(sys.argv[1])); recorder.add(entry())"
    )
    subprocess.run([sys.executable, "-c", program, str(file)], check=True, timeout=60)
    assert len(kept(file)) == 1


def test_entries_are_found_by_what_they_have_in_common(file: Path) -> None:
    record(
        file,
        entry(1, route="one", model="a/a", session="5e" * 16, tries=()),
        entry(2, route="two", model="b/b", status=502, outcome="failed", tries=()),
        entry(3, route="two", model="a/a", shadow_of=entry(2).id, tries=()),
        entry(4),
        replace(bare(5), time=entry(5).time),
    )

    def numbers(limit: int | None = None, **wanted: object) -> list[int]:
        with open_record(file) as found:
            return [int(each.id, 16) for each in found.entries(Wanted(**wanted), limit)]  # type: ignore[arg-type]

    assert numbers(2) == [4, 5]
    assert numbers(route="two") == [2, 3]
    assert numbers(model="a/a") == [1, 3]
    assert numbers(status=502) == [2]
    assert numbers(session="5e5e") == [1]
    assert numbers(failed=True) == [2, 4]
    assert numbers(since=entry(2).time, until=entry(4).time) == [2, 3]
    assert numbers(shadows=False, forwarded=True) == [1, 2, 4]
    with open_record(file) as found:
        assert found.entry(entry(4).id).id == entry(4).id
        with pytest.raises(RecordError, match="several"):
            found.entry("0000")
        assert [each.id for each in found.each()] == [each.id for each in found.entries()]


def test_the_latest_tries_of_each_target_are_known_at_the_next_start(file: Path) -> None:
    record(file, *(entry(number) for number in range(1, 6)))
    with open_record(file) as found:
        tries = found.last_tries(["openai/two", "openai/none", "openai/one"], 2)
    assert [(each.time, each.place, each.one) for each in tries] == [
        (entry(number).time, place, entry(number).tries[place]) for number in (4, 5) for place in (0, 1)
    ]
    assert {(each.route, each.asked_model) for each in tries} == {("bug_fixing", "auto")}
