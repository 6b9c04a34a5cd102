"""The outbox: a folder of files, to which each process appends lines.

Writing takes no lock, because a fork, a signal handler or the end of the interpreter may find it taken forever. A line
is one `write` to a file in append mode. `fstat` before it tells whether the file is still ours: a program may close
descriptors that it did not open, and then their numbers mean other files. A file is closed when the last reference to
it is gone, so no thread writes to a number that now means something else.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import Any

from llma_recorder import encoding
from llma_recorder.identifiers import moment, uuid7
from llma_recorder.version import __version__

__all__ = ["LARGEST_FILE", "LARGEST_OUTBOX", "Outbox", "is_opted_out", "outbox"]

LARGEST_FILE = 64_000_000
"""Bytes after which a process begins a new file."""
LARGEST_OUTBOX = 1_000_000_000
"""Bytes in the folder after which nothing more is written."""

_APP_NAME = "posthog-llma-daemon"
_FALSE = frozenset({"", "0", "false", "no", "off", "n", "f"})
_PRIVATE = 0o600
_LOOK_AGAIN = 1.0
"""Seconds after which the folder is looked for or measured again."""
_PAUSE = 20
"""How many times as long as measuring the folder took it is left alone afterwards."""
_BYTES_BETWEEN = 8_000_000
"""Bytes written by this process after which the folder is measured before that time is over."""
_PATIENCE = 0.05
"""Seconds to wait for another thread that opens a file."""
_NAMES_TRIED = 10_000
_FIRST_OWN_DESCRIPTOR = 3

_imported = time.time_ns() // 1_000_000


def is_opted_out() -> bool:
    """Whether the environment variable OPT_OUT_CAPTURE opts out. Words for no, such as `0` and `false`, do not."""
    return os.environ.get("OPT_OUT_CAPTURE", "").strip().lower() not in _FALSE


def outbox() -> Outbox | None:
    """Return the outbox that the environment names; None if its folder does not exist or recording is opted out of.

    It is the folder POSTHOG_LLMA_OUTBOX, or else `outbox` in the daemon's state directory.
    """
    if sys.platform == "win32" or is_opted_out():
        return None
    folder = os.path.abspath(_named_folder())
    if not os.path.isdir(folder):
        return None
    # There is one for each folder, whichever thread asks first.
    return _outboxes.get(folder) or _outboxes.setdefault(folder, Outbox(folder))


def _named_folder() -> str:
    named = os.environ.get("POSTHOG_LLMA_OUTBOX", "").strip()
    if named:
        return os.path.expanduser(named)
    state = os.environ.get("POSTHOG_LLMA_STATE_DIR", "").strip()
    if state:
        return os.path.join(os.path.expanduser(state), "outbox")
    base = os.environ.get("XDG_STATE_HOME", "").strip()
    if not os.path.isabs(base):
        base = os.path.expanduser("~/Library/Application Support" if sys.platform == "darwin" else "~/.local/state")
    return os.path.join(base, _APP_NAME, "outbox")


class _File:
    """A file of this process, open for appending. It is closed when the last reference to it is gone.

    Args:
        path: its path. It must not exist.
        number: which of the process's files it is.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: str, number: int) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, _PRIVATE)
        if descriptor < _FIRST_OWN_DESCRIPTOR:
            # The program has closed its standard streams; what it prints must not come into our file.
            import fcntl  # noqa: PLC0415 -- hardly ever needed, and not on every system

            low = descriptor
            descriptor = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN_DESCRIPTOR)
            os.close(low)
        self.path = path
        self.number = number
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self._fstat = os.fstat
        self._close = os.close

    def size(self) -> int:
        """Return the size in bytes; that of a full file if the file was deleted or is no longer ours."""
        try:
            status = self._fstat(self._descriptor)
        except OSError:
            return LARGEST_FILE
        if (status.st_dev, status.st_ino) != self._identity or not status.st_nlink:
            return LARGEST_FILE
        return status.st_size

    def append(self, data: bytes) -> int:
        """Write *data* and return how many bytes of it were written.

        Raises:
            OSError: the system refuses.
        """
        return os.write(self._descriptor, data)

    def __del__(self) -> None:
        try:
            status = self._fstat(self._descriptor)
            # Whoever closed the descriptor may have got its number for something else.
            if (status.st_dev, status.st_ino) == self._identity:
                self._close(self._descriptor)
        except Exception:  # noqa: BLE001, S110 -- it was never opened, or is closed already
            pass


class _Process:
    """What belongs to one process; a fork begins a new one.

    Args:
        folder: the outbox's path.
        pid: the process's id.
    """

    def __init__(self, folder: str, pid: int) -> None:
        self.pid = pid
        self.started = _started(pid)
        self.file: _File | None = None
        self.opening = threading.Lock()
        self.counting = threading.Lock()
        self.written: list[str] = []
        self.dropped = {"too_full": 0, "disk": 0, "encode": 0}
        self.reported: tuple[int, ...] = (0, 0, 0)
        self.next_report = 0.0
        self.next_name = 0
        self.prefix = os.path.join(folder, f"{pid}-{self.started}")


class Outbox:
    """Appends lines to a folder. Safe in threads, signal handlers and forked processes.

    Args:
        folder: its absolute path. It must exist.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._process = _Process(folder, os.getpid())
        self._is_full = False
        self._next_look = 0.0
        self._gone_until = 0.0
        self._room_until_look = 0
        atexit.register(self._report_at_exit)

    def write(self, fields: dict[str, Any]) -> bool:
        """Append a line and return whether it is in the file. It never raises; a line that is lost is counted.

        Without the folder nothing is written, and nothing is lost: nobody asked for lines.

        Args:
            fields: the line's fields. Their values may be anything.
        """
        now = time.monotonic()
        if now < self._gone_until:
            return False
        try:
            data = encoding.line(fields)
        except Exception:  # noqa: BLE001 -- no room for the text, for example
            self.drop("encode")
            return False
        try:
            if self._has_no_room(len(data), now):
                self.drop("too_full")
                return False
            if self._append(data):
                return True
        except FileNotFoundError:
            # The folder was removed, and with it the wish for lines; it may be made again.
            self._gone_until = now + _LOOK_AGAIN
            return False
        except Exception:  # noqa: BLE001, S110 -- whatever it is, the line is lost, and counted below
            pass
        self.drop("disk")
        return False

    def drop(self, why: str) -> None:
        """Count a line that is lost.

        Args:
            why: `too_full`, `disk` or `encode`.
        """
        with contextlib.suppress(Exception):
            process = self._own()
            is_ours = process.counting.acquire(timeout=_PATIENCE)
            process.dropped[why] += 1
            if is_ours:
                process.counting.release()
            self._report(process)

    def flush(self) -> bool:
        """Bring everything to the disk that this process has written; return whether that worked. It never raises."""
        try:
            process = self._own()
            self._report(process, at_once=True)
            current = process.file
            for name in list(process.written):
                with contextlib.suppress(FileNotFoundError):  # the daemon has sent all of it and removed the file
                    _sync(name)
                if current is None or name != current.path:
                    process.written.remove(name)
            _sync(self.folder)
        except Exception:  # noqa: BLE001 -- whatever it is, the caller is told
            return False
        return True

    def _own(self) -> _Process:
        """Return what belongs to the running process."""
        process = self._process
        if process.pid != os.getpid():
            process = self._process = _Process(self.folder, os.getpid())
        return process

    def _append(self, data: bytes) -> bool:
        # A line that was cut off, and cannot be continued, is written again to another file.
        return self._appended(data) or self._appended(data)

    def _appended(self, data: bytes) -> bool:
        """Append *data* to a file; return whether it is there as a whole.

        Raises:
            OSError: nothing of it was written.
        """
        process = self._own()
        file = process.file
        before = LARGEST_FILE if file is None else file.size()
        if file is None or before + len(data) > LARGEST_FILE:
            file = self._open(process, len(data))
            before = file.size()
        written = file.append(data)
        if written == len(data):
            return True
        # The disk is full, or the process may not write more. Nobody may add to what was cut off.
        process.file = None
        with contextlib.suppress(OSError):
            if file.size() == before + written and file.append(data[written:]) == len(data) - written:
                return True
        with contextlib.suppress(OSError):
            file.append(b"\n")
        return False

    def _open(self, process: _Process, size: int) -> _File:
        """Return a file with room for *size* bytes.

        Raises:
            OSError: none can be made.
        """
        # Without waiting forever: the thread that has the lock may be one that never runs again.
        is_ours = process.opening.acquire(timeout=_PATIENCE)
        try:
            file = process.file
            if file is None or file.size() + size > LARGEST_FILE:
                file = self._new_file(process)
                if file.number + 1 == process.next_name:
                    # A later one, of a thread that has not waited, stays: the daemon removes all but the last.
                    process.file = file
            return file
        finally:
            if is_ours:
                process.opening.release()

    def _new_file(self, process: _Process) -> _File:
        # A program that this process was before (exec keeps the pid and the time) has used some. The daemon removes all
        # but the last one, so what comes later needs a higher number.
        if not process.next_name:
            number = _next_number(process.prefix)
            process.next_name = max(number, process.next_name)
        for _ in range(_NAMES_TRIED):
            number = process.next_name
            process.next_name += 1
            # Another thread may have taken it.
            with contextlib.suppress(FileExistsError):
                file = _File(f"{process.prefix}-{number}.jsonl", number)
                break
        else:
            raise FileExistsError(process.prefix)
        data = encoding.line(_first_line(process))
        written = 0
        try:
            written = file.append(data)
        finally:
            if written != len(data):
                # Shorter lines may still fit into the file before, which has to be the last one then.
                os.unlink(file.path)
        if written != len(data):
            raise OSError("no room for the first line")
        process.written.append(file.path)
        return file

    def _has_no_room(self, size: int, now: float) -> bool:
        self._room_until_look -= size
        if now >= self._next_look or self._room_until_look < 0:
            total = 0
            for name in os.listdir(self.folder):
                if name.endswith(".jsonl"):
                    with contextlib.suppress(OSError):
                        total += os.stat(os.path.join(self.folder, name)).st_size
            self._is_full = total + size > LARGEST_OUTBOX
            self._room_until_look = _BYTES_BETWEEN
            # A folder of very many files takes a while.
            took = time.monotonic() - now
            self._next_look = now + max(_LOOK_AGAIN, _PAUSE * took)
        return self._is_full

    def _report(self, process: _Process, *, at_once: bool = False) -> None:
        """Write the counts of lost lines beside the files, at most once a second."""
        counts = tuple(process.dropped.values())
        now = time.monotonic()
        if counts == process.reported or not (at_once or now >= process.next_report):
            return
        process.next_report = now + _LOOK_AGAIN
        path = f"{process.prefix}.dropped.json"
        partial = f"{path}.{threading.get_ident()}"
        data = encoding.line({**process.dropped, "at": moment(time.time_ns() // 1_000_000)})
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _PRIVATE)
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError("no room for the counts")
            finally:
                os.close(descriptor)
            os.replace(partial, path)
            process.reported = counts
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)

    def _report_at_exit(self) -> None:
        with contextlib.suppress(Exception):
            if self._process.pid == os.getpid():
                self._report(self._process, at_once=True)


_outboxes: dict[str, Outbox] = {}


def _next_number(prefix: str) -> int:
    """Return the number that follows those of a process's files."""
    folder, start = os.path.split(f"{prefix}-")
    found = [name[len(start) : -len(".jsonl")] for name in os.listdir(folder) if name.startswith(start)]
    return max((int(number) for number in found if number.isdecimal()), default=-1) + 1


def _first_line(process: _Process) -> dict[str, Any]:
    now = time.time_ns() // 1_000_000
    fields: dict[str, Any] = {"v": 1, "type": "process", "uuid": uuid7(now), "at": moment(now)}
    fields.update(pid=process.pid, started=process.started)
    with contextlib.suppress(OSError):  # the working directory was removed
        fields["cwd"] = os.getcwd()
    fields.update(library="llma-recorder", library_version=__version__, language="python")
    return fields


def _started(pid: int) -> int:
    """Return when the process started, in milliseconds since the epoch."""
    try:
        with open("/proc/self/stat", "rb") as stat, open("/proc/stat", "rb") as machine:
            # The name in the second field may contain spaces and parentheses.
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
            booted = next(int(line.split()[1]) for line in machine if line.startswith(b"btime "))
        return int((booted + ticks / os.sysconf("SC_CLK_TCK")) * 1000)
    except Exception:  # noqa: BLE001 -- there is no /proc here, or an unusual one
        return _imported if pid == _imported_by else time.time_ns() // 1_000_000


_imported_by = os.getpid()


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
