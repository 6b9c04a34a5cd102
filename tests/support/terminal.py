"""Runs the command line, and the real client, on a terminal of its own, and answers what they ask."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.support.client import Client, Workspace, client_environment
from tests.support.fork_server import ForkedProcess
from tests.support.processes import ROOT, Ended, environment
from tests.support.waiting import PATIENCE

__all__ = ["Keyboard", "client_on_terminal", "on_terminal", "plain", "start_on_terminal"]

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def plain(output: str) -> str:
    """Return *output* without colors."""
    return _STYLE.sub("", output)


async def start_on_terminal(
    workspace: Workspace,
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    columns: int = 80,
    controlled: bool = True,
    ignored: Collection[signal.Signals] = (),
) -> tuple[asyncio.subprocess.Process | ForkedProcess, int]:
    """Start a module of Python on a terminal, as the leader of its session.

    Args:
        workspace: the machine.
        module: the module.
        arguments: what follows its name.
        env: the whole environment.
        cwd: the working folder.
        columns: the width of the terminal.
        controlled: whether the terminal controls it: Ctrl-C and a hang-up reach it.
        ignored: the signals that it ignores from its start.

    Returns:
        The process, and the descriptor of the terminal's other end, which the caller closes.
    """
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def prepare() -> None:
        if controlled:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    process: asyncio.subprocess.Process | ForkedProcess
    if workspace.forks is not None:
        path = Path(os.ttyname(terminal))
        process = await workspace.forks.spawn(
            module,
            arguments,
            environment=env,
            cwd=cwd,
            stdin=path,
            stdout=path,
            stderr=path,
            controlled=controlled,
            ignored=ignored,
        )
    else:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=cwd,
            env=env,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=prepare,
        )
    os.close(terminal)
    return process, controller


async def on_terminal(
    workspace: Workspace,
    *arguments: str,
    answers: Sequence[tuple[str, str]] = (),
    columns: int = 80,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run the command line with *arguments* on a terminal, to its end.

    Args:
        workspace: the machine.
        arguments: the verb and what follows it.
        answers: the end of each question in turn, and the line to answer with.
        columns: the width of the terminal.
        env: the whole environment; see `environment`.

    Returns:
        Its status, and everything it wrote as stdout.

    Raises:
        TimeoutError: it took too long, or did not ask a question.
    """
    variables = {"TERM": "xterm", **(environment(workspace) if env is None else env)}
    process, controller = await start_on_terminal(
        workspace, "daemon.cli", *arguments, env=variables, columns=columns, controlled=False
    )
    seen, since = "", 0
    waiting = list(answers)
    try:
        async with asyncio.timeout(PATIENCE):
            with suppress(OSError):  # the terminal's other end is closed: the process has ended
                while data := await asyncio.to_thread(os.read, controller, 65_536):
                    seen += data.decode(errors="replace")
                    while waiting and plain(seen[since:]).rstrip().endswith(waiting[0][0]):
                        since = len(seen)
                        os.write(controller, f"{waiting.pop(0)[1]}\n".encode())
            status = await process.wait()
    except TimeoutError:
        process.kill()
        raise TimeoutError(f"waited for {waiting[:1]} after {seen!r}") from None
    finally:
        os.close(controller)
    return Ended(status=status, stdout=seen.replace("\r\n", "\n"), stderr="")


class Keyboard:
    """The keyboard of a program's terminal, and what the program has drawn so far.

    Args:
        controller: the descriptor of the terminal's other end.
    """

    def __init__(self, controller: int) -> None:
        self._controller = controller
        self.seen = ""

    def press(self, keys: str) -> None:
        """Press some keys."""
        os.write(self._controller, keys.encode())

    async def drain(self) -> None:
        """Take in what the program draws, until it ends: a terminal that nobody reads stops it."""
        with suppress(OSError):  # the terminal's other end is closed: the process has ended
            while data := await asyncio.to_thread(os.read, self._controller, 65_536):
                self.seen += data.decode(errors="replace")


@asynccontextmanager
async def client_on_terminal(
    client: Client, prompt: str, *options: str, workspace: Workspace, cwd: Path, api_url: str
) -> AsyncIterator[Keyboard]:
    """Run a client as a person does, on a terminal, with one prompt. It is killed when the context is left.

    What it asks on its first start on a machine is answered beforehand.
    """
    workspace.config.mkdir(exist_ok=True)
    answered = {
        "hasCompletedOnboarding": True,
        "customApiKeyResponses": {"approved": ["sk-ant-test"], "rejected": []},
        "projects": {str(cwd): {"hasTrustDialogAccepted": True}},
    }
    (workspace.config / ".claude.json").write_text(json.dumps(answered))
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(*client.command, *options, prompt),
        cwd=cwd,
        env=client_environment(workspace, api_url, TERM="xterm"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    keyboard = Keyboard(controller)
    draining = asyncio.create_task(keyboard.drain())
    try:
        yield keyboard
    finally:
        with suppress(ProcessLookupError):  # the group has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await draining
        os.close(controller)
