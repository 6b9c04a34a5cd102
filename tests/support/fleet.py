"""A small fleet on loopback: an S3 with archives, a Dask scheduler and its workers, all child processes."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import signal
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.client import Child, Workspace, start
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.processes import ROOT, environment, session_id

__all__ = ["Cluster", "Store", "die_once", "packed", "runner_sessions"]

_BEGUN = datetime(2026, 3, 2, 9, tzinfo=UTC)
_MODIFIED = 1_763_000_000


def runner_sessions(first: int, count: int, *, turns: int = 1, words: int = 5) -> dict[str, bytes]:
    """Return the logs of some sessions of a CI runner, by path below `projects`. Each began at another time."""
    files: dict[str, bytes] = {}
    for number in range(first, first + count):
        begun = (_BEGUN + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
        log = LogBuilder(session_id(f"runner/{number}"), cwd="/home/runner/work/orchard", start=begun)
        log.prompt(f"review {number}")
        for turn in range(turns):
            call = f"toolu_{number}_{turn}"
            log.answer(
                text("I look. " * words), tool_use("Bash", {"command": "git diff"}, id=call), id=f"msg_{number}_{turn}"
            )
            log.tool_result(call, "a line\n" * words)
        log.answer(text("It is fine."), id=f"msg_{number}_end")
        files |= log.files()
    return files


def packed(files: Mapping[str, bytes], name: str) -> bytes:
    """Return an archive of logs, packed as its name says: `.tar.gz` or `.tar.zst`."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(f"home/runner/.claude/projects/{path}")
            member.size, member.mtime = len(data), _MODIFIED
            archive.addfile(member, io.BytesIO(data))
    if name.endswith(".zst"):
        zstandard: Any = importlib.import_module("zstandard")
        return bytes(zstandard.ZstdCompressor().compress(output.getvalue()))
    return gzip.compress(output.getvalue())


def die_once(marker: Path) -> int:
    """Kill this process, unless it was done before; then return its id. A task for workers."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@dataclass(frozen=True, slots=True)
class Store:
    """An S3 on loopback.

    Attributes:
        url: its address.
        environment: what a process needs to use it.
    """

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, path: str, data: bytes = b"") -> None:
        """Store an object, or make a bucket."""
        httpx.put(f"{self.url}/{path}", content=data, trust_env=False, timeout=60).raise_for_status()

    @classmethod
    @asynccontextmanager
    async def running(cls, workspace: Workspace) -> AsyncIterator[Store]:
        """Run an S3."""
        command = [sys.executable, "-m", "tests.support.s3_server"]
        async with start(
            command, name="s3", environment=workspace.environment(), cwd=ROOT, output=workspace.output
        ) as child:
            await child.until(lambda: child.stdout.strip().isdigit())
            yield cls(f"http://127.0.0.1:{child.stdout.strip()}")


@dataclass(slots=True)
class Cluster:
    """A Dask scheduler with workers. An async context manager.

    Args:
        workspace: the machine.
        name: names its processes.
        variables: what its workers need.
        size: how many workers it has.

    Attributes:
        scheduler: the scheduler's process.
        workers: the workers' processes.
        address: the scheduler's address.
    """

    workspace: Workspace
    name: str
    variables: Mapping[str, str]
    size: int = 2
    workers: list[Child] = field(default_factory=list)
    address: str = ""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _scheduler: Child | None = None

    @property
    def scheduler(self) -> Child:
        assert self._scheduler is not None
        return self._scheduler

    async def __aenter__(self) -> Self:
        file = self.workspace.root / f"{self.name}.json"
        arguments = ["--host", "127.0.0.1", "--no-dashboard", "--port", "0", "--scheduler-file", str(file)]
        self._scheduler = await self._start("scheduler", arguments)
        await self._scheduler.until(lambda: _address(file) != "")
        self.address = _address(file)
        for _ in range(self.size):
            await self.add_worker()
        return self

    async def add_worker(self) -> None:
        """Start one more worker."""
        own = ["--host", "127.0.0.1", "--no-dashboard", "--no-nanny"]
        arguments = [self.address, *own, "--nthreads", "1", "--memory-limit", "0", "--name", f"w{len(self.workers)}"]
        self.workers.append(await self._start("worker", arguments))

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, program: str, arguments: Sequence[str]) -> Child:
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *arguments]
        variables = {**environment(self.workspace), **self.variables}
        name = f"{self.name}-{program}-{len(self.workers)}"
        return await self._stack.enter_async_context(
            start(command, name=name, environment=variables, cwd=self.workspace.work, output=self.workspace.output)
        )


def _address(file: Path) -> str:
    try:
        return str(json.loads(file.read_text())["address"])
    except (OSError, ValueError):
        return ""
