from __future__ import annotations

import fcntl
import io
import os
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from bench.machine import streams


def opened(descriptor: int, **options: object) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "w")), encoding="utf-8", **options)  # type: ignore[arg-type]


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def test_text_that_cannot_be_written_is_lost_and_the_reason_is_kept(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    monkeypatch.setattr("sys.stdout", opened(writer))
    monkeypatch.setattr("sys.stderr", opened(os.dup(writer), line_buffering=True))
    with streams.protected() as output:
        print("heard", flush=True)
        assert os.read(reader, 100) == b"heard\n" and output.trouble() is None
        os.close(reader)
        print("lost", flush=True)
        Console(file=None).print("lost too")
        print("lost as well", file=sys.stderr)
        sys.stdout.buffer.write(b"x" * 100_000)
        assert isinstance(output.trouble(), BrokenPipeError)
    # what was there before is there again, with nothing left to write
    sys.stdout.flush()


def test_there_may_be_room_again_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full, log = os.open("/dev/full", os.O_WRONLY), os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr("sys.stdout", opened(full))
    with streams.protected() as output:
        print("lost", flush=True)
        os.dup2(log, full)
        print("kept", flush=True)
        trouble = output.trouble()
    assert (tmp_path / "log").read_text() == "kept\n"
    assert trouble is not None and trouble.strerror == "No space left on device"


def test_a_slow_reader_of_a_pipe_that_does_not_block_is_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    monkeypatch.setattr("sys.stdout", opened(writer))
    read = bytearray()

    def slowly() -> None:
        while block := os.read(reader, 4096):
            read.extend(block)

    thread = threading.Thread(target=slowly)
    thread.start()
    with streams.protected() as output:
        print("x" * 1_000_000)
        assert output.trouble() is None
    os.close(writer)
    thread.join(10)
    assert len(read) == 1_000_001


def test_names_that_are_no_text_are_spelt(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe
    monkeypatch.setattr("sys.stdout", opened(writer))
    with streams.protected():
        print("caf\udce9")
    assert os.read(reader, 100) == b"caf\\udce9\n"


def test_streams_without_a_file_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO()), None):
        monkeypatch.setattr("sys.stdout", stream)
        with streams.protected() as output:
            assert sys.stdout is stream and output.trouble() is None


def test_a_signal_handler_says_nothing_into_a_closed_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(descriptor: int, data: bytes) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", gone)
    streams.say("stopping")
