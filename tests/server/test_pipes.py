"""Lines over pipes: cut right wherever the blocks end, bounded, and never in the way of who decides."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from archroute_edge.server.stdio._pipes import LineWriter, read_lines


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


@pytest.mark.parametrize(
    ("sent", "lines"),
    [
        (b"", []),
        (b"one\n", [b"one"]),
        (b"one\ntwo", [b"one", b"two"]),
        (b"\n\n", [b"", b""]),
        (b"12345678\n", [b"12345678"]),
        (b"123456789\nnext\n", [None, b"next"]),
        (b"one\n123456789", [b"one", None]),
        (b"1" * 200_000 + b"\nnext\n", [None, b"next"]),
        (b"1" * 200_000, [None]),
    ],
)
def test_lines_and_what_is_too_long(pipe: tuple[int, int], sent: bytes, lines: list[bytes | None]) -> None:
    """A line beyond the limit would be taken for another request if its end were read as a line of its own."""
    reader, writer = pipe

    def send() -> None:
        os.write(writer, sent)
        os.close(writer)

    sending = threading.Thread(target=send)
    sending.start()
    assert list(read_lines(reader, 8)) == lines
    sending.join()


def test_lines_that_come_in_pieces(pipe: tuple[int, int]) -> None:
    """A pipe gives what is there, which may end within a line or within a character."""
    reader, writer = pipe
    lines = read_lines(reader, 100)
    os.write(writer, "é".encode()[:1])
    threading.Timer(0.02, lambda: os.write(writer, "é".encode()[1:] + b"\nnext\n")).start()
    assert next(lines) == "é".encode()
    assert next(lines) == b"next"


def test_pipes_that_do_not_block(pipe: tuple[int, int]) -> None:
    """A host may make them so for itself; to have nothing to read, or no room to write, is no end of them."""
    reader, writer = pipe
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    sent = [bytes([letter]) * 200_000 for letter in b"abc"]
    found: list[bytes | None] = []
    reading = threading.Thread(target=lambda: found.extend(read_lines(reader, 1_000_000)))
    reading.start()
    lines = LineWriter(writer, on_broken=lambda: None)
    for line in sent:
        lines.send(line + b"\n")
    assert lines.close(patience=5)
    os.close(writer)
    reading.join(5)
    assert found == sent


def test_nobody_waits_for_a_slow_reader_but_who_reads_requests(pipe: tuple[int, int]) -> None:
    """If sending waited, the thread that decides would stand still until the host reads."""
    reader, writer = pipe
    lines = LineWriter(writer, on_broken=lambda: None)
    begun = time.perf_counter()
    for number in range(4):
        lines.send(b"%d" % number * 1_000_000 + b"\n")
    assert time.perf_counter() - begun < 1
    waiting = threading.Thread(target=lines.wait_for_room, daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    received = bytearray()
    while len(received) < 4_000_004:
        received += os.read(reader, 1 << 16)
    assert received == b"".join(b"%d" % number * 1_000_000 + b"\n" for number in range(4))
    waiting.join(10)
    assert not waiting.is_alive()
    assert lines.close(patience=10)


def test_closing_waits_for_a_reader_who_reads_and_not_for_one_who_has_stopped(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = LineWriter(writer, on_broken=lambda: None)
    lines.send(b"x" * 500_000)
    assert not lines.close(patience=0.05)

    def read() -> None:
        left = 500_000
        while left:
            left -= len(os.read(reader, 1 << 16))

    late = threading.Timer(0.05, read)
    late.start()
    assert lines.close(patience=5)
    late.join()


def test_a_reader_who_is_gone_is_told_of_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    told = []
    lines = LineWriter(writer, on_broken=lambda: told.append(True))
    os.close(reader)
    for _ in range(3):
        lines.send(b"x" * 100_000)
    lines.close(patience=5)
    lines.send(b"more")
    lines.wait_for_room()
    assert lines.broken
    # The thread calls after it has said that the pipe is broken.
    for _ in range(100):
        if told:
            break
        time.sleep(0.01)
    assert told == [True]
