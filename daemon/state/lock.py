"""Ensures one instance per state directory: prepares the directory, and locks it.

The lock's file says who holds it: the process id, and in a second line how long that process keeps it and which command
it runs, as in `starts view`. An older version wrote the process id alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

from daemon.state import layout
from daemon.system.messages import system_reason

__all__ = [
    "AlreadyRunning",
    "Holder",
    "Stage",
    "StateDirError",
    "StateLock",
    "holder",
    "is_locked",
    "locked_since",
    "look",
    "prepare_state_dir",
]


# is_locked() takes the lock for a moment to check it, and an old instance may be about to end. A starting instance
# waits this long for either before it gives up.
_PATIENCE_S = 0.5
_RETRY_S = 0.02

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FILE_BYTES = 128

Stage = Literal["starts", "follows", "ends"]
"""What the holder of a lock does: it `follows` logs for as long as it runs, and has read what was logged before; it
`starts` to follow them, and has not read that yet; or it does one thing and `ends`."""
_STAGES = frozenset[str](get_args(Stage))


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: its process id; None if it is not known.
        stage: what it does.
        verb: the command that it runs, such as `usage`; None for a daemon.
    """

    pid: int | None
    stage: Stage = "follows"
    verb: str | None = None

    @property
    def is_daemon(self) -> bool:
        """Whether it is the daemon, which reports what it does in a file of its own."""
        return self.verb is None or self.verb.split()[0] == "run"

    def __str__(self) -> str:
        who = "a daemon" if self.verb is None else f"`{self.verb}`"
        return who if self.pid is None else f"{who} (pid {self.pid})"

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the holder that wrote *text* into the lock's file."""
        pid, _, words = text.strip().partition("\n")
        if not pid.isdigit():
            # It has just taken the lock and not written yet, or is about to release it.
            return cls(None, "ends")
        stage, _, verb = words.partition(" ")
        known: Stage = stage if stage in _STAGES else "follows"  # type: ignore[assignment] # one of them, then
        return cls(int(pid), known, verb or None)

    def written(self) -> str:
        """Return what `read` reads."""
        words = self.stage if self.verb is None else f"{self.stage} {self.verb}"
        # A daemon that follows is what older versions expect.
        return f"{self.pid}\n" if words == "follows" else f"{self.pid}\n{words}\n"


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
        holder: the other instance.
    """

    def __init__(self, path: Path, holder: Holder) -> None:
        if holder.stage == "ends":
            what = f"uses the state in {path.parent} until it has ended; wait for it, or stop it"
        else:
            what = f"already runs with the state in {path.parent}; one is enough: stop it first"
        super().__init__(f"{holder} {what}")
        self.path = path
        self.holder = holder


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
        state_dir: the folder, which must exist when the lock is taken.
        patience: seconds to wait for the lock before giving up.
        stage: what this process is about to do while it holds the lock.
        verb: the command that it runs; None for a daemon.

    Attributes:
        folder: the folder.
    """

    def __init__(
        self, state_dir: Path, *, patience: float = _PATIENCE_S, stage: Stage = "follows", verb: str | None = None
    ) -> None:
        self.folder = state_dir
        self._path = state_dir / layout.LOCK
        self._patience = patience
        self._stage: Stage = stage
        self._verb = verb
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, and write into its file who has it.

        Raises:
            AlreadyRunning: another process, or another StateLock of this process, has the lock.
            StateDirError: the file cannot be created or locked.
        """
        if self._descriptor is not None:
            raise AlreadyRunning(self._path, self._self())
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateDirError(self._path.parent, f"cannot contain a lock file ({system_reason(error)})") from error
        try:
            self._wait_for(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._self().written().encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise StateDirError(self._path.parent, f"cannot be locked ({system_reason(error)})") from error
        except AlreadyRunning:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def note_current(self) -> None:
        """Tell others that everything logged before this process started is read, and that it follows from now on."""
        self._stage = "follows"
        if self._descriptor is None:
            return
        # On a full disk, others go on to say that what they show is not complete.
        with contextlib.suppress(OSError):
            began = os.fstat(self._descriptor).st_mtime_ns
            written = self._self().written().encode()
            os.pwrite(self._descriptor, written, 0)
            os.ftruncate(self._descriptor, len(written))
            # The time of the file is when this process took the lock.
            os.utime(self._descriptor, ns=(began, began))

    def _self(self) -> Holder:
        return Holder(os.getpid(), self._stage, self._verb)

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        # The file stays. Otherwise one process could lock the removed file while another locks a new one. A disk that
        # has become read-only keeps the old words, which count only while somebody has the lock.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise AlreadyRunning(self._path, _holder_in(descriptor)) from None
                time.sleep(_RETRY_S)
            else:
                return


def is_locked(state_dir: Path) -> bool:
    """Whether an instance runs on *state_dir*. For commands that only look: it changes nothing."""
    return look(state_dir) is not None


def holder(state_dir: Path) -> int | None:
    """Return the process id of the instance on *state_dir*; None if none runs, or its id is not known."""
    found = look(state_dir)
    return found.pid if found is not None else None


def locked_since(state_dir: Path) -> float | None:
    """Return when the instance on *state_dir* started, in seconds since the epoch; None if none runs."""
    try:
        return (state_dir / layout.LOCK).stat().st_mtime if is_locked(state_dir) else None
    except FileNotFoundError:
        return None


def look(state_dir: Path) -> Holder | None:
    """Return who holds the lock of *state_dir*; None if nobody does. It changes nothing."""
    try:
        descriptor = os.open(state_dir / layout.LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        # A shared lock, so that two processes that look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return _holder_in(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _holder_in(descriptor: int) -> Holder:
    return Holder.read(os.pread(descriptor, _FILE_BYTES, 0).decode("utf-8", "replace"))
