"""What `backfill` asks of a running daemon, and what that answers: two small files in the state directory.

The command puts the request there and takes it away when it changes its mind; the daemon takes it away when it is
done, after it has said so in the report. A daemon that starts and finds a request goes on with it: what is settled is
not sent again. Nothing in a request is a path or is run: it names sessions, and those the daemon does not know are
left out.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import structlog

from daemon.history.backlog import Headway
from daemon.state import layout
from daemon.system.private_file import write_private
from daemon.system.small_file import UnreadableFileError, read_with_status

__all__ = ["BackfillDesk", "BackfillReport", "BackfillRequest", "BadRequestError", "RequestExistsError"]

_log = structlog.get_logger(__name__)

_MAX_BYTES = 64 * 1024 * 1024
_MAX_SESSIONS = 1_000_000
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ID = re.compile(r"[0-9a-f]{32}")

_Id = Annotated[str, msgspec.Meta(pattern=rf"^{_ID.pattern}\Z")]
_Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Size = Annotated[int, msgspec.Meta(ge=0)]


class BadRequestError(Exception):
    """A request cannot be used; the message says which and why, in one line, without anything of it."""


class RequestExistsError(Exception):
    """The daemon has been asked already, and is not done; the message says in one line what to do."""


class BackfillRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for.

    Attributes:
        version: of this format.
        id: names this request, 32 hexadecimal digits.
        units: the sessions by the names of their units, in the order in which they are to be read, with the bytes of
            their logs.
    """

    version: Literal[1] = 1
    id: _Id
    units: Annotated[dict[_Unit, _Size], msgspec.Meta(min_length=1, max_length=_MAX_SESSIONS)]


class BackfillReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far the daemon is with a request.

    Attributes:
        id: which request.
        headway: how far.
        done: whether it is through; nothing follows then.
        waiting: what delivery waits for now, in one line.
    """

    id: _Id
    headway: Headway
    done: bool = False
    waiting: str | None = None


class BackfillDesk:
    """Where the command and the daemon meet.

    Args:
        folder: the state directory.
    """

    def __init__(self, folder: Path) -> None:
        self.request_path = folder / layout.BACKFILL_REQUEST
        self._report_path = folder / layout.BACKFILL_REPORT
        self._seen: tuple[int, int, int] | None = None
        self._request: BackfillRequest | None = None

    # ------------------------------------------------------------------ the command's side

    def ask(self, request: BackfillRequest) -> None:
        """Put a request there.

        Raises:
            RequestExistsError: there is one already.
            OSError: the system refuses.
        """
        mine = self.request_path.with_name(f".{layout.BACKFILL_REQUEST}.{os.getpid()}")
        write_private(mine, msgspec.json.encode(request))
        try:
            # In one step, and never over another's.
            os.link(mine, self.request_path)
        except FileExistsError:
            raise RequestExistsError(
                f"the daemon has been asked for a backfill already ({self.request_path}); wait until it is done, or "
                "remove that file to give it up"
            ) from None
        finally:
            mine.unlink()

    def withdraw(self, request: BackfillRequest) -> None:
        """Take a request away, with its report, if it is still the one that is there.

        Raises:
            OSError: the system refuses.
        """
        if self.is_asked(request):
            self.request_path.unlink(missing_ok=True)
        if self.report(request) is not None:
            self._report_path.unlink(missing_ok=True)

    def is_asked(self, request: BackfillRequest) -> bool:
        """Whether *request* is the one that is there."""
        try:
            there = _read(self.request_path)
        except BadRequestError:
            return False
        return there is not None and there.id == request.id

    def report(self, request: BackfillRequest) -> BackfillReport | None:
        """Return how far the daemon is with *request*; None while it has not taken it up."""
        try:
            found = read_with_status(self._report_path, _MAX_BYTES)
            report = msgspec.json.decode(found[0], type=BackfillReport) if found is not None else None
        except (UnreadableFileError, msgspec.MsgspecError, ValueError):
            # Left by another version; the daemon replaces it.
            return None
        return report if report is not None and report.id == request.id else None

    # ------------------------------------------------------------------ the daemon's side

    def asked(self) -> BackfillRequest | None:
        """Return the request that is there; one that cannot be used is taken away with a line in the log."""
        try:
            status = self.request_path.lstat()
        except OSError:
            self._seen = self._request = None
            return None
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen:
            self._seen = seen
            try:
                self._request = _read(self.request_path)
            except BadRequestError as error:
                self._request = None
                _log.warning("backfill_refused", reason=str(error), action="the request is removed")
                self._drop()
        return self._request

    def tell(self, report: BackfillReport) -> None:
        """Say how far the daemon is; with the last word the request is taken away."""
        try:
            write_private(self._report_path, msgspec.json.encode(report))
        except OSError as error:
            _log.warning("backfill_report_unwritable", reason=error.strerror or str(error))
        if report.done:
            self._drop()

    def _drop(self) -> None:
        self._request = None
        try:
            self.request_path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("backfill_request_stays", reason=error.strerror or str(error), path=str(self.request_path))


def _read(path: Path) -> BackfillRequest | None:
    """Return the request at *path*; None without one.

    Raises:
        BadRequestError: it cannot be used.
    """
    try:
        if path.is_symlink():
            raise BadRequestError(f"{path}: is a link")
        found = read_with_status(path, _MAX_BYTES)
    except UnreadableFileError as error:
        raise BadRequestError(f"{path}: {error.reason}") from None
    if found is None:
        return None
    data, status = found
    if status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
        raise BadRequestError(f"{path}: belongs to, or is open to, another user")
    try:
        return msgspec.json.decode(data, type=BackfillRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadRequestError(f"{path}: is no request of this version") from None
