"""Ensures one instance per state directory: prepares the directory, and locks it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from daemon.state import layout
from daemon.system.messages import system_reason

__all__ = [
    "AlreadyRunning",
    "StateDirError",
    "StateLock",
    "holder",
    "is_locked",
    "locked_since",
    "prepare_state_dir",
]


# is_locked() takes the lock for a moment to check it, and an old instance may be about to end. A starting instance
# waits this long for either before it gives up.
_PATIENCE_S = 0.5
_RETRY_S = 0.02

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StateDirError(Exception):
    """The state directory cannot be used. The message says in one line why, and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"state directory {path} {reason}; fix that or set POSTHOG_LLMA_STATE_DIR to another folder")
        self.path = path
        self.reason = reason


class AlreadyRunning(Exception):  # noqa: N818 - named for a state, like its message
    """Another instance uses this state directory.

    Attributes:
        path: the lock file.
        pid: process id of the other instance; None if it is not known.
    """

    def __init__(self, path: Path, pid: int | None) -> None:
        who = "a daemon" if pid is None else f"a daemon (pid {pid})"
        super().__init__(f"{who} already runs with the state in {path.parent}; one is enough: stop it first")
        self.path = path
        self.pid = pid


def prepare_state_dir(path: Path) -> None:
    """Make *path* a folder that only its owner can enter, and that this process can write to. Create missing parents.

    A folder that is open to other users and contains other files is refused. Its permissions stay as they are.

    Raises:
        StateDirError: the folder is refused, or cannot be created, closed to other users, or written to.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & _OTHERS:
            names = {entry.name for entry in os.scandir(path)}
            if names and layout.LOCK not in names:
                raise StateDirError(path, "is open to other users and contains other files")
            path.chmod(0o700)
        # This fails without permission, on a read-only mount and on a full disk, and it leaves nothing behind.
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"\0")
    except FileExistsError:
        raise StateDirError(path, "is not a folder") from None
    except OSError as error:
        raise StateDirError(path, f"cannot be used ({system_reason(error)})") from error


class StateLock:
    """The lock of one state directory. It is released at the end of the context, or when the process ends in any way.

    Args:
        state_dir: the folder, which must exist.
        patience: seconds to wait for the lock before giving up.
    """

    def __init__(self, state_dir: Path, *, patience: float = _PATIENCE_S) -> None:
        self._path = state_dir / layout.LOCK
        self._patience = patience
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, and write this process's id into its file for people to read.

        Raises:
            AlreadyRunning: another process, or another StateLock of this process, has the lock.
            StateDirError: the file cannot be created or locked.
        """
        if self._descriptor is not None:
            raise AlreadyRunning(self._path, os.getpid())
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateDirError(self._path.parent, f"cannot contain a lock file ({system_reason(error)})") from error
        try:
            self._wait_for(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise StateDirError(self._path.parent, f"cannot be locked ({system_reason(error)})") from error
        except AlreadyRunning:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        # The file stays. Otherwise one process could lock the removed file while another locks a new one.
        os.ftruncate(descriptor, 0)
        os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise AlreadyRunning(self._path, _pid_in(descriptor)) from None
                time.sleep(_RETRY_S)
            else:
                return


def is_locked(state_dir: Path) -> bool:
    """Whether an instance runs on *state_dir*. For commands that only look: it changes nothing."""
    locked, _ = _look(state_dir)
    return locked


def holder(state_dir: Path) -> int | None:
    """Return the process id of the instance on *state_dir*; None if none runs, or its id is not known."""
    locked, pid = _look(state_dir)
    return pid if locked else None


def locked_since(state_dir: Path) -> float | None:
    """Return when the instance on *state_dir* started, in seconds since the epoch; None if none runs."""
    try:
        return (state_dir / layout.LOCK).stat().st_mtime if is_locked(state_dir) else None
    except FileNotFoundError:
        return None


def _look(state_dir: Path) -> tuple[bool, int | None]:
    try:
        descriptor = os.open(state_dir / layout.LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return False, None
    try:
        # A shared lock, so that two processes that look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return True, _pid_in(descriptor)
    else:
        return False, None
    finally:
        os.close(descriptor)


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
