"""What has something to be read is kept open, so that it can be read although it was deleted."""

from __future__ import annotations

import contextlib
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.following.kept_open import MAX_DESCRIPTORS, KeptOpen
from daemon.following.tailer import Identity, Tail
from tests.support.processes import append

DESCRIPTORS = Path("/proc/self/fd")
EVERYTHING = 1 << 30
LINES = b'{"number":1}\n{"number":2}\n'


@pytest.fixture
def unread() -> Iterator[KeptOpen]:
    kept = KeptOpen(3)
    yield kept
    kept.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return written(tmp_path / "a.jsonl")


def written(path: Path, data: bytes = LINES) -> Path:
    path.write_bytes(data)
    return path


def identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def keep(unread: KeptOpen, path: Path, modified: int = 0) -> None:
    unread.keep(str(path), identity(path), modified)


def replaced(path: Path, data: bytes) -> None:
    beside = written(path.with_name("beside"), data)
    beside.replace(path)


def read(tail: Tail, limit: int = EVERYTHING) -> list[bytes] | None:
    """The lines of one read; None where it is another file now."""
    chunk = tail.read(limit)
    return None if chunk is None else [line.data or b"" for line in chunk.lines]


# ---------------------------------------------------------------------- what is kept


def test_a_log_is_kept_once_until_it_is_released(unread: KeptOpen, log: Path) -> None:
    keep(unread, log)
    keep(unread, log)
    assert len(unread) == 1
    assert str(log) in unread
    unread.release(str(log))
    assert len(unread) == 0
    assert str(log) not in unread
    assert unread.borrow(str(log)) is None
    unread.release(str(log))


def test_what_is_borrowed_is_the_log_that_stood_there(unread: KeptOpen, log: Path) -> None:
    keep(unread, log)
    first = identity(log)
    replaced(log, b"{}\n")
    keep(unread, log)
    for wanted, content in [(first, LINES), (identity(log), b"{}\n"), (None, LINES)]:
        file = unread.borrow(str(log), wanted)
        assert file is not None
        with file:
            assert file.read() == content
    unread.drop(str(log), first)
    assert unread.borrow(str(log), first) is None
    file = unread.borrow(str(log))
    assert file is not None
    file.close()


def test_beyond_the_limit_the_newest_are_kept(unread: KeptOpen, tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{number}.jsonl") for number in range(6)]
    for path, modified in zip(paths, [50, 10, 40, 20, 5, 60], strict=True):
        keep(unread, path, modified)
    assert [str(path) in unread for path in paths] == [True, False, True, False, False, True]


def test_a_log_that_grew_is_newer(unread: KeptOpen, tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{number}.jsonl") for number in range(4)]
    for modified, path in enumerate(paths[:3]):
        keep(unread, path, modified)
    keep(unread, paths[0], 100)
    keep(unread, paths[3], 50)
    assert [str(path) in unread for path in paths] == [True, False, True, True]


def test_the_process_keeps_most_of_its_descriptors_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (40, 4096))
    small = KeptOpen()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    large = KeptOpen()
    for number in range(MAX_DESCRIPTORS + 20):
        path = written(tmp_path / f"{number}.jsonl")
        keep(small, path)
        keep(large, path)
    assert (len(small), len(large)) == (10, MAX_DESCRIPTORS)
    small.close()
    large.close()


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="the system does not list a process's descriptors")
def test_what_is_closed_leaves_no_descriptor(log: Path, tmp_path: Path) -> None:
    before = len(list(DESCRIPTORS.iterdir()))
    unread = KeptOpen()
    keep(unread, log)
    keep(unread, written(tmp_path / "b.jsonl"))
    replaced(log, LINES)
    keep(unread, log)
    assert len(list(DESCRIPTORS.iterdir())) == before + 3
    unread.close()
    assert len(list(DESCRIPTORS.iterdir())) == before
    unread.close()


def test_what_cannot_be_opened_is_not_kept(unread: KeptOpen, tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path)
    for name in ("missing.jsonl", "link.jsonl"):
        unread.keep(str(tmp_path / name), (1, 2), 0)
    assert len(unread) == 0


# ---------------------------------------------------------------------- how it is read


def deleted(path: Path) -> None:
    path.unlink()


def moved_away(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")


@pytest.mark.parametrize("leave", [deleted, moved_away])
@pytest.mark.parametrize("half_read", [False, True])
def test_a_log_that_is_gone_is_read_to_its_end(
    unread: KeptOpen, log: Path, leave: Callable[[Path], None], *, half_read: bool
) -> None:
    tail = Tail(str(log), kept=unread)
    if half_read:
        tail.open()
        assert read(tail, 15) == [b'{"number":1}']
    keep(unread, log)
    append(log, b"{}\nhalf a line")
    leave(log)
    if not half_read:
        tail.open()
        assert read(tail, 15) == [b'{"number":1}']
    assert read(tail) == [b'{"number":2}', b"{}"]
    assert len(unread) == 0, "it is read"
    assert read(tail) == []


def test_logs_that_replaced_each_other_are_read_one_after_the_other(unread: KeptOpen, log: Path) -> None:
    tail = Tail(str(log), kept=unread)
    tail.open()
    keep(unread, log)
    replaced(log, b"[1]\n")
    keep(unread, log)
    replaced(log, b"[2]\n")
    found: list[bytes | None] = []
    for _ in range(10):
        chunk = tail.read(EVERYTHING)
        if chunk is None:
            found.append(None)
            tail.open()
            continue
        found += [line.data for line in chunk.lines]
        if not chunk.more:
            break
    assert found == [b'{"number":1}', b'{"number":2}', None, b"[1]", None, b"[2]"]
    assert len(unread) == 0


def test_one_that_was_read_is_over_when_another_one_is_kept(unread: KeptOpen, log: Path) -> None:
    tail = Tail(str(log), kept=unread)
    tail.open()
    tail.read(EVERYTHING)
    replaced(log, b"[1]\n")
    keep(unread, log)
    log.unlink()
    assert read(tail) is None
    assert not tail.lives_on()
    tail.open()
    assert read(tail) == [b"[1]"]


def test_a_log_lives_on_in_one_that_was_made_of_it(unread: KeptOpen, log: Path) -> None:
    tail = Tail(str(log), kept=unread)
    tail.open()
    tail.read(EVERYTHING)
    for content, lives_on in [
        (LINES + b"{}\n", True),
        (b"{}\n" + LINES, True),
        (LINES[:5], True),
        (b"", True),
        (b"[]\n", False),
        (LINES[:11] + b"{}\n", False),
        (b"{}\n" + LINES[13:], True),
    ]:
        replaced(log, content)
        assert tail.lives_on() is lives_on
    log.unlink()
    assert not tail.lives_on()


@given(order=st.permutations(range(8)), again=st.permutations(range(5)))
@settings(max_examples=50)
def test_at_the_limit_the_newest_are_kept_in_whatever_order_they_are_found(order: list[int], again: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(KeptOpen(3)) as unread:
        paths = [written(Path(folder) / str(number)) for number in range(8)]
        for number in order:
            keep(unread, paths[number], number)
        assert [number for number in range(8) if str(paths[number]) in unread] == [5, 6, 7]
        # What is kept is older from now on, and gives way.
        for number in range(8):
            if str(paths[number]) in unread:
                keep(unread, paths[number], -1)
        for number in again:
            keep(unread, paths[number], number)
        assert [number for number in range(8) if str(paths[number]) in unread] == [2, 3, 4]
