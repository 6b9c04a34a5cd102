"""The service under launchd, as an agent of the user."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from daemon.config.table import APP_NAME, SETTINGS
from daemon.installing import agent_file, service_file
from daemon.installing.agent_file import LABEL
from daemon.installing.plan import Plan
from daemon.installing.service_environment import OTHERS
from daemon.installing.service_manager import LogEntry, ManagerError, ServiceState, Tell
from daemon.state import lock
from daemon.system.command import CommandError, Ran, run
from daemon.system.messages import system_reason

__all__ = ["Launchd"]

_START_SECONDS = 120.0
# To stop, the daemon takes up to ten seconds to deliver what it has read; launchd allows it twenty.
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1
# Status by which launchd refuses while it still unloads the agent that it has just stopped.
_BUSY = 5
_ATTEMPTS = 5
_LOG_LINES = 5


class Launchd:
    """Implements `ServiceManager` with launchctl.

    Args:
        environ: the environment that launchctl runs in.
        state_dir: the daemon's state directory, whose lock tells whether the daemon is up.
        log_file: the daemon's log.
    """

    name = "launchd"

    def __init__(self, environ: Mapping[str, str] = os.environ, *, state_dir: Path, log_file: Path) -> None:
        self._environ = environ
        self._home = Path(environ.get("HOME") or Path.home())
        self._state_dir = state_dir
        self._log_file = log_file

    @property
    def path(self) -> Path:
        """The agent file."""
        return self._home / "Library" / "LaunchAgents" / f"{LABEL}.plist"

    def check(self) -> None:
        """Raise ManagerError unless launchd has a session of this user."""
        self._domain()

    def environment(self) -> Mapping[str, str]:
        """Return the daemon's variables, as far as they were set with `launchctl setenv`."""
        names = (*(setting.variable for setting in SETTINGS), *OTHERS)
        found = {name: self._launchctl("getenv", name).stdout.rstrip("\n") for name in names}
        return {name: value for name, value in found.items() if value}

    def render(self, plan: Plan) -> str:
        """Return the text of the agent file."""
        return agent_file.render(plan)

    def is_current(self, plan: Plan) -> bool:
        """Whether the agent file is what would be written."""
        return service_file.read(self.path) == agent_file.render(plan)

    def install(self, plan: Plan, tell: Tell) -> None:
        """See `ServiceManager.install`."""
        domain = self._domain()
        # Only the user may read it: it holds the environment, and a proxy's address may hold a password.
        service_file.write(self.path, agent_file.render(plan), tell, mode=0o600)
        folder = plan.log_file.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ManagerError(f"{folder} cannot be made ({system_reason(error)})") from None
        self._start(domain, tell)
        tell("it starts when you log in")

    def environment_file(self) -> Path | None:
        """Return None: the agent file holds the variables themselves."""
        return None

    def state_dir(self) -> Path | None:
        """Return None: the service makes its state directory itself."""
        return None

    def hidden(self, plan: Plan) -> Path | None:
        """Return None: launchd hides nothing from an agent."""
        del plan
        return None

    def require_sight(self, plan: Plan) -> None:
        """Do nothing: launchd hides nothing."""

    def linger(self, tell: Tell) -> None:
        """Tell that launchd has nothing like lingering."""
        tell("launchd runs an agent while its user is logged in; --linger has no effect here")

    def restart(self, tell: Tell) -> None:
        """See `ServiceManager.restart`."""
        if not self.path.exists():
            raise ManagerError(f"{self.path} does not exist: `{APP_NAME} install` writes it")
        self._start(self._domain(), tell)

    def start(self, tell: Tell) -> None:
        """See `ServiceManager.start`."""
        if self.state().running:
            tell(f"already running (pid {lock.holder(self._state_dir)})")
        else:
            self.restart(tell)

    def stop(self, tell: Tell) -> None:
        """See `ServiceManager.stop`."""
        if not self.path.exists():
            raise ManagerError(f"no service is installed: {self.path} does not exist")
        if self._stop(self._domain()):
            tell(f"stopped; `{APP_NAME} start`, or your next login, starts it again")
        else:
            tell("the service does not run")

    def uninstall(self, tell: Tell) -> None:
        """See `ServiceManager.uninstall`."""
        if self._stop(self._domain()):
            tell("stopped; it no longer starts when you log in")
        service_file.remove(self.path, tell)

    def state(self) -> ServiceState:
        """Return the state of the agent."""
        printed = self._printed(self._domain())
        words = _field(printed or "", "state") or "not loaded"
        return ServiceState(
            installed=self.path.exists(),
            running=words == "running",
            starts_alone=self.path.exists(),
            lingers=None,
            words=words,
            hint=f"`{APP_NAME} logs` shows why, `{APP_NAME} restart` starts it",
        )

    def logs(self, lines: int, *, follow: bool) -> Sequence[str]:
        """Return the tail command; it continues with the new file when the log is rotated."""
        return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(self._log_file)]

    def entry(self, line: str) -> LogEntry:
        """Return the line as it is: the daemon's own lines tell their time."""
        return LogEntry(text=line)

    def why_no_logs(self) -> str | None:
        """Return what to do if the daemon has not written its log yet."""
        if self._log_file.exists():
            return None
        return f"{self._log_file} does not exist yet: `{APP_NAME} start` starts the service, which writes it"

    def _domain(self) -> str:
        """Return the domain of the user's graphical session, or else the user's own, as over ssh."""
        for domain in (f"gui/{os.getuid()}", f"user/{os.getuid()}"):
            if self._launchctl("print", domain).status == 0:
                return domain
        raise ManagerError("launchd has no session of this user: log in on the machine itself and try again")

    def _start(self, domain: str, tell: Tell) -> None:
        self._stop(domain)
        # An agent that somebody disabled by hand stays disabled until this.
        self._launchctl("enable", f"{domain}/{LABEL}")
        for attempt in range(1, _ATTEMPTS + 1):
            ran = self._launchctl("bootstrap", domain, str(self.path))
            if ran.status != _BUSY or attempt == _ATTEMPTS:
                break
            time.sleep(_POLL_SECONDS * 2**attempt)
        if ran.status != 0:
            raise ManagerError(f"`launchctl bootstrap {domain} {self.path}` failed: {ran.complaint}")
        ended = False

        def up_or_ended() -> bool:
            nonlocal ended
            printed = self._printed(domain) or ""
            ended = _field(printed, "state") != "running" and _field(printed, "last exit code") not in (
                None,
                "(never exited)",
            )
            return ended or self._is_up(printed)

        if not _wait(up_or_ended, _START_SECONDS) or ended:
            code = _field(self._printed(domain) or "", "last exit code")
            # With status 0 it ends by itself only if something has to be configured first.
            configuration = code == "0"
            why = "because something has to be configured first" if configuration else f"(exit status {code})"
            raise ManagerError(
                f"the service did not start {why}: `{APP_NAME} logs` shows more",
                details=self._last_words(),
                configuration=configuration,
            )
        tell(f"running (pid {lock.holder(self._state_dir)})")

    def _is_up(self, printed: str) -> bool:
        """Whether the process that launchd runs holds the state's lock; then it has read its settings."""
        pid = _field(printed, "pid")
        return pid is not None and str(lock.holder(self._state_dir)) == pid

    def _stop(self, domain: str) -> bool:
        """Stop the agent and wait until launchd has unloaded it; return whether there was one."""
        if self._printed(domain) is None:
            return False
        ran = self._launchctl("bootout", f"{domain}/{LABEL}", limit=_STOP_SECONDS)
        if not _wait(lambda: self._printed(domain) is None, _STOP_SECONDS):
            raise ManagerError(f"`launchctl bootout {domain}/{LABEL}` did not stop the service: {ran.complaint}")
        return True

    def _printed(self, domain: str) -> str | None:
        ran = self._launchctl("print", f"{domain}/{LABEL}")
        return ran.stdout if ran.status == 0 else None

    def _last_words(self) -> list[str]:
        try:
            return self._log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            # These lines only help; a service that failed early has none.
            return []

    def _launchctl(self, *arguments: str, limit: float = 15.0) -> Ran:
        try:
            return run("launchctl", *arguments, limit=limit, environ=self._environ)
        except CommandError as error:
            raise ManagerError(str(error)) from None


def _field(printed: str, name: str) -> str | None:
    """Return the value of the line `name = value` in the output of `launchctl print`."""
    found = re.search(rf"^\s*{re.escape(name)} = (.*)$", printed, re.MULTILINE)
    return found[1].strip() if found else None


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
