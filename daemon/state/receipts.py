"""The receipts: which of the events that programs record were sent, for `verify`.

A file of the outbox is removed once it is delivered, and then nothing else tells what was in it. A receipt says which
event went where, when, and its numbers, never its content.

receipts/2026-11-30.jsonl    the receipts of a day in UTC, a line each, in the order in which they were settled

They are written before the store, so that a crash between the two leaves a receipt of an event that is sent again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from daemon.state import layout
from daemon.system import any_json
from daemon.system.messages import system_reason

__all__ = ["Receipt", "Receipts", "full_days", "read_receipts"]

_log = structlog.get_logger(__name__)

_KEPT_DAYS = 30
_DAY_BYTES = 64 * 1024 * 1024
"""How much is kept of one day: some two hundred thousand events."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """An event that was settled.

    Attributes:
        uuid: its uuid.
        kind: its name.
        session: the session that it says it belongs to; None without one.
        trace: the id of its trace.
        model: its model; None without one.
        at: its time, in milliseconds since the epoch; 0 if unknown.
        input: tokens sent that no cache held.
        given: tokens sent, as the event counts them: with those that a cache held, or without.
        output: tokens that the model wrote.
        cache_read: tokens read from the cache.
        cache_write_5m: tokens written to the cache for five minutes, or for a time that is not said.
        cache_write_1h: tokens written to the cache for an hour.
        web_searches: searches that the provider ran.
        provider: who serves the model; None if unknown.
        tier: the service tier if it is not the standard one.
        prices: prices that hold for it alone, as JSON by kind.
        is_priced: whether it is a call that costs something, so no failed attempt.
        folder: the working directory of the program; None if it said none.
        host: the host it was sent to.
        key: fingerprint of the project's key.
    """

    uuid: str
    kind: str
    session: str | None
    trace: str
    model: str | None
    at: int
    input: int
    given: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    web_searches: int
    provider: str | None
    tier: str | None
    prices: str | None
    is_priced: bool
    folder: str | None
    host: str
    key: str


class Receipts:
    """Writes receipts. Use it from one thread only.

    Args:
        state_dir: the state directory.
        now: returns the time.
        most: bytes to keep of all days before the current one; of more, the oldest days go first.
        most_a_day: bytes to keep of one day.
    """

    def __init__(
        self,
        state_dir: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        most: int = 256 * 1024 * 1024,
        most_a_day: int = _DAY_BYTES,
    ) -> None:
        self._folder = layout.receipts_folder(state_dir)
        self._now = now
        self._most = most
        self._most_a_day = most_a_day
        self._fails = False

    def add(self, receipts: Iterable[Receipt]) -> None:
        """Add receipts to those of today. What cannot be written is not kept: then `verify` knows less."""
        data = b"".join(any_json.encode(receipt) + b"\n" for receipt in receipts)
        if not data:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._folder.is_symlink():
                # Nobody would read them there, nor remove them with the other files of the state directory.
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self._append(_path(self._folder, self._now().date()), data)
            self._fails = False
        except OSError as error:
            if not self._fails:
                self._fails = True
                _log.warning("receipts_not_written", folder=str(self._folder), reason=system_reason(error))

    def tidy(self) -> None:
        """Remove the receipts of old days, and the oldest ones of more than may be kept."""
        today, left = self._now().date(), self._most
        try:
            for day, path in sorted(_days(self._folder), reverse=True):
                if day == today:
                    continue
                left -= path.stat().st_size
                if left < 0 or day < today - timedelta(days=_KEPT_DAYS):
                    path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("receipts_not_removed", folder=str(self._folder), reason=system_reason(error))

    def _append(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size >= self._most_a_day:
                return
            # The disk may have been full in the middle of a line.
            is_whole = not size or os.pread(descriptor, 1, size - 1) == b"\n"
            os.write(descriptor, data if is_whole else b"\n" + data)
        finally:
            os.close(descriptor)


def read_receipts(state_dir: Path) -> Iterator[Receipt]:
    """Yield the receipts in a state directory, in the order in which they were settled. An event may have several.

    Lines that cannot be read are passed over.

    Raises:
        OSError: a file cannot be read.
    """
    decoder = msgspec.json.Decoder(Receipt)
    for _, path in sorted(_days(layout.receipts_folder(state_dir))):
        with path.open("rb") as file:
            for line in file:
                with suppress(ValueError, msgspec.MsgspecError, RecursionError):
                    try:
                        yield decoder.decode(line)
                    except msgspec.MsgspecError:
                        # The name of a folder need not be UTF-8.
                        yield any_json.decode(line, Receipt)


def full_days(state_dir: Path, most: int = _DAY_BYTES) -> list[str]:
    """Return the days on which more events were settled than receipts are kept of, such as `2026-11-30`.

    Args:
        state_dir: the state directory.
        most: bytes that are kept of one day.

    Raises:
        OSError: the folder cannot be read.
    """
    days = sorted(_days(layout.receipts_folder(state_dir)))
    return [day.isoformat() for day, path in days if path.stat().st_size >= most]


def _path(folder: Path, day: date) -> Path:
    return folder / f"{day.isoformat()}{layout.RECEIPT_SUFFIX}"


def _days(folder: Path) -> Iterator[tuple[date, Path]]:
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        with suppress(ValueError):
            if path.name.endswith(layout.RECEIPT_SUFFIX) and path.is_file() and not path.is_symlink():
                yield date.fromisoformat(path.name.removesuffix(layout.RECEIPT_SUFFIX)), path
