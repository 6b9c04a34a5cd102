"""Finds the type of file system a path is on. Network file systems have no reliable locks, and report no changes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from daemon.system.command import CommandError, run

__all__ = ["file_system_of", "find_mount", "is_network"]

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|drvfs|afs|afpfs|webdav|ceph|lustre|glusterfs|ncpfs|beegfs"
    r"|fuse\.(sshfs|rclone|s3fs|gcsfuse|glusterfs|davfs2?|smbnetfs|ceph\w*|juicefs|goofys|nfs\w*)"
)
_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNTED = re.compile(r"^.* on (?P<path>/.*) \((?P<kind>[^,)]+)", re.MULTILINE)


def is_network(kind: str) -> bool:
    """Whether a file system of the type *kind* may be on another machine."""
    return _NETWORK.fullmatch(kind) is not None


def file_system_of(path: Path) -> str | None:
    """Return the type of the file system that *path* is on, or would be on; None if it is unknown."""
    real = path.resolve()
    if sys.platform == "linux":
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return find_mount(real, [_parse_mountinfo(line) for line in mounts.splitlines()])
    try:
        listed = run("mount").stdout
    except CommandError:
        return None
    return find_mount(real, [(found["path"], found["kind"]) for found in _MOUNTED.finditer(listed)])


def find_mount(path: Path, mounts: list[tuple[str, str]]) -> str | None:
    """Return the type of the file system that *path* is on; None if no mount contains it.

    Args:
        path: an absolute path without symbolic links.
        mounts: mount point and type of each file system, in the order in which they were mounted.
    """
    on = [
        (len(Path(mount).parts), number, kind)
        for number, (mount, kind) in enumerate(mounts)
        if path.is_relative_to(mount)
    ]
    return max(on)[2] if on else None


def _parse_mountinfo(line: str) -> tuple[str, str]:
    """Return mount point and type from a line of /proc/self/mountinfo."""
    fields, _, rest = line.partition(" - ")
    path = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields.split()[4])
    return path, rest.split()[0]
