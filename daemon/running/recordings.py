"""What programs have recorded and the daemon has not removed yet, as `status` and `doctor` tell it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from daemon.following.log_roots import log_roots
from daemon.following.log_tree import plain_folders, root_logs
from daemon.running.problem import Problem
from daemon.state.dropped import DROPPED, dropped, why
from daemon.system import disk

__all__ = ["Recordings"]

_FULL_BYTES = 1024**3
"""Size of an outbox at which programs stop recording."""
_NEARLY_FULL = 0.8
_NAMED = 3
"""How many strange files are named."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """What is in the outboxes.

    Attributes:
        folders: those that exist.
        files: how many files of recorded calls there are.
        bytes: their size together.
        dropped: how many calls could not be recorded, by the reason that their program gives.
        strange: files that no program records into, which are not read.
        open: those of *folders* that other users can use.
        unknown_lines: total of lines of types that this version does not know.
        ignored_fields: total of fields that this version does not know, or cannot use.
        kept_local: total of events that were kept on this machine, as their program wanted.
    """

    folders: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    strange: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    unknown_lines: int = 0
    ignored_fields: int = 0
    kept_local: int = 0

    @classmethod
    def of(
        cls, outboxes: Sequence[Path], *, unknown_lines: int, ignored_fields: int, kept_local: int = 0
    ) -> Recordings:
        """Look into *outboxes*, some of which may not exist, and into the folders of commands in them."""
        roots = [root for root in log_roots((), outboxes) if disk.is_folder(str(root.path))]
        folders = [folder for root in roots for folder in (str(root.path), *plain_folders(str(root.path)))]
        logs = {path: status for root in roots for path, status in root_logs(root)}
        return cls(
            folders=tuple(str(root.path) for root in roots),
            files=len(logs),
            bytes=sum(status.st_size for status in logs.values()),
            dropped=dict(dropped(map(Path, folders))),
            strange=tuple(path for folder in folders for path in _files(folder) if path not in logs),
            open=tuple(str(root.path) for root in roots if _is_open(root.path)),
            unknown_lines=unknown_lines,
            ignored_fields=ignored_fields,
            kept_local=kept_local,
        )

    def problems(self) -> Iterator[Problem]:
        """Yield what somebody should know or act on."""
        if self.dropped:
            yield Problem(
                level="fail",
                message=f"{sum(self.dropped.values()):,} calls were not recorded: {why(self.dropped)}",
                hint=f"make room and let the daemon run; then remove the files *{DROPPED} in {', '.join(self.folders)}",
            )
        elif self.bytes > _NEARLY_FULL * _FULL_BYTES:
            yield Problem(
                level="warning",
                message=f"{self.bytes:,} bytes of recorded calls wait; programs record nothing beyond {_FULL_BYTES:,}",
                hint="let the daemon run, and see what keeps it from sending",
            )
        if self.strange:
            named = ", ".join(self.strange[:_NAMED])
            more = f" and {len(self.strange) - _NAMED:,} more" if len(self.strange) > _NAMED else ""
            yield Problem(
                level="warning",
                message=f"not read, as nothing records into files with such names: {named}{more}",
                hint="recorded calls are in files named <pid>-<start of the process in ms>-<number>.jsonl",
            )
        if self.unknown_lines or self.ignored_fields:
            yield Problem(
                level="warning",
                message=f"{self.unknown_lines:,} lines and {self.ignored_fields:,} fields that programs recorded are "
                "not known to this version, or cannot be used",
                hint="update the daemon, or what writes them; everything else of these lines is sent",
            )
        for folder in self.open:
            yield Problem(level="warning", message=f"other users can use {folder}", hint=f"run `chmod 700 {folder}`")


def _files(folder: str) -> list[str]:
    """Return the files in a folder that are none of a recorder's own."""

    def look() -> list[str]:
        return [
            path
            for name in sorted(os.listdir(folder))  # noqa: PTH208 - names are enough
            if not name.endswith(DROPPED) and not name.startswith(".") and not os.path.isdir(path := f"{folder}/{name}")  # noqa: PTH112
        ]

    try:
        return disk.call(folder, look)
    except OSError:
        return []


def _is_open(folder: Path) -> bool:
    try:
        return bool(disk.call(str(folder), partial(os.stat, folder)).st_mode & _OTHERS)
    except OSError:
        return False
