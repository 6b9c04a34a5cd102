"""Which young sessions wait because a running command may claim them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.following.log_roots import log_roots
from daemon.following.logs import Logs
from daemon.following.opening import opening
from daemon.following.session_files import SessionFiles
from daemon.reading.attendance import Attendance
from daemon.reading.executions import Executions, Notice
from daemon.state.reader import StoreReader
from daemon.system.workers import Workers

SESSION = "0d3f7c1e-5a4b-4c8e-9f21-6b7a8c9d0e1f"
YOUNG = 60.0


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the path of a log that its client has made and not written to yet."""
    path = tmp_path / "config" / "projects" / "-work" / f"{SESSION}.jsonl"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def line(ago: float) -> str:
    at = datetime.fromtimestamp(time.time() - ago, UTC).isoformat()
    return json.dumps({"type": "user", "timestamp": at, "cwd": "/work", "sessionId": SESSION}) + "\n"


async def put_off(tmp_path: Path) -> list[str]:
    """Return the sessions that are put off, of the one there is."""
    logs = Logs(log_roots([tmp_path / "config"]))
    logs.include(logs.sweep("full").changed)
    attendance = Attendance(
        Executions(tmp_path),
        logs=logs,
        lookup=StoreReader(tmp_path / "store"),
        workers=Workers(asyncio.Event()),
        only_named=False,
        young=YOUNG,
    )
    [files] = logs.sessions.values()
    assert isinstance(files, SessionFiles)
    is_put_off = await attendance.puts_off(files, opening(files))
    assert is_put_off == bool(attendance.put_off)
    return [files.session] if is_put_off else []


@pytest.mark.parametrize("age", [0.0, 10 * YOUNG], ids=["new", "long empty"])
def test_an_empty_log_waits_while_a_command_may_claim_it(tmp_path: Path, log: Path, age: float) -> None:
    os.utime(log, (time.time() - age,) * 2)

    assert asyncio.run(put_off(tmp_path)) == []
    with Notice(tmp_path, {"pr": "1"}) as notice:
        assert asyncio.run(put_off(tmp_path)) == [SESSION]
        notice.name([SESSION])
        assert asyncio.run(put_off(tmp_path)) == []


@pytest.mark.parametrize(
    ("written", "age", "waits"),
    [
        ("{", 0.0, True),
        ("{", 10 * YOUNG, False),
        ('{"type": "summary"}\n', 0.0, True),
        ('{"type": "summary"}\n', 10 * YOUNG, False),
        # The line is written when the test runs: it is to be young then.
        (0.0, 10 * YOUNG, True),
        (10 * YOUNG, 0.0, False),
    ],
    ids=["half a line", "old half a line", "no time", "old and no time", "just begun", "begun before"],
)
def test_a_log_waits_for_a_command_only_while_it_is_young(
    tmp_path: Path, log: Path, written: str | float, age: float, *, waits: bool
) -> None:
    log.write_text(line(written) if isinstance(written, float) else written)
    os.utime(log, (time.time() - age,) * 2)

    with Notice(tmp_path, {"pr": "1"}):
        assert asyncio.run(put_off(tmp_path)) == ([SESSION] if waits else [])
