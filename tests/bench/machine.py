"""The measured programs, each in its own process, and what the system tells about them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from daemon.state.store import Store
from tests.bench.corpus import FOLDER

__all__ = ["Follower", "Ran", "Receiver", "Room", "cpu_seconds", "receiving", "room", "run"]

ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-m")
DAEMON = (*PYTHON, "daemon.cli")
LIMIT = 900.0
"""After this many seconds, a program that should have ended by itself is ended."""
_READY_LIMIT = 120.0
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_PROC = Path("/proc")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A program that ran to its end.

    Attributes:
        wall: seconds on the clock.
        cpu: processor seconds, including its start.
        peak: its peak memory, in bytes.
    """

    wall: float
    cpu: float
    peak: int


def run(command: Sequence[str], *, env: Mapping[str, str], output: IO[bytes] | int = subprocess.DEVNULL) -> Ran:
    """Run a program to its end.

    Raises:
        RuntimeError: it failed; the message has its output.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=ROOT, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )
        guard = threading.Timer(LIMIT, child.kill)
        guard.start()
        try:
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        finally:
            guard.cancel()
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}: {errors.read().decode()[-2000:]}")
    return Ran(wall=wall, cpu=used.ru_utime + used.ru_stime, peak=used.ru_maxrss * _RSS_UNIT)


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds that a running program has used."""
    if sys.platform == "linux":
        # The clock of another process, in nanoseconds, with threads that have ended (clock_getcpuclockid).
        return time.clock_gettime(~pid << 3 | 2)
    clock = subprocess.check_output(["ps", "-o", "cputime=", "-p", str(pid)], text=True).strip().replace("-", ":")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def memory(pid: int) -> int:
    """Return the memory that a running program uses, in bytes."""
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)], text=True)) * 1024


def descriptors(pid: int) -> int | None:
    """Return how many descriptors a running program has open; None if the system does not tell."""
    folder = _PROC / str(pid) / "fd"
    return len(list(folder.iterdir())) if folder.exists() else None


# ---------------------------------------------------------------------- the daemon's surroundings


@dataclass(frozen=True, slots=True)
class Receiver:
    """The process that receives the daemon's requests."""

    url: str

    def take(self) -> Json:
        """Return the requests, bytes and marks that came since the previous call."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=30) as answer:
            counts = json.load(answer)
        assert isinstance(counts, dict)
        return counts


@contextmanager
def receiving(*, marks: bool = False) -> Iterator[Receiver]:
    """Run a receiver; with *marks*, it records when each mark came."""
    command = [sys.executable, "-m", "tests.bench.sink", *(["--marks"] if marks else [])]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = child.stdout.readline().strip()
        try:
            yield Receiver(f"http://127.0.0.1:{port}")
        finally:
            child.terminate()


class Room:
    """A user's machine for one daemon: a home, a state directory, and the configuration folders with the logs."""

    def __init__(self, folder: Path, receiver: Receiver | None) -> None:
        self.folder = folder
        self.state = folder / "state"
        self._receiver = receiver

    def environment(self, *configs: Path) -> dict[str, str]:
        """Return the whole environment of a daemon that follows the logs in *configs*."""
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CLAUDE_CONFIG_DIR": os.pathsep.join(map(str, configs)),
            "POSTHOG_LLMA_STATE_DIR": str(self.state),
            "POSTHOG_LLMA_DISTINCT_ID": "ada@example.com",
        }
        if self._receiver is not None:
            variables["POSTHOG_HOST"] = self._receiver.url
            variables |= {"POSTHOG_API_KEY": "phc_bench", "POSTHOG_LLMA_CC_ENABLED": "true"}
        return variables

    def sent(self) -> int:
        """Return how many events were delivered."""
        store = Store(self.state)
        try:
            return store.counters().get("sent", 0)
        finally:
            store.close()


@contextmanager
def room(receiver: Receiver | None = None) -> Iterator[Room]:
    """Make a room; leaving the context removes it."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="room-", dir=FOLDER))
    try:
        yield Room(folder, receiver)
    finally:
        shutil.rmtree(folder)


class Follower:
    """A daemon that follows logs; a context manager that ends it.

    Attributes:
        ready_after: seconds from its start until it reported that it is ready.
    """

    def __init__(self, env: Mapping[str, str], output: Path) -> None:
        self._env = env
        self._output = output
        self.ready_after = 0.0

    def __enter__(self) -> Self:
        began = time.monotonic()
        with self._output.open("wb") as errors:
            self._child = subprocess.Popen(
                [*DAEMON, "run", "--log-format", "json"],
                cwd=ROOT,
                env=dict(self._env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        while b'"ready"' not in self._output.read_bytes():
            if self._child.poll() is not None or time.monotonic() > began + _READY_LIMIT:
                self.__exit__()
                raise RuntimeError(f"the daemon did not get ready: {self._output.read_text()[-2000:]}")
            time.sleep(0.002)
        self.ready_after = time.monotonic() - began
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    @property
    def cpu(self) -> float:
        """The processor seconds it has used."""
        return cpu_seconds(self._child.pid)

    @property
    def memory(self) -> int:
        """The bytes of memory it uses."""
        return memory(self._child.pid)

    @property
    def descriptors(self) -> int | None:
        """The number of descriptors it has open."""
        return descriptors(self._child.pid)
