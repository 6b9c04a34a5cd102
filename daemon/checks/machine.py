"""Checks of folders, file systems and the limits of the machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from daemon.checks import Finding, failure, fine, warning
from daemon.following.log_roots import roots_below
from daemon.following.log_tree import folders_below
from daemon.system import disk
from daemon.system.file_system import file_system_of, is_network
from daemon.system.messages import system_reason
from daemon.system.space import room_at

__all__ = ["check_answers", "check_disk", "check_logs_place", "check_permissions", "check_state_place", "check_watches"]

_OTHERS = 0o077
# Watches are shared with editors and everything else the user runs.
_SHARE_OF_WATCHES = 0.5


def check_permissions(state_dir: Path, config_dirs: Sequence[Path]) -> Iterator[Finding]:
    """Check that only the user can use the state directory, and that the logs can be read."""
    try:
        yield _judge_state(state_dir)
    except OSError as error:
        yield failure(
            "permissions",
            f"{state_dir} cannot be examined ({system_reason(error)})",
            "get access to the folders above it, or set POSTHOG_LLMA_STATE_DIR",
        )
    for folder in (root.path for each in config_dirs for root in roots_below(each)):
        with suppress(disk.Unanswered):
            if disk.call(str(folder), partial(_is_closed, folder)):
                yield failure("permissions", f"{folder} cannot be read", f"run chmod u+rx {shlex.quote(str(folder))}")


def _is_closed(folder: Path) -> bool:
    return folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)


def check_answers() -> Iterator[Finding]:
    """Report the folders that did not answer the checks before."""
    for folder in disk.hanging():
        yield failure(
            "log folder",
            f"{folder} does not answer, so nothing there is read",
            "get the disk it is on to work, or unmount it; the daemon then goes on by itself",
        )


def _judge_state(state_dir: Path) -> Finding:
    if not state_dir.exists():
        above = _existing(state_dir)
        if os.access(above, os.W_OK | os.X_OK):
            return fine("permissions", f"{state_dir} will be made at the first start")
        return failure("permissions", f"{state_dir} cannot be made", "make it yourself, or set POSTHOG_LLMA_STATE_DIR")
    status = state_dir.stat()
    if not state_dir.is_dir():
        return failure("permissions", f"{state_dir} is not a folder", "set POSTHOG_LLMA_STATE_DIR to another path")
    if status.st_uid != os.getuid():
        return failure("permissions", f"{state_dir} belongs to another user", "set POSTHOG_LLMA_STATE_DIR")
    if status.st_mode & _OTHERS:
        return failure(
            "permissions", f"{state_dir} is open to other users", f"run chmod 700 {shlex.quote(str(state_dir))}"
        )
    if not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK):
        return failure(
            "permissions", f"{state_dir} cannot be written", f"run chmod u+rwx {shlex.quote(str(state_dir))}"
        )
    return fine("permissions", f"only you can use {state_dir}")


def check_state_place(state_dir: Path) -> Finding:
    """Check that the state is on a disk of this machine."""
    kind = file_system_of(state_dir)
    if kind is not None and is_network(kind):
        return failure(
            "state folder",
            f"{state_dir} is on a network file system ({kind}), where SQLite's locks are unreliable",
            "set POSTHOG_LLMA_STATE_DIR to a folder on a disk of this machine",
        )
    return fine("state folder", f"{state_dir} is on a local file system ({kind or 'unknown'})")


def check_logs_place(config_dirs: Sequence[Path]) -> Iterator[Finding]:
    """Report log folders on network file systems."""
    for folder in config_dirs:
        try:
            kind = disk.call(str(folder), partial(_kind_of, folder))
        except disk.Unanswered:
            continue
        if kind is not None and is_network(kind):
            yield warning(
                "log folder",
                f"{folder} is on a network file system ({kind}), which does not report changes by other machines",
                "nothing to do: the daemon checks its files every few seconds",
            )


def _kind_of(folder: Path) -> str | None:
    return file_system_of(folder) if folder.exists() else None


def check_disk(state_dir: Path) -> Finding:
    """Check that there is room for the state, which takes a few bytes for each event."""
    try:
        room = disk.call(str(state_dir), partial(room_at, state_dir))
    except OSError as error:
        return warning("disk space", f"unknown for {state_dir} ({system_reason(error)})", "check the disk yourself")
    words = f"{room} free for {state_dir}"
    match room.level:
        case "none":
            return failure(
                "disk space", words, "make room: the daemon sends nothing while it cannot record what it sent"
            )
        case "little":
            return warning("disk space", words, "make room")
    return fine("disk space", words)


def check_watches(
    config_dirs: Sequence[Path], limit_file: Path = Path("/proc/sys/fs/inotify/max_user_watches")
) -> Finding:
    """Check that the kernel allows enough watches for all log folders."""
    if sys.platform != "linux":
        return fine("watches", "this system needs no watch for each folder")
    folders = sum(_count_folders(root.path) for folder in config_dirs for root in roots_below(folder))
    try:
        limit = int(limit_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return warning("watches", f"the limit cannot be read from {limit_file}", "nothing to do")
    words = f"{folders:,} folders to watch, out of {limit:,} watches for all your programs"
    if folders > limit * _SHARE_OF_WATCHES:
        return warning(
            "watches",
            words,
            f"run sudo sysctl fs.inotify.max_user_watches={max(524_288, 4 * folders)}; "
            "the daemon checks unwatched folders every few seconds",
        )
    return fine("watches", words)


def _count_folders(root: Path) -> int:
    try:
        return disk.call(str(root), lambda: sum(1 for _ in folders_below(str(root))))
    except disk.Unanswered:
        return 0


def _existing(path: Path) -> Path:
    """Return *path*, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())
