"""The local file: what it costs to fill and to ask, and what the page made of it costs.

The page's first paint and live updates are measured in a real Chromium (`LLMA_CHROMIUM`, or one on the PATH); without
one, these figures are missing.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from playwright.async_api import async_playwright

from daemon.state.layout import events_path
from daemon.usage.report import Index, Range
from tests.bench.corpus import Spec, provide
from tests.bench.figures import Table, percentile
from tests.bench.machine import DAEMON, ROOT, Ran, Room, cpu_seconds, memory, receiving, room, run
from tests.support.browser import CHROMIUM, FLAGS
from tests.support.logs import LogBuilder, text
from tests.support.processes import append, session_id

__all__ = ["page", "reports"]

_TOUCHED = 20
"""Sessions that were written to lately."""
_CALM_SECONDS = 5.0
"""Seconds after which the first sweeps and commits of the page's program are over."""
_EVER = "2000-01-01"
_PAINTS = 5
_OBSERVE = """
() => new Promise((resolve) => {
  const seen = performance.getEntriesByName("first-contentful-paint")[0];
  if (seen) resolve(seen.startTime);
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (entry.name === "first-contentful-paint") resolve(entry.startTime);
  }).observe({ type: "paint", buffered: true });
})
"""

_AWAIT = """
() => {
  const place = document.querySelector("#steps"), before = place.getAttribute("aria-label");
  window.changed = new Promise((resolve) => {
    const look = () => place.getAttribute("aria-label") !== before ? resolve(Date.now()) : requestAnimationFrame(look);
    look();
  });
}
"""
"""Remembers when the number of steps that the page shows has changed."""


def _usage(place: Room, folder: Path, *options: str) -> Ran:
    return run([*DAEMON, "usage", *options], env=place.environment(folder))


def _touch(folder: Path) -> None:
    """Let some sessions have been written to lately, as on a machine in use."""
    for path in sorted(folder.glob("projects/*/*.jsonl"))[:_TOUCHED]:
        os.utime(path)


def _move_to_now(path: Path) -> None:
    """Let the newest call have ended now, and all others as long before it as they did."""
    with closing(sqlite3.connect(path)) as connection, connection:
        [[last]] = connection.execute("SELECT max(at) FROM calls")
        connection.execute("UPDATE calls SET at = at + ? WHERE at > 0", (time.time_ns() // 1_000_000 - last,))


def reports(specs: dict[str, Spec], runs: int) -> Table:
    """Fill the local file for the first time, and ask it.

    Reading alone is what a program takes more the first time than the next, when there is nothing new: not its start,
    and not what it shows.
    """
    columns = (
        "logs",
        "MB",
        "calls",
        "first catch-up MB/s",
        "MB per CPU s",
        "peak MB",
        "to `run --once`",
        "reading alone",
        "by the clock",
        "`usage --since 1d` s",
        "its CPU s",
        "slowest report ms",
    )
    table = Table("The local file", columns)
    for name, spec in specs.items():
        folder = provide(spec)
        size = sum(path.stat().st_size for path in folder.rglob("*.jsonl")) / 1e6
        # In as many processes as the catch-up uses, which nobody tells how many.
        with receiving() as receiver, room(receiver) as place:
            sending, sent = (run([*DAEMON, "run", "--once"], env=place.environment(folder)) for _ in range(2))
        with room() as place:
            first, shown = (_usage(place, folder, "--since", _EVER) for _ in range(2))
            _touch(folder)
            again = [_usage(place, folder, "--since", "1d") for _ in range(runs)]
            path = events_path(place.state)
            _move_to_now(path)
            calls, slowest = _ask(path, runs)
        table.rows.append(
            (
                name,
                round(size),
                calls,
                size / first.wall,
                size / first.cpu,
                first.peak / 1e6,
                sending.cpu / first.cpu,
                (sending.cpu - sent.cpu) / (first.cpu - shown.cpu),
                (sending.wall - sent.wall) / (first.wall - shown.wall),
                median(ran.wall for ran in again),
                median(ran.cpu for ran in again),
                slowest * 1000,
            )
        )
    return table


def _ask(path: Path, runs: int) -> tuple[int, float]:
    """Return the number of calls, and the median seconds of the slowest report over all of them."""
    everything = Range()
    slowest = 0.0
    questions: list[Callable[[Index], object]] = [
        lambda index: index.usage("day", everything),
        lambda index: index.usage("session", everything),
        lambda index: index.usage("model", everything),
        lambda index: index.tools(everything),
        lambda index: index.stack("model", everything),
        lambda index: index.total(everything),
    ]
    for question in questions:
        taken = []
        for _ in range(runs):
            began = time.perf_counter()
            with Index(path) as index:
                question(index)
            taken.append(time.perf_counter() - began)
        slowest = max(slowest, median(taken))
    with Index(path) as index:
        [[calls]] = index.query("SELECT count(*) FROM calls")
    return calls, slowest


# ---------------------------------------------------------------------- the page


@dataclass(frozen=True, slots=True)
class _Served:
    pid: int
    address: str


@contextmanager
def _serving(env: dict[str, str]) -> Iterator[_Served]:
    with subprocess.Popen(
        [*DAEMON, "view", "--no-open"], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        try:
            assert child.stdout is not None
            found = re.search(r"http://\S+", child.stdout.readline())
            if found is None:
                raise RuntimeError("the page's program said no address")
            yield _Served(child.pid, found[0])
        finally:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(20)
            child.kill()


def page(spec: Spec, seconds: float, appends: int) -> Table:
    """Serve the page over a corpus that is caught up with: at rest, and when something happens."""
    columns = ("old sessions", "CPU idle %", "MB idle", "first paint ms", "from final to the page ms: p50", "p99")
    table = Table(f"The page (at rest for {seconds:.0f} s, with one page open)", columns)
    old = provide(spec)
    with room() as place:
        config = place.folder / "live"
        (config / "projects").mkdir(parents=True)
        _usage(place, old, "--since", _EVER)
        _move_to_now(events_path(place.state))
        with _serving(place.environment(old, config)) as served:
            figures = asyncio.run(_look(served, config, seconds, appends))
    table.rows.append((f"{spec.sessions + spec.agents:,} files", *figures))
    return table


async def _look(served: _Served, config: Path, seconds: float, appends: int) -> tuple[float | None, ...]:
    if CHROMIUM is None:
        share, used = await _rest(served, seconds)
        return share, used, None, None, None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        shown = await (await browser.new_context()).new_page()
        await shown.goto(served.address)
        share, used = await _rest(served, seconds)
        base = served.address.partition("/?")[0]
        paints = []
        for _ in range(_PAINTS):
            await shown.goto(f"{base}/")
            paints.append(await shown.evaluate(_OBSERVE))
        session = session_id("page")
        log = LogBuilder(session, cwd="/srv/bench/live", start=datetime.now(UTC).isoformat())
        log.prompt("begin")
        log.answer(text("words"))
        log.prompt("go on")
        append(config / "projects" / log.path, log.files()[log.path])
        address = f"{base}/sessions/{session}"
        while (answer := await shown.goto(address)) and not answer.ok:  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.1)
        late = []
        for _ in range(appends):
            log.lines.clear()
            log.answer(text("words"))
            log.prompt("go on")
            await shown.evaluate(_AWAIT)
            appended = time.time() * 1000
            append(config / "projects" / log.path, log.files()[log.path])
            late.append(await shown.evaluate("() => window.changed") - appended)
        await browser.close()
    return share, used, median(paints), percentile(late, 0.5), percentile(late, 0.99)


async def _rest(served: _Served, seconds: float) -> tuple[float, float]:
    """Return the share of a processor that the program uses, in percent, and its memory in MB."""
    await asyncio.sleep(_CALM_SECONDS)
    before, began = cpu_seconds(served.pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_seconds(served.pid) - before) / (time.monotonic() - began) * 100, memory(served.pid) / 1e6
