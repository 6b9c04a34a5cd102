"""`tail` shows what happens in sessions as it happens, and only reads."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.capture_server import CaptureServer
from tests.support.client import Child, Workspace, start
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.processes import ROOT, SECRET, append, environment, following, now, put_logs, until, verb
from tests.support.processes import session_id as session_of
from tests.support.terminal import start_on_terminal
from tests.support.waiting import PATIENCE

TAIL = (sys.executable, "-m", "tests.support.quick", "tail")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@asynccontextmanager
async def tailing(
    workspace: Workspace, *arguments: str | Path, env: dict[str, str] | None = None
) -> AsyncIterator[Child]:
    """Run it, and wait until it says that it is watching."""
    variables = environment(workspace) if env is None else env
    command = [*TAIL, *arguments]
    async with start(
        command, name="tail", environment=variables, cwd=ROOT, output=workspace.output, forks=workspace.forks
    ) as child:
        await child.until(lambda: "Ctrl-C stops" in child.stderr)
        yield child


async def ended(child: Child, number: int = signal.SIGINT) -> list[str]:
    """End it with Ctrl-C, or the signal *number*, and return the lines it has printed."""
    os.kill(child.pid, number)
    assert await child.wait() == 0, child.stderr
    # Around midnight a date stands between the lines.
    return [line for line in child.stdout.splitlines() if not line.startswith("──")]


class Growing:
    """A log that grows while `tail` watches."""

    def __init__(self, workspace: Workspace, log: LogBuilder) -> None:
        self.log = log
        self._projects = workspace.config / "projects"
        self._written: dict[str, int] = {}

    def write(self) -> None:
        """Append what was added since the last call."""
        for name, data in self.log.files().items():
            append(self._projects / name, data[self._written.get(name, 0) :])
            self._written[name] = len(data)


def session(name: str, *, cwd: str = "/home/ada/orchard", started: str | None = None) -> LogBuilder:
    return LogBuilder(session_of(name), cwd=cwd, start=started or now())


def asked_and_done(log: LogBuilder, name: str) -> None:
    log.prompt(f"count the trees of {name}")
    log.answer(text("I look."), tool_use("Bash", {"command": "ls trees"}, id=f"toolu_{name}"), id=f"msg_01{name}a")
    log.tool_result(f"toolu_{name}", "no such folder", error=True)
    log.answer(text("There are three."), id=f"msg_01{name}b")


def shows(child: Child, *words: str) -> Callable[[], bool]:
    return lambda: all(word in child.stdout for word in words)


# ---------------------------------------------------------------------- lines


async def test_what_happens_is_shown_as_it_happens(workspace: Workspace) -> None:
    async with tailing(workspace) as child:
        log = session("one")
        growing = Growing(workspace, log)
        log.prompt("count the trees")
        growing.write()
        await child.until(shows(child, "count the trees"))
        log.answer(text("I look."), tool_use("Bash", {"command": "ls trees"}, id="toolu_one"), id="msg_01one")
        growing.write()
        await child.until(shows(child, "I look."))
        log.tool_result("toolu_one", "no such folder", error=True)
        log.answer(text("There are three."), id="msg_01two")
        growing.write()
        await child.until(shows(child, "no such folder", "There are three."))
        lines = await ended(child)

    said = [line.split(maxsplit=4) for line in lines]
    assert [each[1:4] for each in said] == [
        [session_of("one")[:8], "orchard", kind] for kind in ("prompt", "answer", "tool", "answer")
    ]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", each[0]) for each in said)
    assert re.search(r"10\+1\.3k in 50 out", said[1][4])
    assert said[2][4].startswith("Bash")
    assert "  error  ls trees  no such folder" in said[2][4]


async def test_earlier_events_are_shown_only_since_the_given_time(workspace: Workspace) -> None:
    old = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    log = session("one", started=old)
    asked_and_done(log, "long-ago")
    later = session("two", started=(datetime.now(UTC) - timedelta(minutes=5)).isoformat())
    asked_and_done(later, "lately")
    growing, growing_later = Growing(workspace, log), Growing(workspace, later)
    growing.write()
    growing_later.write()
    long_ago = time.time() - 200
    for path in (workspace.config / "projects").rglob("*.jsonl"):
        os.utime(path, (long_ago, long_ago))

    async with tailing(workspace) as child:
        log.wait(3 * 3600 + 60)  # however long it took until here
        log.prompt("now at last")
        growing.write()
        await child.until(shows(child, "now at last"))
        assert [line.split()[3] for line in await ended(child)] == ["prompt"]

    async with tailing(workspace, "--since", "10m") as child:
        await child.until(shows(child, "There are three.", "now at last"))
        lines = await ended(child)
    assert [line.split()[3] for line in lines] == ["prompt", "answer", "tool", "answer", "prompt"]
    assert "long-ago" not in child.stdout
    assert [line[:8] for line in lines] == sorted(line[:8] for line in lines)


async def test_it_can_be_narrowed_to_a_session_or_a_project(workspace: Workspace) -> None:
    orchard, field = session("one"), session("two", cwd="/home/ada/field/north")
    asked_and_done(orchard, "apples")
    asked_and_done(field, "wheat")
    Growing(workspace, orchard).write()
    Growing(workspace, field).write()
    last = "There are three."
    for arguments, name in (
        (("--session", session_of("two")[:10]), "wheat"),
        (("--project", "/home/ada/field"), "wheat"),
        (("--project", "Orchard"), "apples"),
    ):
        async with tailing(workspace, "--since", "1h", *arguments) as child:
            await child.until(shows(child, last))
            lines = await ended(child)
        assert len(lines) == 4
        assert f"count the trees of {name}" in lines[0]


async def test_a_subagents_work_is_shown(workspace: Workspace) -> None:
    log = session("one")
    log.prompt("have it counted")
    log.answer(tool_use("Agent", {"prompt": "count", "description": "counting"}, id="toolu_agent"), id="msg_01agent")
    agent = log.agent("toolu_agent", "count")
    agent.answer(text("Three of them."), id="msg_01inner")
    log.agent_result("toolu_agent", agent, "three")
    log.answer(text("Done."), id="msg_01outer")
    Growing(workspace, log).write()
    async with tailing(workspace, "--since", "1h") as child:
        await child.until(shows(child, "Done.", "Three of them."))
        lines = await ended(child)
    assert [line.split()[3] for line in lines].count("agent") == 1


# ---------------------------------------------------------------------- which content is shown


@pytest.mark.parametrize("level", ["metadata", "no_tool_content", "full"])
async def test_it_shows_only_what_the_content_level_allows(workspace: Workspace, level: str) -> None:
    log = session("one")
    log.prompt(f"{SECRET} prompt")
    log.answer(
        text(f"{SECRET} answer"),
        tool_use("Bash", {"command": f"cat {SECRET} password=hunter2hunter2"}, id="toolu_one"),
        id="msg_01one",
    )
    log.tool_result("toolu_one", f"{SECRET} output", error=True)
    log.permanent_error(f"API Error: 400 {SECRET} failure")
    log.answer(text("last"), id="msg_01last")
    Growing(workspace, log).write()
    env = environment(workspace, POSTHOG_LLMA_CONTENT=level)
    async with tailing(workspace, "--since", "1h", env=env) as child:
        await until(lambda: child.stdout.count("\n") >= 5, "all of it")
        lines = await ended(child)
    shown = {
        words
        for words in ("prompt", "answer", "output", "failure", "cat")
        if f"{SECRET} {words}" in child.stdout or f"{words} {SECRET}" in child.stdout
    }
    assert (
        shown
        == {
            "metadata": set(),
            "no_tool_content": {"prompt", "answer", "failure"},
            "full": {"prompt", "answer", "output", "failure", "cat"},
        }[level]
    )
    assert "hunter2" not in child.stdout
    assert any(" Bash  " in line for line in lines)


async def test_excluded_folders_are_not_shown(workspace: Workspace) -> None:
    private, open_ = session("one", cwd="/home/ada/private"), session("two")
    asked_and_done(private, "secrets")
    asked_and_done(open_, "apples")
    Growing(workspace, private).write()
    Growing(workspace, open_).write()
    env = environment(workspace, POSTHOG_LLMA_EXCLUDE="/home/ada/private")
    async with tailing(workspace, "--since", "1h", env=env) as child:
        await child.until(shows(child, "There are three."))
        assert len(await ended(child)) == 4
    assert "secrets" not in child.stdout


async def test_tool_output_cannot_control_the_terminal(workspace: Workspace) -> None:
    log = session("one")
    log.prompt("a \x1b]0;title\x07 \x1b[2J prompt\nin two lines")
    log.answer(text("last"), id="msg_01last")
    Growing(workspace, log).write()
    async with tailing(workspace, "--since", "1h") as child:
        await child.until(shows(child, "last"))
        await ended(child)
    assert "\x1b" not in child.stdout
    assert "prompt in two lines" in child.stdout


# ---------------------------------------------------------------------- the machine


async def test_it_runs_beside_the_daemon_and_changes_nothing(workspace: Workspace, posthog: CaptureServer) -> None:
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as daemon, tailing(workspace, env=env) as child:
        log = session("one")
        asked_and_done(log, "apples")
        Growing(workspace, log).write()
        await child.until(shows(child, "There are three."))
        await until(lambda: len(posthog.without_openings) >= 3, "three events at the receiver")
        await ended(child, signal.SIGTERM)
        daemon.terminate()
        assert await daemon.wait() == 0
    assert len(posthog.without_openings) == 3


async def test_it_needs_no_state_and_writes_nothing(workspace: Workspace) -> None:
    log = session("one")
    asked_and_done(log, "apples")
    put_logs(workspace, log.files(), age=0)

    def everything() -> dict[str, tuple[int, bytes]]:
        files = (path for path in workspace.root.rglob("*") if path.is_file() and workspace.output not in path.parents)
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = everything()
    async with tailing(workspace, "--since", "1h") as child:
        await child.until(shows(child, "There are three."))
        await ended(child)
    assert everything() == before
    assert not workspace.state.exists()


async def test_a_rewritten_log_is_not_shown_twice(workspace: Workspace) -> None:
    log = session("one")
    asked_and_done(log, "apples")
    projects = put_logs(workspace, log.files(), age=0)
    async with tailing(workspace, "--since", "1h") as child:
        await child.until(shows(child, "There are three."))
        log.prompt("and the pears")
        beside = projects / "beside.tmp"
        beside.write_bytes(log.files()[log.path])
        beside.replace(projects / log.path)
        await child.until(shows(child, "and the pears"))
        lines = await ended(child)
    assert [line.split()[3] for line in lines] == ["prompt", "answer", "tool", "answer", "prompt"]


async def test_it_follows_a_projects_folder_that_appears_later(workspace: Workspace) -> None:
    assert not (workspace.config / "projects").exists()
    async with tailing(workspace) as child:
        log = session("one")
        log.prompt("first of all")
        Growing(workspace, log).write()
        await child.until(shows(child, "first of all"))
        await ended(child)


@pytest.mark.parametrize("since", ["10", "m", "-5m", "10 m", "1y", "\uff19m"])
async def test_an_invalid_time_exits_with_2(workspace: Workspace, since: str) -> None:
    said = await verb(workspace, "tail", "--since", since)
    assert said.status == 2
    assert "or 10m, 2h, 7d for a time ago" in said.stderr


# ---------------------------------------------------------------------- a terminal


async def in_a_terminal(workspace: Workspace, columns: int, wanted: str, **variables: str) -> tuple[str, int]:
    """Run it on a terminal until *wanted* appears, press Ctrl-C; return the output and the exit code."""
    env = environment(workspace, TERM="xterm-256color", **variables)
    process, leader = await start_on_terminal(workspace, *TAIL[2:], "--since", "1h", env=env, columns=columns)
    came = bytearray()
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            came.extend(os.read(leader, 65536))
        except OSError:
            # On Linux this is how a terminal reports that no process has it open.
            loop.remove_reader(leader)

    loop.add_reader(leader, read)
    try:
        await until(lambda: wanted in ESCAPES.sub("", came.decode(errors="replace")), f"{wanted} on the terminal")
        os.write(leader, b"\x03")
        async with asyncio.timeout(PATIENCE):
            status = await process.wait()
        await asyncio.sleep(0)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        loop.remove_reader(leader)
        os.close(leader)
    return came.decode(errors="replace"), status


async def test_on_a_terminal_a_board_is_below_the_lines(workspace: Workspace) -> None:
    log = session("one")
    asked_and_done(log, "apples")
    log.prompt("and what of the pears, the plums, the quinces and the medlars behind the house of my neighbour?")
    Growing(workspace, log).write()
    came, status = await in_a_terminal(workspace, 80, "> and what of the pears")
    assert status == 0
    shown = ESCAPES.sub("", came)
    assert re.search(
        rf"orchard {session_of('one')[:8]}  \$\d\.\d\d\d?\d?  count the trees of apples  > and what", shown
    )
    assert "2 answers, 1 tool call" in shown
    assert "1 error" in shown
    assert all(len(line.rstrip("\r\n")) <= 80 for line in shown.splitlines())
    # The cursor is visible again.
    assert came.rfind("\x1b[?25h") > came.rfind("\x1b[?25l")


async def test_colors_are_used_unless_no_color_is_set(workspace: Workspace) -> None:
    log = session("one")
    asked_and_done(log, "apples")
    Growing(workspace, log).write()
    color = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-7]|9[0-7]|38)[;m]")
    came, _ = await in_a_terminal(workspace, 100, "2 answers")
    assert color.search(came)
    came, _ = await in_a_terminal(workspace, 100, "2 answers", NO_COLOR="1")
    assert not color.search(came)
