"""The status file of PostHog's Claude Code plugin, for those who come from it: its status command reads the file.

`posthog-llma-status.json` in a config folder of Claude Code's tells of the session that was sent last: names, counts,
and whether it was accepted; never content, never a key. It is somebody else's folder, so the file is replaced in one
step, nothing but a plain file of this user's is ever replaced, and no link is followed. Where the folder cannot be
written to, as by a service that may write this one file and nothing beside it, the text is put into the file that is
there. That it cannot be written at all costs no event, and is said once.
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
from llma_core.events import CaptureEvent

__all__ = ["STATUS_FILE", "PluginStatus", "PluginStatusError", "Sender", "create", "status_files", "write"]

_log = structlog.get_logger(__name__)

STATUS_FILE = "posthog-llma-status.json"
"""What the plugin calls its file."""

_LIMIT_BYTES = 64 * 1024
"""A file larger than this is none of the plugin's, and is not written over."""
_SESSIONS = 1000
"""Sessions whose counts are kept at most, apart from those that have events on their way."""
_NO_ROOM_BESIDE = (errno.EROFS, errno.EBUSY, errno.EACCES)
"""What the system says where a file cannot be replaced, and can perhaps be written."""
_STATUS_CODE = re.compile(r"([1-5]\d\d) (.+)")


class PluginStatusError(Exception):
    """The file cannot be written; the message says why, and what to do if that is not plain, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A session that sends events.

    Attributes:
        unit: its unit.
        session: its id.
        folder: the project folder of its logs.
        route: where its events go.
        distinct_id: whose they are.
        project: the name of the folder it was begun in; empty where that is not known.
    """

    unit: str
    session: str
    folder: str
    route: Route
    distinct_id: str
    project: str


@dataclass(slots=True, kw_only=True)
class _Account:
    """What became of a session's events since the daemon began."""

    sender: Sender
    waiting: int = 0
    sent: int = 0
    generations: int = 0
    tool_uses: int = 0
    prompts: int = 0
    error: str | None = None


class PluginStatus:
    """Keeps the files of some config folders: in each, the session whose events were accepted or refused last.

    Counts are those of the session since the daemon began. Belongs to one event loop.

    Args:
        config_dirs: Claude Code's config folders.
        wall: seconds since the epoch.
    """

    def __init__(self, config_dirs: Sequence[Path], *, wall: Callable[[], float] = time.time) -> None:
        self._config_dirs = config_dirs
        self._wall = wall
        self._accounts: dict[str, _Account] = {}
        self._changed: dict[str, None] = {}
        self._failing: set[Path] = set()

    def hand_over(self, sender: Sender, events: Sequence[CaptureEvent], prompts: int) -> None:
        """Take note that *events* of a session are on their way, and of the *prompts* that were found with them."""
        account = self._accounts.pop(sender.unit, None) or _Account(sender=sender)
        account.sender = sender
        account.waiting += len(events)
        account.prompts += prompts
        # The latest stands last.
        self._accounts[sender.unit] = account
        if len(self._accounts) > _SESSIONS:
            self._forget_one()

    def settle(self, unit: str | None, outcome: EventOutcome) -> None:
        """Take note of what became of an event of *unit*; of one that was not handed over nothing is said."""
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
        else:
            account.error = _as_plugin(outcome.reason or "refused")
        self._change(account)

    def fail(self, route: Route, reason: str) -> None:
        """Take note that *route* takes nothing for now: of the last session that waits there it is told."""
        error = _as_plugin(reason)
        for account in reversed(self._accounts.values()):
            if account.waiting and account.sender.route == route:
                if account.error != error:
                    account.error = error
                    self._change(account)
                return

    async def tell(self) -> None:
        """Write what has changed. To be called not more often than every few seconds."""
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
                    action="going on without it; events are delivered all the same",
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
        """Write the last text of each config folder; return what was wrong with each, None for nothing."""
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
        """Return the config folder that a project's folder belongs to, also where that is a link to another place."""
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
    """Put *reason*, which holds no content, as the plugin does: with the status code in front."""
    answer = _STATUS_CODE.fullmatch(reason)
    return one_line(f"HTTP {answer[1]}: {answer[2]}" if answer else reason)


# --- the file ------------------------------------------------------------------------------------------------------


def status_files(settings: Settings) -> tuple[Path, ...]:
    """Return the files that a daemon with *settings* is to keep; none where they are switched off.

    What stands in a file's place and may not be written over is left out.
    """
    if not settings.plugin_status_file:
        return ()
    return tuple(folder / STATUS_FILE for folder in settings.claude_config_dirs if _may_be_ours(folder / STATUS_FILE))


def create(path: Path) -> bool:
    """Make the empty file that a service, which can make none, writes into; return whether it was missing.

    Raises:
        PluginStatusError: it cannot be made, or what stands in its place may not be written over.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        _check_kind(path.lstat())
        return False
    except FileNotFoundError:
        raise PluginStatusError(f"{path.parent} is not there: `{APP_NAME} install` again when it is") from None
    except OSError as error:
        raise PluginStatusError(_words(error)) from None
    try:
        os.write(descriptor, b"{}\n")
    except OSError as error:
        raise PluginStatusError(_words(error)) from None
    finally:
        os.close(descriptor)
    return True


def write(folder: Path, data: bytes) -> None:
    """Put *data* into the status file in *folder*, in one step.

    Raises:
        PluginStatusError: it cannot be written, or what stands in its place may not be written over.
    """
    with _opened(folder) as descriptor:
        _check(descriptor)
        try:
            _replace(descriptor, data)
        except OSError as error:
            if error.errno not in _NO_ROOM_BESIDE:
                raise PluginStatusError(_words(error)) from None
            _overwrite(descriptor, data)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    # That the config folder is a link is its user's affair; from here on it is this folder, whatever its name becomes.
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PluginStatusError(_words(error)) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check(folder: int) -> None:
    """Refuse to write over anything but a plain file of this user's."""
    try:
        status = os.stat(STATUS_FILE, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise PluginStatusError(_words(error)) from None
    _check_kind(status)


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PluginStatusError("what stands there is not a regular file; move it away")
    if status.st_uid != os.geteuid():
        raise PluginStatusError("the file there is another user's; move it away")


def _replace(folder: int, data: bytes) -> None:
    """Put a new file in the place of the old one. A link that has come to stand there meanwhile would be what goes."""
    name = f".{STATUS_FILE}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.rename(name, STATUS_FILE, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):  # why it could not be written says more
            os.unlink(name, dir_fd=folder)
        raise


def _overwrite(folder: int, data: bytes) -> None:
    """Write into the file that is there, so that whoever reads meanwhile finds one text or the other.

    Raises:
        PluginStatusError: see `write`.
    """
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(STATUS_FILE, flags, dir_fd=folder)
    except FileNotFoundError:
        raise PluginStatusError(f"nothing new may be made in its folder: `{APP_NAME} install` makes the file") from None
    except OSError as error:
        advice = f": `{APP_NAME} install` lets a service write it" if error.errno == errno.EROFS else ""
        raise PluginStatusError(f"{_words(error)}{advice}") from None
    try:
        status = os.fstat(descriptor)
        _check_kind(status)
        if status.st_nlink < 1:
            # A service holds on to the file that was there when it began.
            raise PluginStatusError(f"the file was replaced: `{APP_NAME} restart` lets the service see the new one")
        if status.st_nlink > 1:
            raise PluginStatusError("the file there has a second name elsewhere; move it away")
        if status.st_size > _LIMIT_BYTES:
            raise PluginStatusError("the file there is too large to be the plugin's; move it away")
        # Blanks at the end of JSON mean nothing, and the rest of a longer text would.
        if os.pwrite(descriptor, data.ljust(status.st_size, b"\n"), 0) < len(data):
            raise PluginStatusError("the disk is full")
        os.ftruncate(descriptor, len(data))
    except OSError as error:
        raise PluginStatusError(_words(error)) from None
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


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
