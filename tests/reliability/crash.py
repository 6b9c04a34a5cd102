"""The crash harness: kills the daemon again and again while logs grow; no event may be lost or counted twice.

    python -m tests.reliability.crash --rounds 100 --seed 1
    python -m tests.reliability.crash --rounds 100 --signal term --fail-share 0.2

The daemon is the real program with its real settings. The logs are real files in a temporary folder, and a seeded
writer keeps appending to them. Beside it, programs record into the outbox, and die in the middle of their lines. The
receiver is the strict capture server in its own process. Each round starts the
daemon, waits until it has delivered something, and then sends it a signal at a random moment, while requests are under
way or at rest. Before some rounds, a daemon gets its signal while it starts. In the end the writer stops, `run --once`
delivers what is left, and the received events are compared with those that `preview` derives from the finished logs.

The harness prints the reasons, keeps its folder and exits with 1 in any of these cases:

- An event was lost, was unexpected, or at any time differed from the expected one.
- An event was sent again without a reason, or more events after one kill than can be on their way at one time.
- Nothing was delivered in a round before its signal.
- The daemon ended by itself or logged an error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.delivering.batcher import BatchLimits
from daemon.delivering.delivery import Delivery
from tests.reliability.account import BARRIER, Account, End, arrivals, balance, refusals
from tests.reliability.recorders import Recorders
from tests.reliability.writer import Figures, Writer
from tests.support.client import Child, Workspace, start
from tests.support.processes import ROOT, environment, following, log_lines, previewed, verb
from tests.support.waiting import PATIENCE

WINDOW = inspect.signature(Delivery).parameters["concurrency"].default * BatchLimits().count
"""How many events can be on their way at one time: as many full batches as may be under way."""

SESSION_TIMEOUT = 12
"""Seconds of quiet after which a session has ended: short, so that some traces are sent while daemons are killed."""
POLL_SECONDS = 0.003
"""Seconds between two looks at the receiver's journal."""
STARTS_STOPPED = 0.25
"""Share of the rounds before which a daemon is stopped while it starts."""
LONGEST_START = 0.8
"""A daemon that is stopped while it starts gets its signal within this many seconds."""
LONGEST_REST = 1.2
"""A daemon gets its signal within this many seconds of its first delivery."""
DELAY = 0.15
"""The receiver delays requests, and its answers, by up to this many seconds."""
DRAIN_LIMIT = 180.0
CUT_SHARE = 0.02
"""Share of the lines in the middle of which a program that records dies."""
FLUENT_SECONDS = 0.8
"""If writing a message's lines took longer than this, the daemon may have taken it for complete too early."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        ends: how each life of the daemon ended.
        figures: what the writer did.
        deaths: how many programs that recorded have died in the middle of a line.
        account: what became of the events.
        errors: errors that the daemon logged, and other things that must not happen.
        seconds: how long the run took.
    """

    ends: list[End] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    deaths: int = 0
    account: Account = field(default_factory=lambda: Account(expected=0, accepted=0))
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong, one line each."""
        faults = [*self.account.faults(WINDOW), *self.errors]
        if faults and self.figures.longest_message > FLUENT_SECONDS:
            faults.append(
                f"the writer was kept from writing for {self.figures.longest_message:.1f} s in the middle of a message:"
                " differences may be due to that; try again on a less busy machine"
            )
        return faults

    def lines(self) -> list[str]:
        """Return the figures, one line each."""
        account, figures, ends = self.account, self.figures, Counter(self.ends)
        after_life, after_loss = sum(account.again_after_life.values()), account.again_after_lost_answer
        without = len(account.again_without_reason)
        most = f"at most {account.largest_after_life} after one (window {WINDOW})"
        named = {
            "lives": f"{len(self.ends)}: " + ", ".join(f"{count} {end}" for end, count in ends.items()),
            "sessions": f"{figures.sessions}, including {figures.forks} forks",
            "logs": f"{figures.rewrites} replaced, {figures.moves} moved",
            "bytes": figures.bytes,
            "recording": f"{self.deaths} programs died in the middle of a line",
            "expected": f"{account.expected} events",
            "accepted": f"{account.accepted}, including repeated ones",
            "lost": len(account.lost),
            "extra": len(account.extra),
            "different": len(account.different),
            "sent again": f"{after_life + after_loss + without}: {after_life} after the end of a life, {most}; "
            f"{after_loss} after a lost answer; {without} without a reason",
            "seconds": round(self.seconds, 1),
        }
        return [f"{name:<11}{figure}" for name, figure in named.items()]


class Receiver:
    """The capture server as a process, and its journal."""

    def __init__(self, child: Child, journal: Path) -> None:
        self._child = child
        self._path = journal
        # Where the daemon's current life begins in the journal, and the last connection before it.
        self._life = 0, 0
        self.port = int(child.stdout)

    @property
    def url(self) -> str:
        """The URL for requests."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def size(self) -> int:
        """Bytes of the journal. It grows with each request that is judged, before the answer is sent."""
        return self._path.stat().st_size

    def journal(self, start: int = 0) -> list[dict[str, Any]]:
        """Return the requests judged so far, without those in the first *start* bytes of the journal."""
        return [json.loads(line) for line in self._whole_lines()[start:].splitlines()]

    async def end_life(self) -> None:
        """Mark that connections opened from now on belong to another life of the daemon."""
        start = len(self._whole_lines())
        # The receiver's injected faults are meant for the daemon: repeat a mark that did not get into the journal.
        while not (marks := [request for request in self.journal(start) if request["path"].startswith(BARRIER)]):
            with contextlib.suppress(ConnectionError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                with contextlib.closing(writer):
                    writer.write(f"GET {BARRIER} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
                    await reader.read()
        self._life = start, marks[-1]["connection"]

    async def first_delivery(self, daemon: Child) -> bool:
        """Wait until an event that the daemon sent in its current life is accepted; return False if none ever was."""
        start, barrier = self._life
        size = 0
        deadline = time.monotonic() + PATIENCE
        over = False
        while not over:
            # Checked before the journal is read: a delivery just before the daemon's end counts.
            over = not daemon.running or time.monotonic() > deadline
            if self.size > size:
                size = self.size
                # A request of an earlier life may be judged only now. Connections are numbered in order of arrival.
                if any(
                    request["status"] == 200 and request["events"] and request["connection"] > barrier
                    for request in self.journal(start)
                ):
                    return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    def _whole_lines(self) -> bytes:
        data = self._path.read_bytes()
        return data[: data.rfind(b"\n") + 1]


@asynccontextmanager
async def receiving(workspace: Workspace, *, seed: int, fail_share: float) -> AsyncIterator[Receiver]:
    """Run the capture server."""
    journal = workspace.root / "journal.jsonl"
    journal.touch()
    options = {"--journal": journal, "--seed": seed, "--fail-share": fail_share, "--delay": DELAY}
    command = [
        sys.executable,
        "-m",
        "tests.support.capture_server",
        *(str(part) for pair in options.items() for part in pair),
    ]
    async with start(
        command, name="receiver", environment=workspace.environment(), cwd=ROOT, output=workspace.output
    ) as child:
        await child.until(lambda: child.stdout.endswith("\n"))
        yield Receiver(child, journal)


class Harness:
    """One run.

    Args:
        workspace: an empty machine.
        receiver: receives the events.
        seed: the seed of all random numbers.
        signals: the signals to choose from in each round.
        fail_share: share of the requests that the receiver fails.
        inputs: POSTHOG_LLMA_INPUT; with `full`, the logs hold the lines from which requests are rebuilt.
        recorders: how many programs record at a time.
    """

    def __init__(
        self,
        workspace: Workspace,
        receiver: Receiver,
        *,
        seed: int,
        signals: Sequence[signal.Signals],
        fail_share: float,
        inputs: str = "delta",
        recorders: int = 8,
    ) -> None:
        self._workspace = workspace
        self._receiver = receiver
        self._signals = signals
        self._fail_share = fail_share
        self._draws = random.Random(seed)
        self._env = environment(
            workspace, receiver.url, POSTHOG_LLMA_SESSION_TIMEOUT=str(SESSION_TIMEOUT), POSTHOG_LLMA_INPUT=inputs
        )
        self._projects = workspace.config / "projects"
        self._projects.mkdir(parents=True)
        self._writer = Writer(self._projects, seed=seed, requests=inputs == "full")
        self._programs = recorders
        self._recorders = Recorders(workspace, workspace.state / "outbox", seed=seed, cut_share=CUT_SHARE)
        self.outcome = Outcome(figures=self._writer.figures)

    async def play(self, rounds: int, seconds: float) -> None:
        """Play up to *rounds* rounds; begin none after *seconds*."""
        began = time.monotonic()
        # Logs that exist before the first start is complete are history; so that start is not disturbed.
        async with following(self._workspace, env=self._env) as daemon:
            await self._end(daemon, signal.SIGKILL)
        async with self._recorders.running(self._programs):
            await self._play(rounds, began + seconds)
        self.outcome.deaths = self._recorders.deaths
        await self._drain()
        self.outcome.seconds = time.monotonic() - began

    async def _play(self, rounds: int, latest: float) -> None:
        writing = asyncio.create_task(self._writer.write())
        try:
            for number in range(1, rounds + 1):
                if time.monotonic() > latest:
                    break
                if self._draws.random() < STARTS_STOPPED:
                    async with following(self._workspace, env=self._env, ready=False) as daemon:
                        await asyncio.sleep(self._draws.random() * LONGEST_START)
                        await self._end(daemon, self._draws.choice(self._signals))
                async with following(self._workspace, env=self._env, ready=False) as daemon:
                    if await self._receiver.first_delivery(daemon):
                        await self._wait_for_a_moment(daemon)
                    else:
                        self.outcome.errors.append(f"nothing was delivered in round {number} before its signal")
                    if writing.done():
                        await writing
                    await self._end(daemon, self._draws.choice(self._signals))
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
            # Right away: half-written messages must not seem complete.
            self._writer.finish()

    async def judge(self) -> None:
        """Compare the received events with the expected ones."""
        written = [self._workspace.config, *([self._recorders.kept] if self._programs else [])]
        preview = await verb(self._workspace, "preview", *written, env=self._env, limit=120)
        if preview.status != 0:
            self.outcome.errors.append(f"preview ended with status {preview.status}: {preview.stderr[-500:]}")
        journal = self._receiver.journal()
        if refused := refusals(journal):
            self.outcome.errors.append(f"{refused} requests were refused, such as {journal[-1]['path']}")
        self.outcome.account = balance(previewed(preview.stdout), arrivals(journal), self.outcome.ends)

    async def _wait_for_a_moment(self, daemon: Child) -> None:
        """Wait for a moment to send the signal, often one at which the daemon waits for the receiver's answer."""
        loop = asyncio.get_running_loop()
        until_latest = loop.time() + self._draws.random() * LONGEST_REST
        if self._draws.random() < 0.6:
            wanted = self._draws.randint(0, 3)
            until_latest = loop.time() + LONGEST_REST
            size = self._receiver.size
            while wanted and daemon.running and loop.time() < until_latest:
                if self._receiver.size > size:
                    wanted -= 1
                    size = self._receiver.size
                await asyncio.sleep(POLL_SECONDS)
            until_latest = loop.time() + self._draws.random() ** 2 * DELAY
        await asyncio.sleep(max(0.0, until_latest - loop.time()))

    async def _end(self, daemon: Child, number: signal.Signals) -> None:
        if not daemon.running:
            self.outcome.errors.append(f"the daemon ended by itself: {daemon.stderr[-500:]}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, number)
        status = await daemon.wait()
        # Before the daemon handles SIGTERM, that signal just kills it.
        if status in (-signal.SIGKILL, -signal.SIGTERM):
            self.outcome.ends.append("killed")
        elif status == 0:
            # The daemon waits for a receiver that fails, perhaps until its shutdown's deadline.
            self.outcome.ends.append("cut short" if self._fail_share else "clean")
        else:
            self.outcome.ends.append("cut short")
            self.outcome.errors.append(f"the daemon ended with status {status}: {daemon.stderr[-500:]}")
        self._look_at(daemon.stderr)
        await self._receiver.end_life()

    async def _drain(self) -> None:
        """Deliver everything that is left, then check that nothing is left."""
        for _ in range(2):
            size = self._receiver.size
            ended = await verb(self._workspace, "run", "--once", env=self._env, limit=DRAIN_LIMIT)
            if ended.status != 0:
                self.outcome.errors.append(f"`run --once` ended with status {ended.status}: {ended.stderr[-500:]}")
            self._look_at(ended.stderr)
            self.outcome.ends.append("clean")
            grown = self._receiver.size > size
            await self._receiver.end_life()
        if grown:
            self.outcome.errors.append("there was something to send after everything was sent")

    def _look_at(self, stderr: str) -> None:
        """Record the errors that the daemon logged."""
        errors = [line["event"] for line in log_lines(stderr) if line["level"] == "error"]
        if "Traceback" in stderr or "this is a bug" in stderr:
            errors.append("a traceback")
        self.outcome.errors += [f"the daemon logged {error}" for error in errors]


async def _run(options: argparse.Namespace, folder: Path) -> Outcome:
    workspace = Workspace(folder)
    async with receiving(workspace, seed=options.seed, fail_share=options.fail_share) as receiver:
        signals = {"kill": [signal.SIGKILL], "term": [signal.SIGTERM], "both": [signal.SIGKILL, signal.SIGTERM]}
        harness = Harness(
            workspace,
            receiver,
            seed=options.seed,
            signals=signals[options.signal],
            fail_share=options.fail_share,
            inputs=options.input,
            recorders=options.recorders,
        )
        await harness.play(options.rounds, options.seconds)
        await harness.judge()
    return harness.outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the harness, print its figures, and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Kill the daemon again and again, and check that no event is lost or counted twice."
    )
    parser.add_argument("--rounds", type=int, default=100, help="number of rounds [100]")
    parser.add_argument("--seed", type=int, default=1, help="seed of the logs and of the signals' times [1]")
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no round after this many seconds [600]")
    parser.add_argument("--signal", choices=["kill", "term", "both"], default="kill", help="which signal [kill]")
    parser.add_argument("--fail-share", type=float, default=0.0, help="share of requests that fail [0]")
    parser.add_argument("--input", choices=["delta", "full"], default="delta", help="POSTHOG_LLMA_INPUT [delta]")
    parser.add_argument("--recorders", type=int, default=8, help="number of programs that record at a time [8]")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    outcome = asyncio.run(_run(options, folder / "machine"))
    faults = outcome.faults
    sys.stdout.write("".join(f"{line}\n" for line in outcome.lines()))
    sys.stdout.write("".join(f"{'FAULT':<11}{fault}\n" for fault in faults))
    if faults:
        sys.stdout.write(f"everything is kept in {folder}\n")
    else:
        shutil.rmtree(folder)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
