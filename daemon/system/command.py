"""Runs other programs to their end within a time limit: systemctl, launchctl, loginctl, journalctl, claude.

And tells how this program runs code of its own in another process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from daemon.system.messages import system_reason

__all__ = ["CommandError", "Ran", "run", "same_python"]


class CommandError(Exception):
    """A program could not be run to its end. The message says in one line which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A program that has ended.

    Attributes:
        status: its exit status. A negative number is the signal that ended it.
        stdout: its standard output.
        stderr: its standard error.
    """

    status: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The last line of its standard error, or its exit status if that is empty."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {self.status}"


def run(*argv: str, limit: float = 10.0, environ: Mapping[str, str] = os.environ) -> Ran:
    """Run a program without a terminal, in the C locale.

    Args:
        argv: the program's name or path, and its arguments.
        limit: the maximum number of seconds it may take.
        environ: its environment. The PATH in it is searched for the program.

    Raises:
        CommandError: the program does not exist, cannot be started, or took too long.
    """
    program = shutil.which(argv[0], path=environ.get("PATH"))
    if program is None:
        raise CommandError(f"{argv[0]} is not on the PATH")
    try:
        ended = subprocess.run(  # noqa: S603 - callers pass fixed programs, never input from outside
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
            timeout=limit,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"`{' '.join(argv)}` did not end within {limit:.0f} s") from None
    except OSError as error:
        raise CommandError(f"{program} cannot be run ({system_reason(error)})") from None
    return Ran(
        status=ended.returncode,
        stdout=ended.stdout.decode(errors="replace"),
        stderr=ended.stderr.decode(errors="replace"),
    )


def same_python(code: str) -> list[str]:
    """Return a command that runs *code* in another interpreter, with the modules that this one has.

    It imports none from the folder that this process happens to work in. Whatever formats tracebacks for people is not
    needed there, and takes a fifth of its start.
    """
    prelude = f"import sys; sys.path[:] = {sys.path!r}; sys.modules['rich'] = None; "
    return [sys.executable, "-I", "-c", prelude + code]
