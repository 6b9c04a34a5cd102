"""The daemon is killed at each step in turn. The next daemon continues as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.reading.preview import find_logs, preview
from daemon.state.schema import identity_key
from llma_core.spans import settled_name
from tests.support import outbox as outboxes
from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace, start
from tests.support.dying import COMMIT_STEPS, DELIVERY_STEPS, SET_ASIDE_STEPS, START_STEPS
from tests.support.logs import LogBuilder, text, write_files
from tests.support.processes import (
    ROOT,
    append,
    bodies,
    canonical,
    environment,
    following,
    hosting,
    kill,
    log_lines,
    many_sessions,
    now,
    put_logs,
    session_id,
    tree,
    until,
    verb,
)
from tests.support.rig import routing_for


async def die(env: Mapping[str, str], workspace: Workspace, step: str, number: int = 1, history: str = "send") -> None:
    """Run a daemon that kills itself at *step*."""
    command = [sys.executable, "-m", "tests.support.dying", "--step", step, "--number", str(number)]
    command += ["--history", history]
    async with start(
        command, name="dying", environment=env, cwd=ROOT, output=workspace.output, forks=workspace.forks
    ) as child:
        assert await child.wait() == -signal.SIGKILL, child.stderr


async def heard_out(server: CaptureServer) -> None:
    """Wait until the receiver has handled every request of the killed daemons."""
    await until(lambda: not server.connections, "the end of all connections")


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The logs of most tests here, and their events.

    Attributes:
        files: the logs, by path below `projects`.
        bodies: the events that `preview` has for them, by uuid.
        uuids: the uuid of each event by the key under which the store notes it.
    """

    files: Mapping[str, bytes]
    bodies: Mapping[str, str]
    uuids: Mapping[bytes, str]

    def noted(self, workspace: Workspace) -> set[str]:
        """Return the uuids of the events that are settled in the store."""
        database = workspace.state / "state.db"
        if not database.exists():
            return set()
        uri = f"file:{database}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
            try:
                identities = {identity for (identity,) in connection.execute("SELECT identity FROM settled")}
            except sqlite3.OperationalError:
                return set()  # it has no tables yet
        return {uuid for key, uuid in self.uuids.items() if key in identities}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    root = tmp_path_factory.mktemp("logs")
    files = tree() | hosting() | many_sessions(2, 50)
    write_files(root / "config" / "projects", files)
    events = list(preview(list(find_logs([root / "config"])), routing_for(root)))
    return Logs(
        files=files,
        bodies={event.uuid: canonical(json.loads(event.body)) for event in events},
        uuids={identity_key(event.identity): event.uuid for event in events},
    )


def counts(server: CaptureServer) -> dict[str, int]:
    """Return how often each event was accepted, by uuid."""
    return {uuid: len(times) for uuid, times in server.events_by_uuid.items()}


@pytest.mark.parametrize(
    ("step", "number"),
    [
        *((step, 1) for step in (*START_STEPS, *DELIVERY_STEPS, *COMMIT_STEPS)),
        *((step, 3) for step in ("send", "sent", "answered", "settled", "commit", "committed")),
        *((step, 250) for step in ("settled",)),
    ],
)
async def test_only_events_that_were_accepted_and_not_recorded_are_sent_again(
    workspace: Workspace, posthog: CaptureServer, logs: Logs, step: str, number: int
) -> None:
    put_logs(workspace, logs.files)
    # Its sessions have ended, so that the daemon that is killed sends their traces.
    env = environment(workspace, posthog.url, POSTHOG_LLMA_SESSION_TIMEOUT="1")
    await die(env, workspace, step, number)
    await heard_out(posthog)
    accepted, settled = set(posthog.events_by_uuid), logs.noted(workspace)
    assert settled <= accepted, "nothing is noted that did not arrive"
    ended = await verb(workspace, "run", "--once", "--from-start", env=env)
    assert ended.status == 0, ended.stderr
    assert bodies(posthog) == logs.bodies
    assert {uuid for uuid, times in counts(posthog).items() if times > 1} == accepted - settled
    assert set(counts(posthog).values()) <= {1, 2}


@pytest.mark.parametrize("step", START_STEPS)
async def test_a_first_start_that_fails_is_repeated_as_a_first_start(
    workspace: Workspace, posthog: CaptureServer, step: str
) -> None:
    put_logs(workspace, many_sessions(2, 3))
    env = environment(workspace, posthog.url)
    await die(env, workspace, step, history="skip")
    async with following(workspace, env=env) as daemon:
        log = LogBuilder(session_id("new"), start=now())
        log.prompt("are you there?")
        answer = log.answer(text("I am."))
        append(workspace.config / "projects" / log.path, log.files()[log.path])
        await daemon.until(lambda: bool(posthog.events))
        await kill(daemon)
    assert [event["properties"]["$ai_span_id"] for event in posthog.without_openings] == [answer], (
        "the others are history"
    )
    for file in workspace.state.glob("state.db*"):
        file.unlink()
    async with following(workspace, env=env) as daemon:
        assert "store_was_lost" in {line["event"] for line in log_lines(daemon.stderr)}


@pytest.mark.parametrize("step", SET_ASIDE_STEPS)
async def test_a_damaged_store_is_set_aside_wherever_the_daemon_is_killed(
    workspace: Workspace, posthog: CaptureServer, logs: Logs, step: str
) -> None:
    put_logs(workspace, logs.files)
    env = environment(workspace, posthog.url)
    # It is killed with its last transactions still in the write-ahead log.
    await die(env, workspace, "committed", history="send")
    await heard_out(posthog)
    broken(workspace.state / "state.db")
    await die(env, workspace, step, history="skip")
    ended = await verb(workspace, "run", "--once", env=env)
    assert ended.status == 0, ended.stderr
    assert bodies(posthog) == logs.bodies
    assert len(list(workspace.state.glob("state.db.corrupt-*"))) == 1


def broken(path: Path) -> None:
    """Overwrite the beginning of a database and of its write-ahead log."""
    for file in (path, path.with_name(f"{path.name}-wal")):
        with file.open("r+b") as opened:
            opened.write(b"\xff" * 100)


async def test_a_daemon_that_dies_beside_recording_programs_loses_and_doubles_nothing(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    env = environment(workspace, posthog.url)
    workspace.state.mkdir(mode=0o700)
    outbox = workspace.state / "outbox"
    number, written, unsettled = 0, set[str](), set[str]()
    for step in ("sent", "answered", "settled", "committed"):
        for writer in range(3):
            lines = [outboxes.line("span", number + each) for each in range(1, 40)]
            written |= {outboxes.uuid(number + each) for each in range(1, 40)}
            number += 100
            # It died in the middle of a line, and was followed by one with the same number.
            outboxes.write(outbox, *lines, lines[0][:50], name=f"{2**22 + writer}-{number}-1")
        await die(env, workspace, step)
        await heard_out(posthog)
        unsettled |= set(posthog.events_by_uuid) - settled_lines(workspace, written)

    ended = await verb(workspace, "run", "--once", env=env)
    assert ended.status == 0, ended.stderr

    assert set(posthog.events_by_uuid) == written
    assert {uuid for uuid, times in counts(posthog).items() if times > 1} <= unsettled
    # What was counted shortly before a death may be counted again.
    told = await verb(workspace, "status", "--json", env=env)
    assert json.loads(told.stdout)["bad_lines"] >= 12


def settled_lines(workspace: Workspace, uuids: set[str]) -> set[str]:
    uri = f"file:{workspace.state / 'state.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
        identities = {identity for (identity,) in connection.execute("SELECT identity FROM settled")}
    return {uuid for uuid in uuids if identity_key(settled_name("line", uuid)) in identities}
