"""Runs the real client, and child processes in general, each in its own process group with files for its output."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.fork_server import ForkedProcess, ForkServer
from tests.support.guard import guard
from tests.support.waiting import PATIENCE

__all__ = ["Child", "Client", "Workspace", "client_environment", "passed_on", "session_of", "start", "start_client"]

# The only variables that a child inherits: no keys, no proxies, no settings of the machine's user.
_PASSED_ON = ("PATH", "LANG", "LC_ALL")
_POLL_INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders of one test: a small machine, empty at first.

    Attributes:
        root: holds all of them.
        forks: the server that forks the daemon's processes; without it, each is a new interpreter.
    """

    root: Path
    forks: ForkServer | None = None

    def __post_init__(self) -> None:
        for folder in (self.home, self.work, self.temporary, self.output):
            folder.mkdir(parents=True)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def work(self) -> Path:
        """The folder the client works in."""
        return self.root / "work"

    @property
    def config(self) -> Path:
        """The client's configuration folder; the client makes it."""
        return self.root / "config"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def output(self) -> Path:
        """Where the output of child processes goes."""
        return self.root / "output"

    @property
    def state(self) -> Path:
        """The daemon's state folder; the daemon makes it."""
        return self.root / "state"

    def environment(self, **variables: str) -> dict[str, str]:
        """A child's whole environment: this workspace's folders and the given variables."""
        folders = {"HOME": self.home, "TMPDIR": self.temporary, "CLAUDE_CONFIG_DIR": self.config}
        return passed_on() | {name: str(folder) for name, folder in folders.items()} | variables


class Child:
    """A child process, running or ended.

    Its output goes to files and not through pipes, because a grandchild that outlives it would keep a pipe open and the
    pipe's reader waiting.

    Attributes:
        name: names it in errors.
    """

    def __init__(self, process: asyncio.subprocess.Process | ForkedProcess, *, name: str, output: Path) -> None:
        self.name = name
        self._process = process
        self._stdout = output / f"{name}.stdout"
        self._stderr = output / f"{name}.stderr"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.returncode is None

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.returncode

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._stdout.read_text("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return self._stderr.read_text("utf-8", "replace")

    async def wait(self, limit: float = PATIENCE) -> int:
        """Wait for the process to end and return its exit status.

        Args:
            limit: Seconds to wait at most.

        Raises:
            TimeoutError: If it still runs then; says what it last wrote to stderr.
        """
        try:
            async with asyncio.timeout(limit):
                return await self._process.wait()
        except TimeoutError:
            raise TimeoutError(
                f"{self.name} still runs after {limit:.0f} s; its stderr ends: {self.stderr[-2000:]}"
            ) from None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; the process must not end before.

        Args:
            condition: Asked again and again: what it looks at is made by other processes.

        Raises:
            ChildProcessError: If the process ends first.
            TimeoutError: If the condition does not hold in time. Both say what the process last wrote to stderr.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not condition():
            if not self.running:
                raise ChildProcessError(f"{self.name} has ended; its stderr ends: {self.stderr[-2000:]}")
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(
                    f"not within {PATIENCE:.0f} s; the stderr of {self.name} ends: {self.stderr[-2000:]}"
                )
            await asyncio.sleep(_POLL_INTERVAL)

    def terminate(self) -> None:
        """Ask the process to end, as a service manager does."""
        self._process.terminate()

    async def end(self) -> None:
        """End whatever is left of the process group, and reap the process."""
        with suppress(ProcessLookupError):  # the group has ended by itself
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()


def passed_on() -> dict[str, str]:
    """Return what a child gets of this process's environment."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


@asynccontextmanager
async def start(
    command: Sequence[str | Path],
    *,
    name: str,
    environment: Mapping[str, str],
    cwd: Path,
    output: Path,
    forks: ForkServer | None = None,
    given: bytes = b"",
) -> AsyncIterator[Child]:
    """Run a command. What is left of its process group is killed when the context is left.

    Args:
        command: The program and its arguments.
        name: Names the two output files, and the process in errors.
        environment: The whole environment; nothing is inherited.
        cwd: The working folder.
        output: The folder for the output files.
        forks: What a module of Python is forked from, in place of a new interpreter.
        given: Its input.
    """
    stdin, stdout, stderr = (output / f"{name}.{stream}" for stream in ("stdin", "stdout", "stderr"))
    stdin.write_bytes(given)
    process: asyncio.subprocess.Process | ForkedProcess
    with stdin.open("rb") as source, stdout.open("wb") as out, stderr.open("wb") as errors:
        if forks is not None and list(command[:2]) == [sys.executable, "-m"]:
            process = await forks.spawn(
                str(command[2]),
                command[3:],
                environment=environment,
                cwd=cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        else:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                cwd=cwd,
                stdin=source,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
    child = Child(process, name=name, output=output)
    guard().watch(child.pid)
    try:
        yield child
    finally:
        await child.end()
        guard().release(child.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An installed client.

    Attributes:
        command: The command that runs it, without arguments.
        version: Its version, as it reports it.
    """

    command: tuple[str, ...]
    version: str

    @classmethod
    def at(cls, program: Path) -> Client:
        """Return the client that a file is: a program, or a script for node.

        An installed package says its version in a file beside it. The old client takes more than a second of the
        processor to say it, in each of the processes that run tests.

        Raises:
            OSError: It, or node, cannot be run.
            ValueError: It says no version.
        """
        command = (*(("node",) if program.suffix == ".js" else ()), str(program.absolute()))
        package = program.absolute().with_name("package.json")
        if package.is_file():
            stated = json.loads(package.read_text("utf-8"))
            if stated.get("name", "").startswith("@anthropic-ai/claude-code") and os.access(program, os.R_OK):
                return cls(command=command, version=stated["version"])
        said = subprocess.run(
            [*command, "--version"], env=passed_on(), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        found = re.search(r"\d+\.\d+\.\d+", said.stdout)
        if found is None:
            raise ValueError(f"{program} says no version: {(said.stderr or said.stdout)[-500:]}")
        return cls(command=command, version=found[0])

    @property
    def is_old(self) -> bool:
        """Whether it is from before 2.1.100: no registry of running sessions, lines that are logged too early."""
        return not self.since(2, 1, 100)

    def since(self, *version: int) -> bool:
        """Whether it is of this version or a later one."""
        return tuple(map(int, self.version.split("."))) >= version


def client_environment(workspace: Workspace, api_url: str, **variables: str) -> dict[str, str]:
    """Return the whole environment of a client that talks to the given API only."""
    return workspace.environment(
        ANTHROPIC_BASE_URL=api_url,
        ANTHROPIC_API_KEY="sk-ant-test",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_TELEMETRY="1",
        DISABLE_ERROR_REPORTING="1",
        DISABLE_AUTOUPDATER="1",
        **variables,
    )


def start_client(
    client: Client,
    prompt: str,
    *options: str,
    name: str,
    workspace: Workspace,
    cwd: Path,
    api_url: str,
    tools: str = "Bash,Agent,Task",
    **variables: str,
) -> AbstractAsyncContextManager[Child]:
    """Run a client in print mode with one prompt against the given API only. It prints its result as JSON.

    Its *tools* are allowed by name, because root may not use the flag that skips permissions.
    """
    return start(
        [
            *client.command,
            "-p",
            prompt,
            *options,
            "--output-format",
            "json",
            *(("--allowedTools", tools) if tools else ()),
        ],
        name=name,
        environment=client_environment(workspace, api_url, **variables),
        cwd=cwd,
        output=workspace.output,
        forks=workspace.forks,
    )


def session_of(child: Child) -> str:
    """Return the session that a client of `start_client` says it had, after its end.

    Raises:
        ChildProcessError: it printed no result; says what it printed.
    """
    try:
        return str(json.loads(child.stdout)["session_id"])
    except (ValueError, KeyError, TypeError):
        said = f"stdout: {child.stdout[-2000:]!r}; stderr: {child.stderr[-2000:]!r}"
        raise ChildProcessError(f"{child.name} ended with {child.status} and printed no result; {said}") from None
