"""Programs that record beside a daemon, die in the middle of their lines, and are started again."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.reliability.kept import keep
from tests.support.client import Workspace, start
from tests.support.processes import ROOT

__all__ = ["Recorders"]

_LONGEST_LIFE = 600.0
"""Seconds after which something is wrong with a program that still lives."""


class Recorders:
    """Programs that record.

    Args:
        workspace: the machine.
        outbox: the folder into which they record.
        seed: the seed of what they write.
        cut_share: share of the lines in the middle of which they die.
    """

    def __init__(self, workspace: Workspace, outbox: Path, *, seed: int, cut_share: float) -> None:
        self._cut_share = cut_share
        self._workspace = workspace
        self._outbox = outbox
        self._seeds = itertools.count(seed * 100_000)
        self.kept = workspace.root / "kept"
        """The folder with a second name of each of their files."""
        self.kept.mkdir()
        self.deaths = 0
        """How many of them have killed themselves in the middle of a line."""

    @asynccontextmanager
    async def running(self, number: int) -> AsyncIterator[None]:
        """Let so many run at a time. In the end, they are killed."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run()) for _ in range(number)]
            yield
            for task in tasks:
                task.cancel()

    async def _run(self) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "recorder")])
        while True:
            seed = next(self._seeds)
            async with start(
                [
                    sys.executable,
                    "-m",
                    "tests.reliability.recording",
                    "--seed",
                    str(seed),
                    "--kept",
                    self.kept,
                    "--cut-share",
                    str(self._cut_share),
                ],
                name=f"recording-{seed}",
                environment=self._workspace.environment(PYTHONPATH=path, POSTHOG_LLMA_OUTBOX=str(self._outbox)),
                cwd=ROOT,
                output=self._workspace.output,
            ) as program:
                try:
                    status = await program.wait(_LONGEST_LIFE)
                    assert status == -signal.SIGKILL, program.stderr
                    self.deaths += 1
                finally:
                    await program.end()
                    keep(self._outbox, self.kept, program.pid)
