"""The last verification: what `verify` found out, for `status`, `doctor` and the next `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from daemon.state import layout
from daemon.system import any_json
from daemon.system.private_file import write_private
from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = ["Verification", "read_sent_again", "read_verification", "write_verification"]

_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a verification, in numbers.

    Attributes:
        at: when it was done, in ISO 8601, UTC.
        host: the web app that was asked.
        project: the number of the project, or `@current`.
        sessions: sessions that were compared.
        equal: of these, those of which PostHog holds exactly what was sent.
        events: events that were sent, as the logs and the state directory say.
        missing: of these, those that PostHog does not hold.
        extra: events that PostHog holds of these sessions and the logs do not give.
        doubled: events that PostHog holds more often than they were to be sent.
        not_yet: events too young to be judged.
        nowhere: sessions that were sent with a key which no project has that the personal key can see.
    """

    at: str
    host: str
    project: str
    sessions: int
    equal: int
    events: int
    missing: int
    extra: int
    doubled: int
    not_yet: int
    nowhere: int = 0


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    result: Verification
    sent_again: dict[str, float] = {}


def read_verification(folder: Path) -> Verification | None:
    """Return the last verification in a state directory; None if there is none, or another version has written it."""
    stored = _read(folder)
    return None if stored is None else stored.result


def read_sent_again(folder: Path) -> Mapping[str, float]:
    """Return the uuids of missing events that were sent again, each with the time in seconds since the epoch."""
    stored = _read(folder)
    return {} if stored is None else stored.sent_again


def write_verification(folder: Path, result: Verification, sent_again: Mapping[str, float]) -> None:
    """Store the last verification in a state directory, which must exist.

    Args:
        folder: the state directory.
        result: the verification.
        sent_again: see `read_sent_again`.

    Raises:
        OSError: the system refuses.
    """
    stored = _Stored(result=result, sent_again=dict(sent_again))
    write_private(folder / layout.VERIFICATION, any_json.encode(stored))


def _read(folder: Path) -> _Stored | None:
    try:
        data = read_regular(folder / layout.VERIFICATION, _MAX_BYTES)
        return None if data is None else any_json.decode(data, _Stored)
    except (UnreadableFileError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
