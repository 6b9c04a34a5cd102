"""Keeps the status file of PostHog's Claude Code plugin up to date, so that the plugin's status command still works.

`posthog-llma-status.json` in a config folder of Claude Code describes the session that was sent last: names, counts and
whether it was accepted; never content, never a key. The folder is Claude Code's, so the file is replaced in one step,
only a regular file of this user is ever replaced, and no link is followed. A service may be allowed to write this file
but nothing next to it; then the text is written into the existing file. A failure to write it costs no event and is
logged once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from daemon.config.parsers import one_line
from daemon.config.settings import Settings
from daemon.config.table import APP_NAME
from daemon.delivering.delivery import EventOutcome
from daemon.delivering.route import Route
from daemon.system.messages import system_reason
from llma_core.events import CaptureEvent

__all__ = ["STATUS_FILE", "PluginStatus", "PluginStatusError", "Sender", "create", "status_files", "write"]

_log = structlog.get_logger(__name__)

STATUS_FILE = "posthog-llma-status.json"
"""The name of the plugin's file."""

_LIMIT_BYTES = 64 * 1024
"""A larger file is not the plugin's, and is not overwritten."""
_NO_ROOM_BESIDE = (errno.EROFS, errno.EBUSY, errno.EACCES)
"""Errors on replacing a file that do not rule out that it can be overwritten."""
_STATUS_CODE = re.compile(r"([1-5]\d\d) (.+)")


class PluginStatusError(Exception):
    """The file cannot be written; the message says why in a few words, and what to do unless that is obvious."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A session that sends events.

    Attributes:
        unit: the name under which the store knows the session.
        session: the session's id.
        folder: the project folder of its logs.
        route: where its events go.
        distinct_id: the person its events belong to.
        project: the name of the folder it started in; empty if unknown.
    """

    unit: str
    session: str
    folder: str
    route: Route
    distinct_id: str
    project: str


@dataclass(slots=True, kw_only=True)
class _Account:
    """A session's events since the daemon started, by what became of them."""

    sender: Sender
    waiting: int = 0
    sent: int = 0
    generations: int = 0
    tool_uses: int = 0
    prompts: int = 0
    error: str | None = None


class PluginStatus:
    """Writes the status files of some config folders: in each, the session whose events were last accepted or refused.

    Counts cover the session since the daemon started. Use it from one event loop only.

    Args:
        config_dirs: Claude Code's config folders.
        wall: returns seconds since the epoch.
        sessions: largest number of sessions whose counts are kept; those with undelivered events do not count.
    """

    def __init__(
        self, config_dirs: Sequence[Path], *, wall: Callable[[], float] = time.time, sessions: int = 1000
    ) -> None:
        self._config_dirs = config_dirs
        self._wall = wall
        self._most_sessions = sessions
        self._accounts: dict[str, _Account] = {}
        self._changed: dict[str, None] = {}
        self._failing: set[Path] = set()

    def hand_over(self, sender: Sender, events: Sequence[CaptureEvent], prompts: int) -> None:
        """Count *events* of a session that are on their way, and the *prompts* found with them."""
        account = self._accounts.pop(sender.unit, None) or _Account(sender=sender)
        account.sender = sender
        account.waiting += len(events)
        account.prompts += prompts
        # The most recent one is last.
        self._accounts[sender.unit] = account
        if len(self._accounts) > self._most_sessions:
            self._forget_one()

    def settle(self, unit: str | None, outcome: EventOutcome) -> None:
        """Count the outcome of an event of *unit*; a unit that handed over nothing is ignored."""
        account = self._accounts.get(unit) if unit is not None else None
        if account is None:
            return
        account.waiting = max(0, account.waiting - 1)
        if outcome.outcome == "delivered":
            account.sent += 1
            kind = outcome.event.identity.partition("|")[0]
            account.generations += kind in ("gen", "error")
            account.tool_uses += kind == "call"
            account.error = None
        elif outcome.outcome == "rejected":
            account.error = _as_plugin(outcome.reason or "refused")
        self._change(account)

    def fail(self, route: Route, reason: str) -> None:
        """Record that *route* accepts nothing for now, in the most recent session that waits for it."""
        error = _as_plugin(reason)
        for account in reversed(self._accounts.values()):
            if account.waiting and account.sender.route == route:
                if account.error != error:
                    account.error = error
                    self._change(account)
                return

    async def tell(self) -> None:
        """Write what changed. Do not call it more often than every few seconds."""
        if not self._changed:
            return
        texts = [
            (account.sender.folder, self._text(account))
            for unit in self._changed
            if (account := self._accounts.get(unit)) is not None
        ]
        self._changed.clear()
        for folder, reason in await asyncio.to_thread(self._write, texts):
            if reason is None:
                self._failing.discard(folder)
            elif folder not in self._failing:
                self._failing.add(folder)
                _log.warning(
                    "plugin_status_unwritable",
                    path=str(folder / STATUS_FILE),
                    reason=reason,
                    action="continuing without it; events are still delivered",
                )

    def _change(self, account: _Account) -> None:
        self._changed.pop(account.sender.unit, None)
        self._changed[account.sender.unit] = None

    def _forget_one(self) -> None:
        idle = (unit for unit, each in self._accounts.items() if not each.waiting and unit not in self._changed)
        if (unit := next(idle, None)) is not None:
            del self._accounts[unit]

    def _text(self, account: _Account) -> bytes:
        sender = account.sender
        said = {
            "session_id": sender.session,
            "events_sent": account.sent,
            "generations": account.generations,
            "tool_uses": account.tool_uses,
            "traces": account.prompts,
            "status": "ok" if account.error is None else "error",
            "error": account.error,
            "host": sender.route.host,
            "distinct_id": sender.distinct_id,
            "project_name": sender.project,
            "timestamp": datetime.fromtimestamp(self._wall(), UTC).isoformat(),
        }
        text, key = json.dumps(said, indent=2), sender.route.key
        return (text.replace(key.reveal(), str(key)) if key.reveal() else text).encode()

    def _write(self, texts: Sequence[tuple[str, bytes]]) -> list[tuple[Path, str | None]]:
        """Write the last text of each config folder; return each folder with why that failed, or None."""
        latest = {place: text for folder, text in texts if (place := self._config_dir_of(folder)) is not None}
        found: list[tuple[Path, str | None]] = []
        for folder, text in latest.items():
            try:
                write(folder, text)
            except PluginStatusError as error:
                found.append((folder, str(error)))
            else:
                found.append((folder, None))
        return found

    def _config_dir_of(self, project: str) -> Path | None:
        """Return the config folder of a project's folder, even if the latter is linked from another place."""
        for below in (_holds, _links_to):
            for folder in self._config_dirs:
                if below(folder / "projects", Path(project)):
                    return folder
        return None


def _holds(projects: Path, project: Path) -> bool:
    return project.parent == projects.resolve()


def _links_to(projects: Path, project: Path) -> bool:
    try:
        return any(entry.is_symlink() and entry.resolve() == project for entry in projects.iterdir())
    except OSError:
        return False


def _as_plugin(reason: str) -> str:
    """Return *reason*, which holds no content, in the plugin's form: with the status code in front."""
    answer = _STATUS_CODE.fullmatch(reason)
    return one_line(f"HTTP {answer[1]}: {answer[2]}" if answer else reason)


# --- the file ------------------------------------------------------------------------------------------------------


def status_files(settings: Settings) -> tuple[Path, ...]:
    """Return the status files that a daemon with *settings* keeps; none if they are switched off.

    Paths at which something exists that must not be overwritten are left out.
    """
    if not settings.plugin_status_file:
        return ()
    return tuple(folder / STATUS_FILE for folder in settings.claude_config_dirs if _may_be_ours(folder / STATUS_FILE))


def create(path: Path) -> bool:
    """Create the file with an empty object, because a service can only overwrite it; return whether it was missing.

    Raises:
        PluginStatusError: it cannot be created, or what exists at its path must not be overwritten.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        _check_kind(path.lstat())
        return False
    except FileNotFoundError:
        raise PluginStatusError(f"{path.parent} does not exist: run `{APP_NAME} install` again when it does") from None
    except OSError as error:
        raise PluginStatusError(system_reason(error)) from None
    try:
        os.write(descriptor, b"{}\n")
    except OSError as error:
        raise PluginStatusError(system_reason(error)) from None
    finally:
        os.close(descriptor)
    return True


def write(folder: Path, data: bytes) -> None:
    """Write *data* to the status file in *folder*, in one step.

    Raises:
        PluginStatusError: it cannot be written, or what exists at its path must not be overwritten.
    """
    with _opened(folder) as descriptor:
        _check(descriptor)
        try:
            _replace(descriptor, data)
        except OSError as error:
            if error.errno not in _NO_ROOM_BESIDE:
                raise PluginStatusError(system_reason(error)) from None
            _overwrite(descriptor, data)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    # The user may have linked the config folder. From here on it is this folder, even if its path changes.
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PluginStatusError(system_reason(error)) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check(folder: int) -> None:
    """Refuse to overwrite anything but a regular file of this user."""
    try:
        status = os.stat(STATUS_FILE, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise PluginStatusError(system_reason(error)) from None
    _check_kind(status)


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PluginStatusError("what is there is not a regular file; move it away")
    if status.st_uid != os.geteuid():
        raise PluginStatusError("the file there belongs to another user; move it away")


def _replace(folder: int, data: bytes) -> None:
    """Rename a new file over the old one. If somebody puts a link there meanwhile, the link itself is replaced."""
    name = f".{STATUS_FILE}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.rename(name, STATUS_FILE, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error says more
            os.unlink(name, dir_fd=folder)
        raise


def _overwrite(folder: int, data: bytes) -> None:
    """Overwrite the existing file such that a concurrent reader finds either text as valid JSON.

    Raises:
        PluginStatusError: see `write`.
    """
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(STATUS_FILE, flags, dir_fd=folder)
    except FileNotFoundError:
        raise PluginStatusError(f"no file may be created in its folder: `{APP_NAME} install` creates it") from None
    except OSError as error:
        advice = f": `{APP_NAME} install` lets the service write it" if error.errno == errno.EROFS else ""
        raise PluginStatusError(f"{system_reason(error)}{advice}") from None
    try:
        status = os.fstat(descriptor)
        _check_kind(status)
        if status.st_nlink < 1:
            # A service keeps the file that was there when it started.
            raise PluginStatusError(f"the file was replaced: after `{APP_NAME} restart` the service sees the new one")
        if status.st_nlink > 1:
            raise PluginStatusError("the file there has a second hard link; move it away")
        if status.st_size > _LIMIT_BYTES:
            raise PluginStatusError("the file there is too large to be the plugin's; move it away")
        # Blanks after JSON mean nothing, but the rest of a longer text would.
        if os.pwrite(descriptor, data.ljust(status.st_size, b"\n"), 0) < len(data):
            raise PluginStatusError("the disk is full")
        os.ftruncate(descriptor, len(data))
    except OSError as error:
        raise PluginStatusError(system_reason(error)) from None
    finally:
        os.close(descriptor)


def _may_be_ours(path: Path) -> bool:
    try:
        _check_kind(path.lstat())
    except FileNotFoundError:
        return True
    except (OSError, PluginStatusError):
        return False
    return True
