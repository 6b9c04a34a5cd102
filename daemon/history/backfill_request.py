"""The request of `backfill` to a running daemon, and the daemon's report: two small files in the state directory.

The command writes the request, and removes it to cancel. The daemon removes it when it is done, after it has written so
in the report. A daemon that finds a request when it starts continues with it: settled events are not sent again.
Nothing in a request is a path or is executed. It names sessions, and the daemon ignores those it does not know.
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
from daemon.state.schema import unit_name
from daemon.system import any_json
from daemon.system.messages import system_reason
from daemon.system.private_file import write_private
from daemon.system.small_file import UnreadableFileError, read_with_status

__all__ = ["BackfillDesk", "BackfillReport", "BackfillRequest", "BadRequestError", "RequestExistsError"]

_log = structlog.get_logger(__name__)

_MAX_BYTES = 64 * 1024 * 1024
_MAX_SESSIONS = 1_000_000
_MAX_RESENDS = 1_000_000
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ID = re.compile(r"[0-9a-f]{32}")

_Id = Annotated[str, msgspec.Meta(pattern=rf"^{_ID.pattern}\Z")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Uuid = Annotated[str, msgspec.Meta(min_length=36, max_length=36)]
_Size = Annotated[int, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class BadRequestError(Exception):
    """A request cannot be used; the message says which and why, in one line, without any of its content."""


class RequestExistsError(Exception):
    """The daemon already has a request and is not done with it; the message says in one line what to do."""


class BackfillRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request to send some sessions.

    Attributes:
        version: of this format. In version 1 units had other names; see `daemon.state.schema`.
        id: names this request, 32 hexadecimal digits.
        units: the sessions by the names of their units, in the order in which they are to be read, with the bytes of
            their logs.
        resends: the uuids of the only events of these sessions that are to be sent, although they were settled; None:
            all that was never settled. It is written only where it is set, so that an older daemon takes other requests
            and refuses this one.
        jobs: how many processes may read them at a time; None: as many as the daemon thinks right. Written like
            *resends*.
    """

    version: Literal[1, 2] = 2
    id: _Id
    units: Annotated[dict[_Name, _Size], msgspec.Meta(min_length=1, max_length=_MAX_SESSIONS)]
    resends: Annotated[list[_Uuid], msgspec.Meta(max_length=_MAX_RESENDS)] | None = None
    jobs: _Count | None = None


class BackfillReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's progress with a request.

    Attributes:
        id: the request's id.
        headway: the progress.
        done: whether the daemon is done; then this is the last report.
        waiting: what delivery waits for now, in one line; None if it does not wait.
    """

    id: _Id
    headway: Headway
    done: bool = False
    waiting: str | None = None


class BackfillDesk:
    """Writes and reads the two files, for the command and for the daemon.

    Args:
        folder: the state directory.

    Attributes:
        request_path: the path of the request.
    """

    def __init__(self, folder: Path) -> None:
        self.request_path = folder / layout.BACKFILL_REQUEST
        self._report_path = folder / layout.BACKFILL_REPORT
        self._seen: tuple[int, int, int] | None = None
        self._request: BackfillRequest | None = None

    # ------------------------------------------------------------------ the command's side

    def ask(self, request: BackfillRequest) -> None:
        """Write a request.

        Raises:
            RequestExistsError: another request exists.
            OSError: the system refuses.
        """
        mine = self.request_path.with_name(f".{layout.BACKFILL_REQUEST}.{os.getpid()}")
        write_private(mine, any_json.encode(request))
        try:
            # A link appears in one step, and never replaces another command's request.
            os.link(mine, self.request_path)
        except FileExistsError:
            raise RequestExistsError(
                f"the daemon already has a request for a backfill ({self.request_path}); wait until it is done, or "
                "remove that file to cancel it"
            ) from None
        finally:
            mine.unlink()

    def withdraw(self, request: BackfillRequest) -> None:
        """Remove a request and its report, unless another request has replaced it.

        Raises:
            OSError: the system refuses.
        """
        if self.is_pending(request):
            self.request_path.unlink(missing_ok=True)
        if self.report(request) is not None:
            self._report_path.unlink(missing_ok=True)

    def is_pending(self, request: BackfillRequest) -> bool:
        """Whether *request* is the current one: the daemon is not done with it."""
        try:
            current = _read(self.request_path)
        except BadRequestError:
            return False
        return current is not None and current.id == request.id

    def report(self, request: BackfillRequest) -> BackfillReport | None:
        """Return the daemon's latest report on *request*; None while it has not begun."""
        try:
            found = read_with_status(self._report_path, _MAX_BYTES)
            report = any_json.decode(found[0], BackfillReport) if found is not None else None
        except (UnreadableFileError, msgspec.MsgspecError, ValueError, RecursionError):
            # Another version has left it; the daemon will replace it.
            return None
        return report if report is not None and report.id == request.id else None

    # ------------------------------------------------------------------ the daemon's side

    def pending(self) -> BackfillRequest | None:
        """Return the current request; remove one that cannot be used, and log that."""
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
                self._remove_request()
        return self._request

    def tell(self, report: BackfillReport) -> None:
        """Write a report; after the last one, remove the request."""
        try:
            write_private(self._report_path, any_json.encode(report))
        except OSError as error:
            _log.warning("backfill_report_unwritable", reason=system_reason(error))
        if report.done:
            self._remove_request()

    def _remove_request(self) -> None:
        self._request = None
        try:
            self.request_path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("backfill_request_not_removed", reason=system_reason(error), path=str(self.request_path))


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
        raise BadRequestError(f"{path}: belongs to another user, or another user may read or write it")
    try:
        request = any_json.decode(data, BackfillRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadRequestError(f"{path}: is no request of this version") from None
    if request.version == 1:
        units = {unit_name(name): size for name, size in request.units.items()}
        return msgspec.structs.replace(request, version=2, units=units)
    return request
