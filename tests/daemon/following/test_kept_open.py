"""Logs with something to read are kept open, so that a deleted log can still be read."""

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
def kept() -> Iterator[KeptOpen]:
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


def keep(kept: KeptOpen, path: Path, modified: int = 0) -> None:
    kept.keep(str(path), identity(path), modified)


def replaced(path: Path, data: bytes) -> None:
    beside = written(path.with_name("beside"), data)
    beside.replace(path)


def read(tail: Tail, limit: int = EVERYTHING) -> list[bytes] | None:
    """Return the lines of one read; None if the path leads to another file now."""
    chunk = tail.read(limit)
    return None if chunk is None else [line.data or b"" for line in chunk.lines]


# ---------------------------------------------------------------------- which logs are kept open


def test_a_log_is_kept_once_until_it_is_released(kept: KeptOpen, log: Path) -> None:
    keep(kept, log)
    keep(kept, log)
    assert len(kept) == 1
    assert str(log) in kept
    kept.release(str(log))
    assert len(kept) == 0
    assert str(log) not in kept
    assert kept.borrow(str(log)) is None
    kept.release(str(log))


def test_borrowing_returns_the_log_with_that_identity_or_the_oldest(kept: KeptOpen, log: Path) -> None:
    keep(kept, log)
    first = identity(log)
    replaced(log, b"{}\n")
    keep(kept, log)
    for wanted, content in [(first, LINES), (identity(log), b"{}\n"), (None, LINES)]:
        file = kept.borrow(str(log), wanted)
        assert file is not None
        with file:
            assert file.read() == content
    kept.drop(str(log), first)
    assert kept.borrow(str(log), first) is None
    file = kept.borrow(str(log))
    assert file is not None
    file.close()


def test_at_the_limit_the_newest_logs_are_kept(kept: KeptOpen, tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{number}.jsonl") for number in range(6)]
    for path, modified in zip(paths, [50, 10, 40, 20, 5, 60], strict=True):
        keep(kept, path, modified)
    assert [str(path) in kept for path in paths] == [True, False, True, False, False, True]


def test_a_log_that_has_grown_counts_as_newer(kept: KeptOpen, tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{number}.jsonl") for number in range(4)]
    for modified, path in enumerate(paths[:3]):
        keep(kept, path, modified)
    keep(kept, paths[0], 100)
    keep(kept, paths[3], 50)
    assert [str(path) in kept for path in paths] == [True, False, True, True]


def test_most_descriptors_of_the_process_stay_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_closing_frees_every_descriptor(log: Path, tmp_path: Path) -> None:
    before = len(list(DESCRIPTORS.iterdir()))
    kept = KeptOpen()
    keep(kept, log)
    keep(kept, written(tmp_path / "b.jsonl"))
    replaced(log, LINES)
    keep(kept, log)
    assert len(list(DESCRIPTORS.iterdir())) == before + 3
    kept.close()
    assert len(list(DESCRIPTORS.iterdir())) == before
    kept.close()


def test_a_log_that_cannot_be_opened_is_not_kept(kept: KeptOpen, tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path)
    for name in ("missing.jsonl", "link.jsonl"):
        kept.keep(str(tmp_path / name), (1, 2), 0)
    assert len(kept) == 0


# ---------------------------------------------------------------------- reading a log that is kept open


def deleted(path: Path) -> None:
    path.unlink()


def moved_away(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")


@pytest.mark.parametrize("leave", [deleted, moved_away])
@pytest.mark.parametrize("half_read", [False, True])
def test_a_log_that_is_gone_is_still_read_to_its_end(
    kept: KeptOpen, log: Path, leave: Callable[[Path], None], *, half_read: bool
) -> None:
    tail = Tail(str(log), kept=kept)
    if half_read:
        tail.open()
        assert read(tail, 15) == [b'{"number":1}']
    keep(kept, log)
    append(log, b"{}\nhalf a line")
    leave(log)
    if not half_read:
        tail.open()
        assert read(tail, 15) == [b'{"number":1}']
    assert read(tail) == [b'{"number":2}', b"{}"]
    assert len(kept) == 0, "it is read to its end"
    assert read(tail) == []


def test_logs_that_replaced_each_other_are_read_one_after_the_other(kept: KeptOpen, log: Path) -> None:
    tail = Tail(str(log), kept=kept)
    tail.open()
    keep(kept, log)
    replaced(log, b"[1]\n")
    keep(kept, log)
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
    assert len(kept) == 0


def test_a_log_read_to_its_end_is_over_once_its_successor_is_kept(kept: KeptOpen, log: Path) -> None:
    tail = Tail(str(log), kept=kept)
    tail.open()
    tail.read(EVERYTHING)
    replaced(log, b"[1]\n")
    keep(kept, log)
    log.unlink()
    assert read(tail) is None
    assert tail.fate(tells) == "over"
    tail.open()
    assert read(tail) == [b"[1]"]


def tells(line: bytes) -> bool:
    return line != b"{}"


def test_a_log_lives_on_in_a_file_made_from_it(kept: KeptOpen, log: Path) -> None:
    tail = Tail(str(log), kept=kept)
    tail.open()
    tail.read(EVERYTHING)
    for content, fate in [
        (LINES + b"{}\n", "lives on"),
        (b"{}\n" + LINES, "lives on"),
        (LINES[:5], "lives on"),
        (b"", "lives on"),
        (b"[]\n", "over"),
        (b"[]", "open"),
        (b"{}\n", "open"),
        (b"{}\n" + LINES[:5], "open"),
        (b"{}\n[]\n" + LINES[:5], "over"),
        (b"{}\n" * 30_000, "over"),
        (LINES[:11] + b"{}\n", "over"),
        (b"{}\n" + LINES[13:], "lives on"),
    ]:
        replaced(log, content)
        assert (content[:40], tail.fate(tells)) == (content[:40], fate)
    log.unlink()
    assert tail.fate(tells) == "over"


@given(order=st.permutations(range(8)), again=st.permutations(range(5)))
@settings(max_examples=50)
def test_at_the_limit_the_newest_logs_are_kept_in_any_order_of_finding_them(order: list[int], again: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(KeptOpen(3)) as kept:
        paths = [written(Path(folder) / str(number)) for number in range(8)]
        for number in order:
            keep(kept, paths[number], number)
        assert [number for number in range(8) if str(paths[number]) in kept] == [5, 6, 7]
        # The logs kept so far count as older from now on, and are replaced.
        for number in range(8):
            if str(paths[number]) in kept:
                keep(kept, paths[number], -1)
        for number in again:
            keep(kept, paths[number], number)
        assert [number for number in range(8) if str(paths[number]) in kept] == [2, 3, 4]
