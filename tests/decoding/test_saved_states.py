"""Saved prefixes: whole or not there, private, bounded, checked before use, and free of conversations."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from archroute_edge.decoding import SavedStates, inspect_folder
from archroute_edge.decoding._saved_states import read_saved_state
from archroute_edge.errors import SavedPrefixError
from archroute_edge.system import cache_folder

KEY = {"model": "abc", "binding": "0.3.36", "flash_attention": True}
TOKENS = [5, 7, 11]
STATE = bytes(range(256)) * 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "saved" / "prefixes"


@pytest.fixture
def saved(folder: Path) -> SavedStates:
    return SavedStates(folder, KEY)


@pytest.fixture
def path(saved: SavedStates, folder: Path) -> Path:
    """The file of a prefix that has been saved."""
    saved.store(TOKENS, STATE)
    (path,) = folder.iterdir()
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_saved_is_loaded(saved: SavedStates, folder: Path) -> None:
    """The point of it: another process, which knows no more than the tokens and the key, starts warm."""
    assert saved.load(TOKENS) is None
    saved.store(TOKENS, STATE)
    assert SavedStates(folder, dict(reversed(KEY.items()))).load(tuple(TOKENS)) == STATE


@pytest.mark.parametrize("tokens", [[5, 7], [5, 7, 11, 13], [5, 711], [57, 11], []])
def test_other_tokens_have_no_state(saved: SavedStates, path: Path, tokens: list[int]) -> None:
    """The state of one route table under another's prompt gives wrong routes and no error."""
    assert saved.load(tokens) is None


@pytest.mark.parametrize("key", [{**KEY, "model": "abd"}, {**KEY, "flash_attention": False}, {"model": "abc"}, {}])
def test_another_engine_does_not_find_it(path: Path, folder: Path, key: dict[str, object]) -> None:
    """A state of another model or build has the right shape, and nonsense in it."""
    assert SavedStates(folder, key).load(TOKENS) is None


def damage_bit(at: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def with_header(text: str) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:8] + len(text).to_bytes(4, "little") + text.encode() + STATE


DAMAGE = [
    pytest.param(lambda raw: b"", id="empty"),
    pytest.param(lambda raw: raw[:6], id="cut-in-the-magic"),
    pytest.param(lambda raw: raw[:10], id="cut-in-the-length"),
    pytest.param(lambda raw: raw[:40], id="cut-in-the-header"),
    pytest.param(lambda raw: raw[:-1], id="cut-in-the-state"),
    pytest.param(lambda raw: raw + b"x", id="longer"),
    pytest.param(damage_bit(0), id="magic"),
    pytest.param(damage_bit(8), id="length"),
    pytest.param(damage_bit(11), id="length-huge"),
    pytest.param(damage_bit(12), id="header"),
    pytest.param(damage_bit(-1000), id="state"),
    pytest.param(with_header("[]"), id="header-list"),
    pytest.param(with_header("{}"), id="header-empty"),
    pytest.param(with_header('"text"'), id="header-text"),
    pytest.param(with_header("[" * 100_000), id="header-deep"),
    pytest.param(lambda raw: os.urandom(len(raw)), id="random"),
    pytest.param(lambda raw: raw.replace(b"[5, 7, 11]", b"[5, 7, 12]"), id="other-tokens"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_not_used_and_said_once(
    saved: SavedStates, path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """llama.cpp trusts what it is given: a damaged state would route at random, or crash."""
    path.write_bytes(damage(path.read_bytes()))
    assert saved.load(TOKENS) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path) in record.getMessage()
    assert "\n" not in record.getMessage()
    (found,) = inspect_folder(path.parent)
    assert found.problem is not None or "other tokens" in record.getMessage()
    saved.store(TOKENS, STATE)
    assert saved.load(TOKENS) == STATE
    assert len(caplog.records) == 1


def test_a_file_under_another_name_is_not_used(
    saved: SavedStates, folder: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The name holds the model and the build: a file that was renamed, or copied over another, is some other model's."""
    other = SavedStates(folder, {"model": "other"})
    other.store(TOKENS, b"state of the other model")
    (theirs,) = set(folder.iterdir()) - {path}
    path.write_bytes(theirs.read_bytes())
    assert saved.load(TOKENS) is None
    assert "belongs to another model" in caplog.text
    assert other.load(TOKENS) == b"state of the other model"


def test_only_the_user_can_read_them(saved: SavedStates, path: Path) -> None:
    """Route descriptions are business, and a file that others may write is a way into llama.cpp."""
    assert mode(path.parent) == 0o700
    assert mode(path) == 0o600


@pytest.mark.parametrize("permissions", [0o770, 0o707, 0o777, 0o720])
def test_a_folder_that_others_can_write_to_is_refused(
    saved: SavedStates, path: Path, permissions: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever can write there can have us load what they like."""
    path.parent.chmod(permissions)
    assert saved.load(TOKENS) is None
    saved.store([1, 2], STATE)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "other users can write there" in record.getMessage()
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(
    saved: SavedStates, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk must neither stop a decision nor leave half a state under a valid name."""

    def full(self: Path, target: Path) -> Path:
        assert read_header_length(self) > 0
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    saved.store(TOKENS, STATE)
    assert list(folder.iterdir()) == []
    assert "could not be saved" in caplog.text
    assert len(caplog.records) == 1


def read_header_length(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[8:12], "little")


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A read-only home must not stop a decision."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "prefixes", tmp_path / "file"):
        saved = SavedStates(folder, KEY)
        assert saved.load(TOKENS) is None
        saved.store(TOKENS, STATE)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert str(folder) in record.getMessage()
        assert "no prefix is saved there" in record.getMessage()
        caplog.clear()


def test_the_longest_unused_go_first(folder: Path) -> None:
    """The folder must not grow for ever, and what is in daily use must stay."""
    saved = SavedStates(folder, KEY, max_total_bytes=3 * (len(STATE) + 300))
    for number in range(3):
        saved.store([number], STATE)
        os.utime(saved._path([number]), (1000 + number, 1000 + number))
    assert saved.load([0]) == STATE
    saved.store([3], STATE)
    assert [saved.load([number]) is not None for number in range(4)] == [True, False, True, True]
    assert sum(each.stat().st_size for each in folder.iterdir()) <= 3 * (len(STATE) + 300)


def test_leftovers_of_killed_processes_are_removed(saved: SavedStates, path: Path) -> None:
    """Half-written files are under no name that is looked for, so nothing else would ever delete them."""
    old, new = (path.parent / f".{name}.prefix.partial" for name in ("old", "new"))
    for each in (old, new):
        each.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    saved.store([1], STATE)
    assert (old.exists(), new.exists()) == (False, True)


def test_inspection_tells_sound_from_damaged(saved: SavedStates, path: Path) -> None:
    """`doctor` must name the damaged file, not stop at it."""
    bad = path.with_name("bad.prefix")
    bad.write_bytes(b"nothing of ours")
    (path.parent / "notes.txt").touch()
    assert [(each.path, each.n_bytes, each.problem) for each in inspect_folder(path.parent)] == sorted(
        [(path, path.stat().st_size, None), (bad, 15, f"{bad}: not a saved prefix")], key=lambda each: each[0]
    )
    assert inspect_folder(path.parent / "missing") == []


def test_reading_a_missing_file(tmp_path: Path) -> None:
    """No file is no fault: it is what every first start finds."""
    with pytest.raises(FileNotFoundError):
        read_saved_state(tmp_path / "x.prefix", TOKENS)
    (tmp_path / "x.prefix").touch()
    with pytest.raises(SavedPrefixError):
        read_saved_state(tmp_path / "x.prefix", TOKENS)


def test_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers set the folder by the environment; elsewhere it is the user's cache."""
    assert cache_folder() == tmp_path / "prefixes"
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", ".")
    assert cache_folder() == Path()
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", "~nobody-at-all/cache")
    assert cache_folder().is_relative_to(os.devnull)
    monkeypatch.delenv("ARCHROUTE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder().parts[-2:] == ("archroute-edge", "prefixes")
