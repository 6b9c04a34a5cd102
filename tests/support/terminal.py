"""Runs the command line on a terminal of its own, and answers what it asks."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tests.support.client import Workspace
from tests.support.processes import ROOT, Ended, environment
from tests.support.waiting import PATIENCE

__all__ = ["on_terminal", "plain"]

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def plain(output: str) -> str:
    """Return *output* without colors."""
    return _STYLE.sub("", output)


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
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daemon.cli", *arguments),
        cwd=ROOT,
        env={"TERM": "xterm", **(environment(workspace) if env is None else env)},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
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
