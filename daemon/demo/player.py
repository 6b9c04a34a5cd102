"""Plays the recorded session: the same log files, written with the same pauses and with times of now.

The session was made up for this project, in the shape of a log by Claude Code 2.1.329. A user asks for a flaky test to
be fixed. It holds what a trace can hold: parallel tool calls whose results stand between the blocks of their message, a
call that fails, an overloaded API, a subagent that starts another one, and a second prompt.

`recording/` holds the client's files, laid out as in a project's folder. A meta file is always replaced as a whole, so
its recording, `NAME.meta.jsonl`, has one line for each version. `writes.jsonl` lists the client's writes in order:
seconds since the start, the file, and the number of lines. The ids stay as recorded, because `demo` plays into a folder
of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

__all__ = ["SESSION", "Step", "steps"]

SESSION = "0d3f7c1e-5a4b-4c8e-9f21-6b7a8c9d0e1f"
"""The session's id."""

# Claude Code's name for the project folder of /home/demo/shop, where the session seems to run.
_PROJECT = Path("-home-demo-shop")
_RECORDING = Path(__file__).with_name("recording")
# Within a JSON string a quote has a backslash in front: only a key of a line matches.
_TIMESTAMP = re.compile(rb'(?<="timestamp":")[^"]+')
# Milliseconds since the epoch, in the totals that end a log.
_START_TIME = re.compile(rb'(?<="startTime":)\d+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One write of the client.

    Attributes:
        delay: seconds to wait before it.
        path: the file, relative to a `projects` folder.
        data: whole lines to append, or the whole content.
        replace: whether *data* replaces the file's content.
    """

    delay: float
    path: Path
    data: bytes
    replace: bool

    def write(self, projects: Path) -> Path:
        """Write to the file below the folder *projects*; return the file's path.

        Raises:
            OSError: the file cannot be written.
        """
        path = projects / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.replace:
            # Renamed into place, so that nobody reads half a file.
            beside = path.with_name(f"{path.name}.tmp")
            beside.write_bytes(self.data)
            beside.replace(path)
        else:
            with path.open("ab") as log:
                log.write(self.data)
        return path


def steps(started: datetime) -> Iterator[Step]:
    """Yield the client's writes in their order; the same *started* gives the same bytes.

    Args:
        started: when the session starts, with a time zone. Everything but the times stays as recorded.
    """
    unread: dict[str, Iterator[bytes]] = {}
    recorded: datetime | None = None
    before = 0.0
    for text in (_RECORDING / "writes.jsonl").read_text(encoding="utf-8").splitlines():
        write = json.loads(text)
        name, replace = write["file"], write["file"].endswith(".meta.json")
        if name not in unread:
            unread[name] = iter((_RECORDING / (f"{name}l" if replace else name)).read_bytes().splitlines(keepends=True))
        data = b"".join(next(unread[name]) for _ in range(write["lines"]))
        # The first write holds the first time.
        recorded = recorded or _first_time(data)
        yield Step(
            delay=round(write["at"] - before, 3),
            path=_PROJECT / name,
            data=_shift(data.rstrip(b"\n") if replace else data, started - recorded),
            replace=replace,
        )
        before = write["at"]


def _first_time(data: bytes) -> datetime:
    found = _TIMESTAMP.search(data)
    assert found is not None
    return datetime.fromisoformat(found[0].decode())


def _shift(data: bytes, by: timedelta) -> bytes:
    """Return *data* with all its times moved."""

    def later(found: re.Match[bytes]) -> bytes:
        time = (datetime.fromisoformat(found[0].decode()) + by).astimezone(UTC)
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()

    def later_milliseconds(found: re.Match[bytes]) -> bytes:
        return str(round(int(found[0]) + 1000 * by.total_seconds())).encode()

    return _START_TIME.sub(later_milliseconds, _TIMESTAMP.sub(later, data))
