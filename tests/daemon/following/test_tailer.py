"""The tailer: reading new lines, and recognizing a file by its device, inode and content."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.following.tailer import HEAD_BYTES, TAIL_BYTES, Tail, mark_at_end
from daemon.state.rows import FileMark
from llma_core.lines import MAX_LINE_BYTES
from tests.support.marks import known
from tests.support.processes import append

DESCRIPTORS = Path("/proc/self/fd")
EVERYTHING = 1 << 30
LINES = b"".join(b'{"number":%d,"words":"%s"}\n' % (number, b"x" * 80) for number in range(40))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    return path


def opened(path: Path, mark: FileMark | None = None, *, line_bytes: int = MAX_LINE_BYTES) -> Tail:
    tail = Tail(str(path), known(*([mark] if mark is not None else [])), line_bytes=line_bytes)
    tail.open()
    return tail


def read(tail: Tail, limit: int = EVERYTHING) -> bytes | None:
    """Return the bytes of the lines that one read returns; None if the path leads to another file."""
    chunk = tail.read(limit)
    if chunk is None:
        return None
    return b"".join((line.data or b"") + b"\n" for line in chunk.lines)


def mark_of(path: Path, offset: int) -> FileMark:
    """Return a mark for the file at *path* whose first *offset* bytes are settled."""
    tail = opened(path)
    tail.read(EVERYTHING)
    return tail.mark("orchard/a", offset, path.read_bytes()[:offset][-TAIL_BYTES:])


def line_end(lines: int) -> int:
    return len(b"".join(LINES.splitlines(keepends=True)[:lines]))


# ---------------------------------------------------------------------- reading


def test_each_line_is_read_once(log: Path) -> None:
    tail = opened(log)
    assert read(tail) == LINES
    assert read(tail) == b""
    append(log, b"{}\n")
    assert read(tail) == b"{}\n"
    assert tail.offset == tail.position == tail.size == len(LINES) + 3


def test_a_line_is_returned_once_it_is_complete(log: Path) -> None:
    tail = opened(log)
    tail.read(EVERYTHING)
    append(log, b'{"half":')
    assert read(tail) == b""
    assert (tail.offset, tail.position) == (len(LINES), len(LINES) + 8)
    append(log, b'"whole"}')
    assert read(tail) == b""
    append(log, b"\n")
    chunk = tail.read(EVERYTHING)
    assert chunk is not None
    (line,) = chunk.lines
    assert (line.start, line.data) == (len(LINES), b'{"half":"whole"}')


def test_what_opening_has_read_is_returned_once_and_what_comes_later_is_found(log: Path) -> None:
    tail = Tail(str(log))
    tail.open(begins=True)
    append(log, b"{}\n")
    assert read(tail) == LINES
    assert read(tail) == b"{}\n"
    tail.open(begins=True)
    assert read(tail, limit=500) == LINES[: line_end(4)]
    assert read(tail) == LINES[line_end(4) :] + b"{}\n"
    tail.open(begins=True)
    tail.forget_beginning()
    append(log, b"[]\n")
    assert read(tail) == LINES + b"{}\n[]\n"
    with log.open("r+b") as file:
        file.truncate(1024 * 1024)
    tail.open(begins=True)
    append(log, b"\n")
    tail.read(EVERYTHING)
    assert tail.position == 1024 * 1024 + 1, "a long file is read when it is asked for"


def test_a_large_file_is_read_in_slices(log: Path) -> None:
    tail = opened(log)
    found, more = b"", True
    sizes = []
    while more:
        chunk = tail.read(500)
        assert chunk is not None
        found += b"".join((line.data or b"") + b"\n" for line in chunk.lines)
        sizes.append(tail.position)
        more = chunk.more
    assert found == LINES
    assert all(later - earlier <= 500 for earlier, later in zip([0, *sizes], sizes, strict=False))


def test_a_line_over_the_limit_is_skipped_and_counts_as_read(log: Path) -> None:
    append(log, b"y" * 500 + b"\n{}\n")
    tail = opened(log, line_bytes=200)
    chunk = tail.read(EVERYTHING)
    assert chunk is not None
    long, short = chunk.lines[-2:]
    assert (long.start, long.end, long.data) == (len(LINES), len(LINES) + 501, None)
    assert short.data == b"{}"


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="the system does not list a process's descriptors")
def test_reading_keeps_no_descriptor(log: Path) -> None:
    before = len(list(DESCRIPTORS.iterdir()))
    tail = opened(log)
    tail.read(EVERYTHING)
    assert len(list(DESCRIPTORS.iterdir())) == before


def test_a_file_that_is_gone_has_no_more_lines_and_cannot_be_opened(log: Path) -> None:
    tail = opened(log)
    log.unlink()
    assert read(tail) == b""
    with pytest.raises(FileNotFoundError) as caught:
        tail.open()
    assert caught.value.filename == str(log)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere.jsonl")
    elsewhere.write_bytes(LINES)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("make", [a_pipe, a_folder, a_link])
def test_a_pipe_folder_or_link_in_place_of_a_log_is_an_error_at_once(log: Path, make: Callable[[Path], None]) -> None:
    tail = opened(log)
    log.unlink()
    make(log)
    with pytest.raises(OSError, match=r"not a regular file|symbolic links") as caught:
        tail.read(EVERYTHING)
    assert caught.value.filename == str(log)
    with pytest.raises(OSError, match=r"not a regular file|symbolic links"):
        tail.open()
    assert mark_at_end(str(log), "unit") is None


# ---------------------------------------------------------------------- while it is followed


def test_a_file_that_became_shorter_counts_as_another_file(log: Path) -> None:
    tail = opened(log)
    tail.read(EVERYTHING)
    log.write_bytes(LINES[: line_end(3)])
    assert tail.read(EVERYTHING) is None
    assert not tail.open()
    assert read(tail) == LINES[: line_end(3)]


def test_a_file_put_in_its_place_counts_as_another_file(log: Path) -> None:
    tail = opened(log)
    tail.read(EVERYTHING)
    beside = log.with_name("beside")
    beside.write_bytes(LINES + b"{}\n")
    beside.replace(log)
    assert tail.read(EVERYTHING) is None


@pytest.mark.parametrize("growth", [b"", b"{}\n"])
def test_a_file_rewritten_in_place_counts_as_another_file(log: Path, growth: bytes) -> None:
    tail = opened(log)
    tail.read(EVERYTHING)
    inode = log.stat().st_ino
    log.write_bytes(LINES.replace(b"x", b"z") + growth)
    assert log.stat().st_ino == inode
    assert tail.read(EVERYTHING) is None


def test_a_file_whose_half_line_changes_counts_as_another_file(log: Path) -> None:
    append(log, b"half")
    tail = opened(log)
    tail.read(EVERYTHING)
    log.write_bytes(LINES + b"HALF and more\n")
    assert tail.read(EVERYTHING) is None


# ---------------------------------------------------------------------- after a restart


def test_a_mark_holds_for_a_file_that_has_only_grown(log: Path) -> None:
    mark = replace(mark_of(log, line_end(20)), history=True)
    append(log, b"{}\n")
    tail = Tail(str(log), known(mark))
    assert tail.open()
    assert (tail.committed, tail.history) == (line_end(20), True)
    assert read(tail) == LINES + b"{}\n", "settled lines are read too, because later lines depend on them"


def test_a_mark_holds_under_another_path(log: Path) -> None:
    mark = mark_of(log, line_end(20))
    moved = log.rename(log.with_name("b.jsonl"))
    assert Tail(str(moved), known(mark)).open()


@pytest.mark.parametrize("lines", [0, 1, 5, 40])
def test_a_mark_holds_however_little_is_settled(log: Path, lines: int) -> None:
    mark = mark_of(log, line_end(lines))
    assert mark.head_length == min(HEAD_BYTES, line_end(lines))
    append(log, b"{}\n")
    assert Tail(str(log), known(mark)).open()


def test_settled_lines_do_not_count_when_a_file_is_read_again(log: Path) -> None:
    mark = replace(mark_of(log, line_end(20)), history=True)
    tail = Tail(str(log), known(mark), again=True)
    assert tail.open()
    assert tail.known == mark
    assert (tail.committed, tail.history) == (0, False)


def test_nothing_is_settled_of_another_file_in_its_place(log: Path) -> None:
    tail = Tail(str(log), known(replace(mark_of(log, line_end(20)), history=True)))
    assert tail.open()
    log.rename(log.with_name("kept.jsonl"))
    log.write_bytes(LINES)
    assert not tail.open()
    assert (tail.committed, tail.history) == (0, False)


def test_without_a_mark_nothing_is_settled(log: Path) -> None:
    tail = Tail(str(log))
    assert not tail.open()
    assert (tail.committed, tail.history) == (0, False)


def changed_head(data: bytes) -> bytes:
    return b"[" + data[1:]


def changed_before_the_offset(data: bytes) -> bytes:
    end = line_end(20)
    return data[: end - 10] + b"#" + data[end - 9 :]


def shorter(data: bytes) -> bytes:
    return data[: line_end(20) - 1]


@pytest.mark.parametrize("change", [changed_head, changed_before_the_offset, shorter])
def test_a_mark_does_not_hold_for_a_file_with_other_content(log: Path, change: object) -> None:
    assert callable(change)
    mark = replace(mark_of(log, line_end(20)), history=True)
    log.write_bytes(change(LINES))
    assert log.stat().st_ino == mark.inode
    tail = Tail(str(log), known(mark))
    assert not tail.open()
    assert (tail.committed, tail.history) == (0, False), "nothing of it is settled"


def test_a_mark_does_not_hold_for_another_file_that_reuses_the_inode(log: Path) -> None:
    mark = mark_of(log, line_end(20))
    other = log.with_name("other.jsonl")
    other.write_bytes(LINES.replace(b"number", b"figure"))
    status = other.stat()
    assert not Tail(str(other), known(replace(mark, device=status.st_dev, inode=status.st_ino))).open()


def test_a_mark_holds_although_bytes_after_the_offset_have_changed(log: Path) -> None:
    mark = mark_of(log, line_end(20))
    log.write_bytes(LINES[: line_end(20)] + b'{"other":"end"}\n')
    assert Tail(str(log), known(mark)).open()


def test_a_mark_without_a_tail_is_checked_by_its_head(log: Path) -> None:
    """A skipped line leaves no bytes from which to make the tail."""
    tail = opened(log)
    tail.read(EVERYTHING)
    mark = tail.mark("orchard/a", line_end(20), b"")
    assert mark.tail == b""
    assert Tail(str(log), known(mark)).open()
    log.write_bytes(changed_head(LINES))
    assert not Tail(str(log), known(mark)).open()


# ---------------------------------------------------------------------- history


def test_history_ends_after_the_last_whole_line(log: Path) -> None:
    append(log, b'{"half":')
    mark = mark_at_end(str(log), "orchard/a")
    assert mark is not None
    assert (mark.offset, mark.history, mark.unit, mark.path) == (len(LINES), True, "orchard/a", str(log))
    append(log, b"1}\n")
    tail = Tail(str(log), known(mark))
    assert tail.open()
    assert (tail.committed, tail.history) == (len(LINES), True)


def test_the_last_whole_line_is_found_however_far_back_it_ends(log: Path) -> None:
    append(log, b"h" * 200_000)
    mark = mark_at_end(str(log), "orchard/a")
    assert mark is not None
    assert mark.offset == len(LINES)


@pytest.mark.parametrize("content", [b"", b"half a line"])
def test_a_file_without_a_whole_line_gets_a_mark_at_its_beginning(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    mark = mark_at_end(str(path), "orchard/a")
    assert mark is not None
    assert mark.offset == 0
    tail = Tail(str(path), known(mark))
    assert tail.open()
    assert tail.history


def test_a_file_that_is_gone_gets_no_mark(tmp_path: Path) -> None:
    assert mark_at_end(str(tmp_path / "a.jsonl"), "orchard/a") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(content=st.lists(st.binary(max_size=120), max_size=30), data=st.data())
def test_a_mark_at_any_offset_holds_until_the_bytes_it_covers_change(
    tmp_path: Path, content: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path / "any.jsonl"
    lines = [line.replace(b"\n", b"") + b"\n" for line in content]
    path.write_bytes(b"".join(lines))
    count = data.draw(st.integers(0, len(lines)))
    offset = len(b"".join(lines[:count]))
    mark = mark_of(path, offset)
    tail = Tail(str(path), known(mark))
    assert tail.open()
    assert tail.committed == offset
    if offset:
        place = data.draw(st.integers(0, offset - 1))
        changed = bytearray(b"".join(lines))
        changed[place] ^= 1
        path.write_bytes(changed)
        covered = place < HEAD_BYTES or place >= offset - TAIL_BYTES
        assert Tail(str(path), known(mark)).open() is not covered
