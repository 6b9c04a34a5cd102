"""The file of permissions that `config allow` gives: which hosts and keys projects and recorded lines may name."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from daemon.system.messages import system_reason
from daemon.system.private_file import write_private
from daemon.system.secret import Secret
from daemon.system.small_file import UnreadableFileError, read_with_status

__all__ = ["Allowance", "Allowances"]

_OPEN_TO_OTHERS = 0o066


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """A permission from the user: the sessions of a folder may be sent to a host with a key.

    Attributes:
        folder: the real path of the project's folder; "" for what programs record, wherever they run.
        host: the host that its sessions may be sent to.
        key: the project API key that they may be sent with.
        at: when the user gave the permission, in milliseconds since the epoch.
    """

    folder: str
    host: str
    key: Secret
    at: int


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    folder: str
    host: str
    key: str
    at: int


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    allowed: list[_Row]


class Allowances:
    """The file of allowances, read again whenever it has changed. It contains keys, so only its owner can read it.

    Args:
        path: the file. A missing file allows nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._allowed: tuple[Allowance, ...] = ()

    def all(self) -> tuple[Allowance, ...]:
        """Return all current allowances.

        Raises:
            UnreadableFileError: the file cannot be used, or another user may have written it.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UnreadableFileError(self.path, f"cannot be inspected ({system_reason(error)})") from error
        seen = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        if seen != self._seen:
            self._allowed = self._read()
            self._seen = seen
        return self._allowed

    def add(self, allowance: Allowance) -> None:
        """Add *allowance*, or renew the same one, by replacing the file in one step.

        Raises:
            UnreadableFileError: the existing file cannot be used.
            OSError: the file cannot be written.
        """
        allowed = [each for each in self.all() if replace(each, at=allowance.at) != allowance]
        document = {
            "allowed": [
                {"folder": each.folder, "host": each.host, "key": each.key.reveal(), "at": each.at}
                for each in (*allowed, allowance)
            ]
        }
        write_private(self.path, json.dumps(document, indent=2).encode() + b"\n")

    def _read(self) -> tuple[Allowance, ...]:
        found = read_with_status(self.path)
        if found is None:
            return ()
        data, status = found
        if status.st_uid != os.geteuid() or status.st_mode & _OPEN_TO_OTHERS:
            raise UnreadableFileError(self.path, "can be read or written by other users")
        try:
            rows = msgspec.json.decode(data, type=_Document).allowed
        except (ValueError, msgspec.MsgspecError, RecursionError):
            raise UnreadableFileError(self.path, "is not what `config allow` writes") from None
        return tuple(Allowance(folder=row.folder, host=row.host, key=Secret(row.key), at=row.at) for row in rows)
