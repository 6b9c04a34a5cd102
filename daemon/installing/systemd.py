"""The service under systemd's user manager."""

from __future__ import annotations

import getpass
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from daemon.config.table import APP_NAME
from daemon.installing import service_file, unit_file
from daemon.installing.plan import Plan
from daemon.installing.service_manager import LogEntry, ManagerError, ServiceState, Tell
from daemon.installing.unit_file import UNIT
from daemon.system.command import CommandError, Ran, run

__all__ = ["Systemd"]

# Longer than the unit's own time limit, so that systemd reports what went wrong.
_START_SECONDS = 150.0
_STOP_SECONDS = 40.0

# systemd's exit statuses if it could not make a namespace: EXIT_USER, EXIT_NAMESPACE.
_NO_NAMESPACES = (217, 226)
_CONFIGURATION = 78
_LOG_LINES = 5

# Folders that a setting of a unit replaces for the service.
_OWN_FOLDERS = {"PrivateTmp": ("/tmp", "/var/tmp"), "PrivateDevices": ("/dev",)}  # noqa: S108 - compared, never used
_HOME_FOLDERS = ("/home", "/root", "/run/user")
_JOURNAL = Path("/var/log/journal")

_NAMESPACE_HINT = (
    "its sandbox cannot be set up, because the state folder is gone or the machine forbids user namespaces; "
    f"`{APP_NAME} install` mends both"
)
_HINTS = {
    _CONFIGURATION: f"`{APP_NAME} login` sets it up, `{APP_NAME} config` shows what is set",
    **dict.fromkeys(_NO_NAMESPACES, _NAMESPACE_HINT),
}


class Systemd:
    """Implements `ServiceManager` with systemctl.

    Args:
        environ: the environment that systemctl runs in.
        journal: the folder that exists if the journal is kept on disk.
    """

    name = "systemd"

    def __init__(self, environ: Mapping[str, str] = os.environ, *, journal: Path = _JOURNAL) -> None:
        self._journal = journal
        self._home = Path(environ.get("HOME") or Path.home())
        self._environ = dict(environ)
        # A shell started by su or cron does not know where the user manager listens.
        runtime = Path("/run/user", str(os.getuid()))
        if not environ.get("XDG_RUNTIME_DIR") and runtime.is_dir():
            self._environ["XDG_RUNTIME_DIR"] = str(runtime)
        self._manager_environment: Mapping[str, str] | None = None

    @property
    def path(self) -> Path:
        """The unit file, in the folder that the user manager reads; this shell's XDG_CONFIG_HOME may differ from it."""
        try:
            folder = self.environment().get("XDG_CONFIG_HOME")
        except ManagerError:
            folder = None
        return Path(folder or self._home / ".config") / "systemd" / "user" / UNIT

    def check(self) -> None:
        """Raise ManagerError unless the user manager answers."""
        self.environment()

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables that the user manager starts services with.

        Raises:
            ManagerError: there is no user manager, or it does not answer.
        """
        if self._manager_environment is None:
            try:
                ran = self._systemctl("show-environment")
            except CommandError as error:
                raise ManagerError(
                    f"there is no systemd to run a service ({error}): run `{APP_NAME} run` under a supervisor of "
                    "your own"
                ) from None
            if ran.status != 0:
                raise ManagerError(
                    f"systemd's user manager does not answer ({ran.complaint}): log in as this user by ssh or on the "
                    "machine itself, not with su or sudo, and try again"
                )
            self._manager_environment = {
                name: _unquoted(value)
                for name, equals, value in (line.partition("=") for line in ran.stdout.splitlines())
                if equals
            }
        return self._manager_environment

    def render(self, plan: Plan) -> str:
        """Return the text of the unit file."""
        return unit_file.render(plan)

    def is_current(self, plan: Plan) -> bool:
        """Whether the unit file is what would be written, with or without namespaces."""
        return service_file.read(self.path) in (unit_file.render(plan), unit_file.render(plan, namespaces=False))

    def install(self, plan: Plan, tell: Tell) -> None:
        """See `ServiceManager.install`. If the machine forbids user namespaces, the unit does without them."""
        self.check()
        before = service_file.read(self.path)
        self._write(unit_file.render(plan), tell)
        try:
            self.require_sight(plan)
        except ManagerError:
            self._put_back(before)
            raise
        self._do("enable", UNIT)
        tell("it starts when you log in")
        if not self._start(tell, may_lack_namespaces=True):
            tell(
                "this machine does not allow user namespaces, so the unit is written without the limits that need "
                "them: the service can see and change what you can; all other limits hold"
            )
            self._write(unit_file.render(plan, namespaces=False), tell)
            self._do("reset-failed", UNIT)
            self._start(tell)

    def require_sight(self, plan: Plan) -> None:
        """See `ServiceManager.require_sight`."""
        if (path := self.hidden(plan)) is not None:
            own = any(path.is_relative_to(folder) for folder in _OWN_FOLDERS["PrivateTmp"])
            allow = (
                f", or allow it with `systemctl --user edit --force {UNIT}` ([Service], PrivateTmp=no)" if own else ""
            )
            raise ManagerError(
                f"the service would not see {path}, because its sandbox hides that folder: use another one{allow}",
                configuration=True,
            )

    def linger(self, tell: Tell) -> None:
        """Let the user's services run from boot on."""
        user = getpass.getuser()
        if self._lingers():
            # Asking for it again needs an administrator on some machines.
            tell(f"lingering is already enabled for {user}: the service runs from boot on")
            return
        try:
            ran = run("loginctl", "enable-linger", user, environ=self._environ)
        except CommandError as error:
            raise ManagerError(f"lingering cannot be enabled: {error}") from None
        if ran.status != 0:
            raise ManagerError(
                f"lingering cannot be enabled ({ran.complaint}): ask an administrator for "
                f"`loginctl enable-linger {user}`"
            )
        tell(f"lingering is enabled for {user}: the service runs from boot on, whether you are logged in or not")

    def restart(self, tell: Tell) -> None:
        """See `ServiceManager.restart`."""
        if not self.path.exists():
            raise ManagerError(f"{self.path} does not exist: `{APP_NAME} install` writes it")
        self._do("daemon-reload")
        self._start(tell)

    def start(self, tell: Tell) -> None:
        """See `ServiceManager.start`."""
        if self.state().running:
            tell(f"already running (pid {self._show().get('MainPID', 'unknown')})")
        else:
            self.restart(tell)

    def stop(self, tell: Tell) -> None:
        """See `ServiceManager.stop`."""
        if not self.path.exists():
            raise ManagerError(f"no service is installed: {self.path} does not exist")
        if not self._is_up():
            tell("the service does not run")
            return
        self._do("stop", UNIT, limit=_STOP_SECONDS)
        tell(f"stopped; `{APP_NAME} start`, or your next login, starts it again")

    def uninstall(self, tell: Tell) -> None:
        """See `ServiceManager.uninstall`. It also works without a user manager: then the service cannot be running."""
        path = self.path
        try:
            self.check()
        except ManagerError:
            if path.exists():
                tell("not stopped, because systemd's user manager does not answer; without it the service cannot run")
            service_file.remove(path.parent / "default.target.wants" / UNIT, tell)
            service_file.remove(path, tell)
            return
        if path.exists():
            self._do("disable", "--now", UNIT, limit=_STOP_SECONDS)
            tell("stopped; it no longer starts when you log in")
        service_file.remove(path, tell)
        self._do("daemon-reload")
        # This fails if systemd remembers nothing of the unit, which is just as well.
        self._systemctl("reset-failed", UNIT)
        changes = path.with_name(f"{UNIT}.d")
        if changes.exists():
            tell(f"left, because you wrote it: {changes}")

    def state(self) -> ServiceState:
        """Return the state of the unit."""
        path = self.path
        shown = self._show()
        status = int(shown.get("ExecMainStatus") or 0)
        words = f"{shown.get('ActiveState', 'unknown')} ({shown.get('SubState', 'unknown')})"
        return ServiceState(
            installed=path.exists(),
            running=shown.get("ActiveState") == "active",
            starts_alone=shown.get("UnitFileState") == "enabled",
            lingers=self._lingers(),
            words=f"{words}, exit status {status}" if status else words,
            hint=_HINTS.get(status, f"`{APP_NAME} logs` shows why, `{APP_NAME} restart` starts it"),
        )

    def environment_file(self) -> Path | None:
        """Return the file that the unit names."""
        return unit_file.environment_file(service_file.read(self.path) or "")

    def state_dir(self) -> Path | None:
        """Return the folder that the unit's sandbox is made around."""
        return unit_file.state_dir(service_file.read(self.path) or "")

    def hidden(self, plan: Plan) -> Path | None:
        """See `ServiceManager.hidden`. Drop-ins of the user count, too."""
        shown = self._show(*_OWN_FOLDERS, "ProtectHome", "InaccessiblePaths", "BindPaths", "BindReadOnlyPaths")
        hidden = [
            Path(folder) for name in _OWN_FOLDERS if shown.get(name, "no") != "no" for folder in _OWN_FOLDERS[name]
        ]
        hidden += map(Path, _HOME_FOLDERS if shown.get("ProtectHome") in ("yes", "tmpfs") else ())
        hidden += (Path(folder.lstrip("-+")) for folder in _split(shown.get("InaccessiblePaths", "")))
        mounts = _split(f"{shown.get('BindPaths', '')} {shown.get('BindReadOnlyPaths', '')}")
        seen = [Path((mount.lstrip("-").split(":") * 2)[1]) for mount in mounts]
        return next(
            (path for path in _with_targets(plan) if _is_below(path, hidden) and not _is_below(path, seen)), None
        )

    def logs(self, lines: int, *, follow: bool) -> Sequence[str]:
        """Return the journalctl command."""
        more = ["--follow"] if follow else []
        return ["journalctl", "--user", "--user-unit", UNIT, "--lines", str(lines), *more, "--output", "json"]

    def entry(self, line: str) -> LogEntry:
        """Return the entry of a line of `journalctl --output json`."""
        try:
            fields = json.loads(line)
            at = int(fields["__REALTIME_TIMESTAMP"]) / 1e6
            message = fields["MESSAGE"]
        except (ValueError, KeyError, TypeError):
            return LogEntry(text=line)
        # The journal gives text that it cannot print as a list of bytes.
        text = bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)
        return LogEntry(text=text, at=at)

    def why_no_logs(self) -> str | None:
        """Return what to do if only administrators can read the journal, as one that is kept in memory."""
        try:
            ran = run(*self.logs(1, follow=False), environ=self._environ)
        except CommandError:
            # The caller runs the same program and reports this.
            return None
        if ran.stdout.strip() or self._journal.is_dir():
            return None
        return (
            "the journal is kept in memory only, where you cannot read it: "
            "`sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald` keeps it on disk, "
            f"then `{APP_NAME} restart`; until then, `sudo journalctl _SYSTEMD_USER_UNIT={UNIT}` shows it"
        )

    def _put_back(self, text: str | None) -> None:
        """Restore the unit file that `install` found."""
        if text is None:
            service_file.remove(self.path, lambda _line: None)
        else:
            service_file.write(self.path, text, lambda _line: None, mode=0o644)
        self._do("daemon-reload")

    def _write(self, text: str, tell: Tell) -> None:
        service_file.write(self.path, text, tell, mode=0o644)
        self._do("daemon-reload")

    def _start(self, tell: Tell, *, may_lack_namespaces: bool = False) -> bool:
        """Restart the unit, wait, and return True once it is up; False if namespaces are missing and may be."""
        ran, shown = self._restart()
        if shown.get("Result") == "start-limit-hit":
            # After too many failures, systemd refuses every start for a while.
            self._systemctl("reset-failed", UNIT)
            ran, shown = self._restart()
        if ran.status == 0:
            tell(f"running: {shown.get('StatusText') or 'ready'} (pid {shown.get('MainPID', 'unknown')})")
            return True
        status = int(shown.get("ExecMainStatus") or 0)
        if status in _NO_NAMESPACES and may_lack_namespaces:
            return False
        if status in _NO_NAMESPACES:
            raise ManagerError(f"the service did not start (exit status {status}): {_HINTS[status]}")
        if status == _CONFIGURATION:
            raise ManagerError(
                f"the service ended at once because something has to be configured first: {_HINTS[status]}",
                details=self._last_words(),
                configuration=True,
            )
        result = shown.get("Result", "unknown")
        raise ManagerError(
            f"the service did not start (result {result}, exit status {status}): `{APP_NAME} logs` shows why",
            details=self._last_words(),
        )

    def _restart(self) -> tuple[Ran, dict[str, str]]:
        try:
            ran = self._systemctl("restart", UNIT, limit=_START_SECONDS)
        except CommandError as error:
            raise ManagerError(f"the service does not become ready: {error}", details=self._last_words()) from None
        return ran, self._show()

    def _last_words(self) -> list[str]:
        try:
            ran = run(
                *("journalctl", "--user", "--user-unit", UNIT, "--lines", str(_LOG_LINES)),
                *("--no-pager", "--output", "cat"),
                environ=self._environ,
            )
        except CommandError:
            # These lines only help; without a journal there are none.
            return []
        return ran.stdout.splitlines() if ran.status == 0 else []

    def _lingers(self) -> bool | None:
        try:
            ran = run("loginctl", "show-user", getpass.getuser(), "--property=Linger", environ=self._environ)
        except CommandError:
            return None
        return {"Linger=yes": True, "Linger=no": False}.get(ran.stdout.strip())

    def _is_up(self) -> bool:
        return self._show().get("ActiveState") in ("active", "activating", "reloading", "deactivating")

    def _show(self, *names: str) -> dict[str, str]:
        """Return properties of the unit: those *names*, or else those of its state."""
        names = names or (
            "ActiveState",
            "SubState",
            "Result",
            "ExecMainStatus",
            "StatusText",
            "MainPID",
            "UnitFileState",
        )
        ran = self._do("show", f"--property={','.join(names)}", UNIT)
        return dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line)

    def _do(self, *arguments: str, limit: float = 15.0) -> Ran:
        """Call systemctl; raise ManagerError unless it succeeds."""
        try:
            ran = self._systemctl(*arguments, limit=limit)
        except CommandError as error:
            raise ManagerError(str(error)) from None
        if ran.status != 0:
            raise ManagerError(f"`systemctl --user {' '.join(arguments)}` failed: {ran.complaint}")
        return ran

    def _systemctl(self, *arguments: str, limit: float = 15.0) -> Ran:
        return run("systemctl", "--user", *arguments, limit=limit, environ=self._environ)


def _with_targets(plan: Plan) -> Iterator[Path]:
    """Yield the paths that the service must see, and what those that are links lead to."""
    for path in (plan.program, plan.state_dir, *plan.needs, *plan.status_files):
        yield path
        yield path.resolve()


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _split(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def _unquoted(value: str) -> str:
    """Undo the quoting of `show-environment`: $'...' as in a shell; anything else is not quoted."""
    if not value.startswith("$'"):
        return value
    try:
        return " ".join(shlex.split(value.removeprefix("$")))
    except ValueError:
        return value
