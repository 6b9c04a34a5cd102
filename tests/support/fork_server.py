"""Starts Python programs by forking a process that has already imported them.

    with ForkServer(environment, preload=["daemon"]) as server:
        process = await server.spawn("daemon.cli", ["status"], ...)

A new interpreter spends a quarter of a second of processor time on its imports, and the tests start the command line
some thousand times. The server imports everything once and then forks. Each program is still a process of its own: its
environment, folder, output, session, signals and exit status are those of `python -m`. What only a new interpreter
heeds, such as PYTHONPATH or LD_PRELOAD, has no effect on it.

Forking without an exec is safe on Linux. Elsewhere, start real interpreters.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, cast

from tests.support.guard import guard

__all__ = ["ForkServer", "ForkedProcess"]

_ROOT = Path(__file__).parents[2]


class ForkedProcess:
    """A program that a server has forked; it has the part of `asyncio.subprocess.Process` that the tests use.

    Attributes:
        pid: its process id, which is also its process group and its session.
    """

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._writer = writer
        self._ended = asyncio.ensure_future(self._status(reader))

    @property
    def returncode(self) -> int | None:
        """Its exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def _status(self, reader: asyncio.StreamReader) -> int:
        try:
            return int(await reader.readline())
        finally:
            self._writer.close()


class ForkServer:
    """A process that forks programs. It ends with the context, or when this process dies.

    Args:
        environment: the server's environment, as far as the start of an interpreter depends on it.
        preload: packages to import with all their modules, and single modules.

    Attributes:
        path: the socket that takes requests.
    """

    def __init__(self, environment: Mapping[str, str], *, preload: Iterable[str]) -> None:
        # The path of a socket is limited to about 100 bytes: the folders of tests may be deeper.
        self._folder = tempfile.TemporaryDirectory(prefix="forks-")
        self.path = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen(64)
            # Its stdin tells it when to end.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", "--listener", str(listener.fileno()), *preload],
                env=environment,
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        guard().watch(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
        guard().release(self._process.pid)
        self._folder.cleanup()

    async def spawn(
        self,
        module: str,
        arguments: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        stdin: Path = Path(os.devnull),
        stdout: Path,
        stderr: Path,
        controlled: bool = False,
        ignored: Iterable[signal.Signals] = (),
    ) -> ForkedProcess:
        """Run *module* as `python -m` would, in a session of its own. All three files exist, and may be one terminal.

        What is written is appended to a file.

        Args:
            module: The module.
            arguments: What follows its name.
            environment: Its whole environment.
            cwd: Its working folder.
            stdin: The file for its input.
            stdout: The file for its output.
            stderr: The file for its errors.
            controlled: Whether the terminal that is its input controls it.
            ignored: The signals that it ignores from its start.
        """
        reader, writer = await asyncio.open_unix_connection(self.path)
        request = {
            "module": module,
            "arguments": [str(argument) for argument in arguments],
            "environment": dict(environment),
            "cwd": str(cwd),
            "stdin": str(stdin),
            "stdout": str(stdout),
            "stderr": str(stderr),
            "controlled": controlled,
            "ignored": [int(number) for number in ignored],
        }
        writer.write(json.dumps(request).encode() + b"\n")
        return ForkedProcess(int(await reader.readline()), reader, writer)


# ---------------------------------------------------------------------- in the server

_Request = dict[str, Any]


def _import_all(names: Iterable[str]) -> None:
    from daemon.running.slim import import_slim

    # As `run` does it before its other imports.
    import_slim()
    for name in names:
        module = importlib.import_module(name)
        for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
            if not found.name.endswith(".__main__"):
                importlib.import_module(found.name)


def _serve(listener: socket.socket) -> _Request | None:
    """Fork for each request. Return the request in the child, and None in the server when it is to end."""
    alarm, awake = socket.socketpair()
    for end in (alarm, awake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(awake.fileno(), warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for source in (listener, alarm, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if sys.stdin in ready:
                return None
            if alarm in ready:
                alarm.recv(4096)
                _reap(running)
            if listener in ready:
                connection, _ = listener.accept()
                with connection.makefile("rb") as lines:
                    request: _Request = json.loads(lines.readline())
                # Before the answer, after which nobody else may have a terminal open.
                request["opened"] = _opened(request)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for inherited in (listener, alarm, awake, connection, *running.values()):
                        inherited.close()
                    return request
                for opened in request["opened"]:
                    os.close(opened)
                running[pid] = connection
                connection.sendall(b"%d\n" % pid)


def _reap(running: dict[int, socket.socket]) -> None:
    """Tell the statuses of programs that have ended."""
    for pid in list(running):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            with running.pop(pid) as connection:
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _opened(request: _Request) -> list[int]:
    """Open the program's input, output and errors. A terminal does not become one that controls it."""
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND)
    paths = (request[name] for name in ("stdin", "stdout", "stderr"))
    return [os.open(path, flag | os.O_NOCTTY) for path, flag in zip(paths, flags, strict=True)]


def _stream(old: TextIO, mode: str, *, lines: bool = False) -> TextIO:
    number = old.fileno()
    lines = lines or os.isatty(number)
    buffering = 1 if lines else -1
    return cast("TextIO", open(number, mode, buffering, old.encoding, old.errors, closefd=False))


def _become(request: _Request) -> None:
    """Make this process what a new one would be."""
    os.setsid()
    for number, opened in enumerate(request["opened"]):
        os.dup2(opened, number)
        os.close(opened)
    if request["controlled"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    # The server's own were made for other files, and a terminal cannot be written like a file.
    sys.stdin = _stream(sys.stdin, "r")
    sys.stdout = _stream(sys.stdout, "w")
    sys.stderr = _stream(sys.stderr, "w", lines=True)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = [request["module"], *request["arguments"]]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Fork programs that were imported before.")
    parser.add_argument("--listener", type=int, required=True, help="the socket that takes requests")
    parser.add_argument("preload", nargs="*", help="what to import")
    options = parser.parse_args()
    _import_all(options.preload)
    # Collections in the children leave alone what they share with this process.
    gc.collect()
    gc.freeze()
    request = _serve(socket.socket(fileno=options.listener))
    if request is not None:
        _become(request)
        os._exit(_run(request["module"]))


def _run(module: str) -> int:
    """Run a module to its end, and return the status with which the process has to exit.

    An interpreter ends by taking all modules apart. It writes to nearly every page that it shares with the server, each
    is copied for that, and all of it is given back at once. So what a program can notice of the end is done here, and
    the rest is left to the system.
    """
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = _status(end.code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise
    except BaseException:  # noqa: BLE001 - as the interpreter does it
        sys.excepthook(*cast("tuple[type[BaseException], BaseException, TracebackType]", sys.exc_info()))
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as multiprocessing does it
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        return 120
    return status


def _status(code: object) -> int:
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


if __name__ == "__main__":
    _main()
