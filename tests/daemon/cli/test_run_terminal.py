"""`run` on a terminal: what it says to people, and what it does when the terminal hangs up."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from daemon.state.lock import StateLock, prepare_state_dir
from tests.support.capture_server import Answer, CaptureServer
from tests.support.client import Workspace
from tests.support.fork_server import ForkedProcess
from tests.support.logs import LogBuilder, text
from tests.support.processes import append, environment, now, put_logs, session_id, tree, until, verb
from tests.support.terminal import start_on_terminal
from tests.support.waiting import PATIENCE

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLUMNS = 80


class Screen:
    """A terminal with a daemon on it. What it shows is collected; escape sequences are left out."""

    def __init__(self, leader: int, process: asyncio.subprocess.Process | ForkedProcess) -> None:
        self._leader: int | None = leader
        self._came = bytearray()
        self.process = process
        asyncio.get_running_loop().add_reader(leader, self._read)

    @property
    def shown(self) -> str:
        return ESCAPES.sub("", self._came.decode(errors="replace"))

    async def shows(self, words: str) -> None:
        def seen() -> bool:
            assert self.process.returncode is None or words in self.shown, self.shown
            return words in self.shown

        await until(seen, f"{words} on the terminal")

    def press(self, keys: bytes) -> None:
        assert self._leader is not None
        os.write(self._leader, keys)

    def hang_up(self) -> None:
        if self._leader is not None:
            asyncio.get_running_loop().remove_reader(self._leader)
            os.close(self._leader)
            self._leader = None

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    def _read(self) -> None:
        assert self._leader is not None
        try:
            self._came.extend(os.read(self._leader, 65536))
        except OSError:
            # On Linux this is how a terminal reports that no process has it open.
            asyncio.get_running_loop().remove_reader(self._leader)


@asynccontextmanager
async def on_a_terminal(
    workspace: Workspace, url: str, *arguments: str, controls: bool = True, ignores: bool = False, **variables: str
) -> AsyncIterator[Screen]:
    """Run `run` on a terminal, which controls it or not."""
    # A folder of projects that is created later is found by a sweep, ten seconds after.
    (workspace.config / "projects").mkdir(parents=True, exist_ok=True)
    process, leader = await start_on_terminal(
        workspace,
        "daemon.cli",
        "run",
        *arguments,
        env=environment(workspace, url, TERM="xterm-256color", **variables),
        controlled=controls,
        ignored=[signal.SIGHUP] if ignores else [],
    )
    screen = Screen(leader, process)
    try:
        yield screen
    finally:
        screen.hang_up()
        if process.returncode is None:
            process.kill()
            await process.wait()


def begin(workspace: Workspace, name: str) -> LogBuilder:
    """Let the client begin a session, with a prompt of this name and one answer."""
    log = LogBuilder(session_id(name), start=now())
    log.prompt(name)
    log.answer(text("an answer"), id=f"msg_{name.replace(' ', '_')}")
    append(workspace.config / "projects" / log.path, log.files()[log.path])
    return log


async def test_run_says_what_it_found_where_to_look_and_what_it_sent(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, tree())
    async with on_a_terminal(workspace, posthog.url) as screen:
        await screen.shows(" ready")
        shown = " ".join(screen.shown.split())
        assert f"see it at {posthog.url}/llm-analytics/traces" in shown
        assert "sessions were there before this first start and will not be sent" in shown
        assert "`posthog-llma-daemon backfill`" in shown
        begin(workspace, "count the trees")
        await screen.shows("sent 2 events | count the trees")
        begin(workspace, "water them")
        await screen.shows("sent 4 events | water them")
        screen.press(b"\x03")
        assert await screen.ended() == 0
        assert screen.shown.rstrip().splitlines()[-1].endswith("sent 4 events | water them")
    async with on_a_terminal(workspace, posthog.url) as screen:
        await screen.shows(" ready")
        assert "first start" not in screen.shown


async def test_without_content_the_line_shows_the_session(workspace: Workspace, posthog: CaptureServer) -> None:
    async with on_a_terminal(workspace, posthog.url, POSTHOG_LLMA_CONTENT="metadata") as screen:
        await screen.shows(" ready")
        assert "no sessions existed before" in screen.shown
        log = begin(workspace, "count the trees")
        await screen.shows(f"sent 2 events | {log.session}")
        assert "trees" not in screen.shown


async def test_a_failure_is_told_with_its_reason_first(workspace: Workspace, posthog: CaptureServer) -> None:
    posthog.fault = lambda _: Answer(status=401, body=b'{"detail": "no such key"}')
    async with on_a_terminal(workspace, posthog.url) as screen:
        await screen.shows(" ready")
        begin(workspace, "count the trees")
        await screen.shows("delivery_stopped reason=")
        await screen.shows("no such key")


async def test_json_on_a_terminal_is_nothing_but_json(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    async with on_a_terminal(workspace, posthog.url, "--log-format", "json") as screen:
        await screen.shows('"ready"')
        begin(workspace, "count the trees")
        await until(lambda: bool(posthog.events), "an event")
        screen.press(b"\x03")
        assert await screen.ended() == 0
        lines = [line for line in screen.shown.replace("^C", "").splitlines() if line]
        assert all(json.loads(line)["event"] for line in lines)


async def test_without_a_terminal_only_the_log_is_written(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    ended = await verb(workspace, "run", "--once", env=environment(workspace, posthog.url))
    assert all(json.loads(line)["event"] for line in ended.stderr.splitlines())


@pytest.mark.parametrize("controls", [True, False], ids=["controlling", "only its streams"])
async def test_when_its_terminal_hangs_up_run_delivers_and_ends(
    workspace: Workspace, posthog: CaptureServer, controls: bool
) -> None:
    posthog.fault = lambda _: Answer(status=503)
    async with on_a_terminal(workspace, posthog.url, controls=controls) as screen:
        await screen.shows(" ready")
        begin(workspace, "count the trees")
        await screen.shows("delivery_failing")
        posthog.fault = None
        screen.hang_up()
        assert await screen.ended() == 0
    assert len(posthog.without_openings) == 1


async def test_a_hang_up_that_is_ignored_as_under_nohup_ends_nothing(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    async with on_a_terminal(workspace, posthog.url, ignores=True) as screen:
        await screen.shows(" ready")
        screen.process.send_signal(signal.SIGHUP)
        screen.hang_up()
        begin(workspace, "count the trees")
        await until(lambda: bool(posthog.events), "an event")
        assert screen.process.returncode is None


async def test_a_second_daemon_is_refused_without_the_advice_to_send_everything_twice(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    prepare_state_dir(workspace.state)
    with StateLock(workspace.state):
        ended = await verb(workspace, "run", env=environment(workspace, posthog.url))
    assert ended.status == 1
    [error] = ended.errors
    assert f"pid {os.getpid()}" in error
    assert "posthog-llma-daemon status" in error
    assert "STATE_DIR" not in error
    assert "another" not in error
