"""The interface that systemd's user manager and launchd implement for the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from daemon.installing.plan import Plan

__all__ = ["LogEntry", "ManagerError", "ServiceManager", "ServiceState", "Tell"]

Tell = Callable[[str], None]
"""Called with one line about each thing that was done."""


class ManagerError(Exception):
    """The service manager did not do what it was asked for; the message says what to do in one line.

    Attributes:
        details: further lines, such as the end of the service's log.
        configuration: whether something must be configured first.
    """

    def __init__(self, message: str, *, details: Sequence[str] = (), configuration: bool = False) -> None:
        super().__init__(message)
        self.details = tuple(details)
        self.configuration = configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A line of the service's log.

    Attributes:
        text: the line as the daemon, or its manager, wrote it.
        at: when, in seconds since the epoch; None if only the line itself tells.
    """

    text: str
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """The state of the service.

    Attributes:
        installed: whether its file exists.
        running: whether it runs.
        starts_alone: whether it starts when the user logs in.
        lingers: whether it runs while the user is not logged in; None if unknown or not supported.
        words: its state in the manager's words.
        hint: what to do if it does not run.
    """

    installed: bool
    running: bool
    starts_alone: bool
    lingers: bool | None
    words: str
    hint: str


class ServiceManager(Protocol):
    """Installs and runs the service of one user."""

    name: str
    """The manager's name."""

    @property
    def path(self) -> Path:
        """The file that describes the service."""

    def check(self) -> None:
        """Raise ManagerError unless the manager answers."""

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables that services start with. Raises ManagerError."""

    def render(self, plan: Plan) -> str:
        """Return the text of the file."""

    def is_current(self, plan: Plan) -> bool:
        """Whether the existing file is what would be written."""

    def install(self, plan: Plan, tell: Tell) -> None:
        """Write the file, start the service now and at every login, and wait until it reports that it is ready.

        Idempotent. Raises ManagerError.
        """

    def environment_file(self) -> Path | None:
        """Return the file of variables that the installed service reads; None if its file names none."""

    def state_dir(self) -> Path | None:
        """Return the folder that the installed service must find to start; None if it makes the folder itself."""

    def hidden(self, plan: Plan) -> Path | None:
        """Return the first path of *plan* that the installed service cannot see; None if it sees all.

        Raises ManagerError.
        """

    def require_sight(self, plan: Plan) -> None:
        """Raise ManagerError if the installed service cannot see a path of *plan*."""

    def linger(self, tell: Tell) -> None:
        """Let the service run while the user is not logged in. Raises ManagerError."""

    def restart(self, tell: Tell) -> None:
        """Restart the service and wait until it reports that it is ready. Raises ManagerError."""

    def start(self, tell: Tell) -> None:
        """Start the service, unless it runs, and wait until it reports that it is ready. Raises ManagerError."""

    def stop(self, tell: Tell) -> None:
        """Stop the service until `start` or the next login. Raises ManagerError."""

    def uninstall(self, tell: Tell) -> None:
        """Stop the service and remove its file. Raises ManagerError."""

    def state(self) -> ServiceState:
        """Return the state of the service. Raises ManagerError."""

    def logs(self, lines: int, *, follow: bool) -> Sequence[str]:
        """Return the command that prints the last *lines* of the log, and with *follow* also new ones."""

    def entry(self, line: str) -> LogEntry:
        """Return the entry of the log that *line*, printed by that command, holds."""

    def why_no_logs(self) -> str | None:
        """Return why the log cannot be read and what to do, in one line; None if it can."""
