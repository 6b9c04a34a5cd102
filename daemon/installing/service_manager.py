"""The face that systemd's user manager and launchd show to the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from daemon.installing.plan import Plan

__all__ = ["ManagerError", "ServiceManager", "ServiceState", "Tell"]

Tell = Callable[[str], None]
"""Takes one line of what was done."""


class ManagerError(Exception):
    """The service manager did not do what it was asked for.

    Attributes:
        details: further lines, such as the last of the service's log.
        configuration: whether something has to be configured first.
    """

    def __init__(self, message: str, *, details: Sequence[str] = (), configuration: bool = False) -> None:
        super().__init__(message)
        self.details = tuple(details)
        self.configuration = configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """How the service stands.

    Attributes:
        installed: whether its file is there.
        running: whether it runs.
        starts_alone: whether it starts when the user logs in.
        lingers: whether it runs without the user being logged in; None where there is no such thing, or it is unknown.
        words: how its manager calls its state.
    """

    installed: bool
    running: bool
    starts_alone: bool
    lingers: bool | None
    words: str


class ServiceManager(Protocol):
    """What installs and runs the service of one user."""

    name: str
    """What it is called."""

    @property
    def path(self) -> Path:
        """The file that describes the service to it."""

    def check(self) -> None:
        """Raise ManagerError, saying why and what to do, unless it answers."""

    def environment(self) -> Mapping[str, str]:
        """Return the variables it starts services with. Raises ManagerError."""

    def render(self, plan: Plan) -> str:
        """Return the text of the file."""

    def is_current(self, plan: Plan) -> bool:
        """Whether the file that is there is what would be written."""

    def install(self, plan: Plan, tell: Tell) -> None:
        """Write the file, let the service start with the user's session and now, and wait until it says it is ready.

        Done again it leaves the same behind. Raises ManagerError.
        """

    def linger(self, tell: Tell) -> None:
        """Let the service run while the user is not logged in. Raises ManagerError."""

    def restart(self, tell: Tell) -> None:
        """Start the service anew and wait until it says it is ready. Raises ManagerError."""

    def uninstall(self, tell: Tell) -> None:
        """Stop the service and remove its file. Raises ManagerError."""

    def state(self) -> ServiceState:
        """Return how the service stands. Raises ManagerError."""

    def logs(self, lines: int, *, follow: bool) -> Sequence[str]:
        """Return the command that shows the last *lines* of the log, and with *follow* what comes."""
