"""Runs the daemon as child processes on a small machine, and writes the logs on it.

Every process and every wait has a time limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tests.support.capture_server import CaptureServer
from tests.support.client import Child, Workspace, start
from tests.support.logs import LogBuilder, image, text, thinking, tool_use, write_files
from tests.support.waiting import PATIENCE

__all__ = [
    "KEY",
    "ROOT",
    "SECRET",
    "Ended",
    "append",
    "are_running",
    "bodies",
    "canonical",
    "environment",
    "expected",
    "following",
    "hosting",
    "kill",
    "log_lines",
    "many_sessions",
    "now",
    "previewed",
    "put_logs",
    "running_below",
    "session_id",
    "start_of",
    "tree",
    "until",
    "verb",
]

ROOT = Path(__file__).parents[2]
KEY = "phc_a_key_that_no_output_shows"
SECRET = "content-marker"
"""Part of every string in `tree` that is content: prompts, answers, names made of them, inputs, results, errors."""

_POLL_INTERVAL = 0.02
_QUICK = "tests.support.quick"
"""The command line, with a faster cadence."""
_numbers = count(1)

Json = dict[str, Any]


# ---------------------------------------------------------------------- processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A process that has ended.

    Attributes:
        status: its exit status.
        stdout: what it wrote there.
        stderr: what it wrote there.
    """

    status: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The lines of stderr that are an error told to the user."""
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]


def environment(workspace: Workspace, url: str | None = None, **variables: str) -> dict[str, str]:
    """Return the daemon's environment on *workspace*: only its folders and the owner of the events are configured.

    Args:
        workspace: the machine.
        url: the receiver; None to configure none.
        variables: further variables; they replace the others.
    """
    sending = {} if url is None else {"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_HOST": url}
    own = {"POSTHOG_LLMA_STATE_DIR": str(workspace.state), "POSTHOG_LLMA_DISTINCT_ID": "ada@example.com"}
    return workspace.environment() | own | sending | variables


def _command(arguments: tuple[str | Path, ...], program: str = _QUICK) -> list[str | Path]:
    return [sys.executable, "-m", program, *arguments]


async def verb(
    workspace: Workspace,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    limit: float = PATIENCE,
    program: str = _QUICK,
    given: bytes = b"",
) -> Ended:
    """Run the command line with *arguments* to its end.

    Args:
        workspace: the machine.
        arguments: the verb and what follows it.
        env: the whole environment; see `environment`.
        limit: seconds it may take.
        program: the module that is the command line.
        given: its input.

    Raises:
        TimeoutError: it took longer.
    """
    name = f"{next(_numbers)}-{arguments[0] if arguments else 'nothing'}".replace("/", "")
    command = _command(arguments, program)
    variables = environment(workspace) if env is None else env
    async with start(
        command, name=name, environment=variables, cwd=ROOT, output=workspace.output, forks=workspace.forks, given=given
    ) as child:
        status = await child.wait(limit)
        return Ended(status=status, stdout=child.stdout, stderr=child.stderr)


@asynccontextmanager
async def following(
    workspace: Workspace, *arguments: str, env: Mapping[str, str], ready: bool = True
) -> AsyncIterator[Child]:
    """Run the daemon, and kill it when the context is left.

    Args:
        workspace: the machine.
        arguments: further ones of `run`.
        env: the whole environment; see `environment`.
        ready: whether to wait until it is ready.
    """
    name = f"{next(_numbers)}-daemon"
    command = _command(("run", "--log-format", "json", *arguments))
    async with start(
        command, name=name, environment=env, cwd=ROOT, output=workspace.output, forks=workspace.forks
    ) as child:
        if ready:
            await child.until(lambda: any(line["event"] == "ready" for line in log_lines(child.stderr)))
        yield child


async def kill(child: Child) -> None:
    """Kill a process without giving it time to clean up."""
    os.kill(child.pid, signal.SIGKILL)
    assert await child.wait() == -signal.SIGKILL, child.stderr


def running_below(pid: int) -> set[int]:
    """Return the processes that run and that *pid*, or one of them, has started."""
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    rows = [line.split() for line in table.stdout.splitlines()]
    started = {int(row[0]): int(row[1]) for row in rows if not row[2].startswith("Z")}
    found: set[int] = set()
    above = {pid}
    while above := {each for each, parent in started.items() if parent in above}:
        found |= above
    return found


def are_running(pids: Collection[int]) -> bool:
    """Whether one of *pids* runs."""
    listed = ",".join(map(str, pids))
    table = subprocess.run(
        ["ps", "-o", "stat=", "-p", listed], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return any(not line.startswith("Z") for line in table.stdout.split())


def log_lines(stderr: str) -> list[Json]:
    """Return the complete lines of a JSON log."""
    whole = stderr[: stderr.rfind("\n") + 1].splitlines()
    return [json.loads(line) for line in whole if line.startswith("{")]


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until *condition* holds.

    Raises:
        TimeoutError: it did not hold in time. The message says *what* was waited for.
    """
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}")
        await asyncio.sleep(_POLL_INTERVAL)


# ---------------------------------------------------------------------- what was received


def bodies(server: CaptureServer) -> dict[str, str]:
    """Return every received event by uuid, in canonical form. Repeated events must be equal."""
    found: dict[str, str] = {}
    for event in server.events:
        body = canonical(event)
        assert found.setdefault(event["uuid"], body) == body, f"{event['event']} {event['uuid']} came in two forms"
    return found


async def expected(workspace: Workspace) -> dict[str, str]:
    """Return the events that `preview` prints for the logs, by uuid."""
    said = await verb(workspace, "preview", workspace.config)
    assert said.status == 0, said.stderr
    return previewed(said.stdout)


def previewed(stdout: str) -> dict[str, str]:
    """Return the events that `preview` printed, as `bodies` does. Each must be printed once."""
    events = [json.loads(line) for line in stdout.splitlines()]
    found = {event["uuid"]: canonical(event) for event in events}
    assert len(found) == len(events), "an event stands in the preview twice"
    return found


def canonical(event: Json) -> str:
    """Return an event as the text that is sent. Keys keep their order."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


# ---------------------------------------------------------------------- logs


def session_id(name: str) -> str:
    """Return a session id for *name*."""
    return str(uuid5(NAMESPACE_URL, f"session/{name}"))


def now() -> str:
    """Return a time for a log's first line, so that it is not history for a daemon that starts now.

    It is in the future: on a busy machine, a daemon that starts now has its first start some time later.
    """
    return (datetime.now(UTC) + timedelta(seconds=PATIENCE)).isoformat()


def start_of(pid: int) -> str | None:
    """Return when a process began, as clients write it in their registry on Linux; None on other systems."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def append(path: Path, data: bytes) -> None:
    """Append to a log as the client does: one write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as log:
        log.write(data)


def put_logs(workspace: Workspace, files: Mapping[str, bytes], *, age: float = 3600.0) -> Path:
    """Write *files* as logs last touched *age* seconds ago, and return the `projects` folder."""
    projects = workspace.config / "projects"
    write_files(projects, files)
    touched = datetime.now(UTC).timestamp() - age
    for name in files:
        os.utime(projects / name, (touched, touched))
    return projects


def tree() -> dict[str, bytes]:
    """Return the logs of several sessions by path below `projects`: parallel and nested subagents, failures, forks,
    a branch, compaction, commands, several client versions and projects. Every content string holds `SECRET`.
    """
    files: dict[str, bytes] = {}
    first = _rich_session("rich")
    files |= first.files()
    for kind, branch in (("fork", False), ("branch", True)):
        copy = first.fork(session_id(kind), branch=branch)
        copy.prompt(f"{SECRET} go on with the {kind}")
        copy.answer(text(f"{SECRET} as you like"), id=f"msg_01{kind}0000000000000000000")
        files |= copy.files()
    for version in ("1.0.128", "2.0.76", "2.1.25", "2.1.72", "2.1.100", "2.1.200", "2.1.300"):
        files |= _plain_session(version).files()
    return files


def _rich_session(name: str) -> LogBuilder:
    log = LogBuilder(session_id(name), cwd="/home/ada-path-marker/orchard")
    log.prompt(f"{SECRET} count the trees")
    log.title(f"{SECRET} title")
    log.answer(
        thinking(f"{SECRET} thought"),
        text(f"{SECRET} I will look"),
        tool_use("Bash", {"command": f"ls {SECRET}", SECRET: 1}, id="toolu_rich_ls"),
        tool_use("Agent", {"prompt": f"{SECRET} outer", "description": SECRET}, id="toolu_rich_outer"),
    )
    log.tool_result("toolu_rich_ls", f"{SECRET} ada\nbob", noted={"stdout": SECRET, "stderr": SECRET})
    outer = log.agent("toolu_rich_outer", f"{SECRET} outer")
    outer.answer(text(SECRET), tool_use("Agent", {"prompt": f"{SECRET} inner"}, id="toolu_rich_inner"))
    inner = outer.agent("toolu_rich_inner", f"{SECRET} inner")
    inner.answer(tool_use("Read", {"file_path": f"/srv/{SECRET}"}, id="toolu_rich_read"))
    inner.tool_result("toolu_rich_read", [text(f"{SECRET} file"), image()])
    inner.answer(text(f"{SECRET} found it"))
    outer.agent_result("toolu_rich_inner", inner, f"{SECRET} found it")
    outer.answer(text(f"{SECRET} all of it"))
    log.agent_result("toolu_rich_outer", outer, f"{SECRET} all of it")
    log.api_request()
    log.api_error(words=f"{SECRET} overloaded")
    log.answer(text(f"{SECRET} two"), tool_use("Edit", {"old": SECRET}, id="toolu_rich_edit"))
    log.denied("toolu_rich_edit", words=f"The user doesn't want to proceed with {SECRET}")
    log.interrupted(for_tool=True)
    log.prompt(f"{SECRET} again")
    log.answer(tool_use("Bash", {"command": f"false {SECRET}"}, id="toolu_rich_false"))
    log.tool_result("toolu_rich_false", f"{SECRET} Exit code 1", error=True)
    log.queued_prompt(f"{SECRET} and be quick")
    log.answer(text(f"{SECRET} failed"))
    log.command("/plant", f"{SECRET} arguments", expansion=f"{SECRET} expanded")
    log.answer(text(f"{SECRET} planted"))
    log.compaction(f"{SECRET} summary")
    log.prompt(f"{SECRET} go on")
    log.permanent_error(f"API Error: 400 {SECRET}")
    log.cost_state()
    return log


def _plain_session(version: str) -> LogBuilder:
    name = version.replace(".", "-")
    log = LogBuilder(session_id(name), version=version, cwd=f"/home/ada-path-marker/garden-{name}")
    log.prompt(f"{SECRET} version {version}")
    log.answer(
        text(f"{SECRET} I start somebody"),
        tool_use("Task", {"prompt": f"{SECRET} help {version}", "description": SECRET}, id=f"toolu_{name}_task"),
        id=f"msg_01{name}first",
    )
    agent = log.agent(f"toolu_{name}_task", f"{SECRET} help {version}")
    agent.answer(text(f"{SECRET} helped"), id=f"msg_01{name}agent")
    log.agent_result(f"toolu_{name}_task", agent, f"{SECRET} helped")
    log.answer(text(f"{SECRET} done"), id=f"msg_01{name}last")
    return log


def hosting() -> dict[str, bytes]:
    """Return the logs of two sessions, of which one goes on in the log of the other."""
    host, guest = LogBuilder(session_id("host"), cwd="/home/ada/meadow"), LogBuilder(session_id("guest"))
    for log in (guest, host):
        log.prompt("count the trees")
        log.answer(text("one"))
    with guest.in_the_log_of(host):
        guest.prompt("and the pears")
        guest.answer(text("two"), id="msg_hosted")
    return host.files() | guest.files()


def many_sessions(sessions: int, turns: int) -> dict[str, bytes]:
    """Return the logs of *sessions* sessions: each has *turns* answers with a tool call and one without, so that it
    gives 2 * *turns* + 2 events.
    """
    files: dict[str, bytes] = {}
    for session in range(sessions):
        log = LogBuilder(session_id(f"many/{session}"), cwd=f"/home/ada/field-{session % 3}")
        log.prompt(f"plant row {session}")
        for turn in range(turns):
            call = f"toolu_{session}_{turn}"
            message = f"msg_01s{session}t{turn}"
            log.answer(text("I dig. " * 20), tool_use("Bash", {"command": "dig"}, id=call), id=message)
            log.tool_result(call, "a hole")
        log.answer(text("Planted."), id=f"msg_01s{session}end")
        files |= log.files()
    return files
