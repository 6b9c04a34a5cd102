"""Following: how long appended lines take to arrive as events, and what an idle daemon costs."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from llma_core.claude_code.session import SETTLE_SECONDS
from tests.bench.corpus import Spec, provide
from tests.bench.figures import Table, percentile
from tests.bench.machine import Follower, Receiver, receiving, room
from tests.support.logs import LogBuilder, text
from tests.support.processes import append, session_id

__all__ = ["idle", "live"]

_BETWEEN_APPENDS = 0.02
_ARRIVAL_LIMIT = 30.0
_CALM_SECONDS = 3.0
"""Seconds from being ready until the first sweeps and commits are over."""


def live(specs: dict[str, Spec], appends: int, settling: int) -> Table:
    """Append to logs beside those of a corpus, and time the arrival of the events."""
    columns = ("beside", "appends", "p50 ms", "p99 ms", "beyond the settle time: p50 ms", "p99 ms ")
    table = Table("From append to arrival", columns)
    for name, spec in specs.items():
        old = provide(spec)
        with receiving(marks=True) as receiver, room(receiver) as place:
            config = place.folder / "live"
            (config / "projects").mkdir(parents=True)
            with Follower(place.environment(old, config), place.folder / "errors"):
                ended = _arrivals(receiver, _answers_ended_by_prompts(config, appends))
                settled = _arrivals(receiver, _answers_that_settle(config, settling))
        late = [seconds - SETTLE_SECONDS for seconds in settled]
        figures = [percentile(times, share) * 1000 for times in (ended, late) for share in (0.5, 0.99)]
        table.rows.append((name, len(ended), *figures))
    return table


def _answers_ended_by_prompts(config: Path, appends: int) -> dict[int, float]:
    """Append answers, each ended by the next line; return when each was appended."""
    log = LogBuilder(session_id("live"), cwd="/srv/bench/live", start=datetime.now(UTC).isoformat())
    path = config / "projects" / log.path
    log.prompt("begin")
    times = {}
    for number in range(appends):
        log.answer(text(f"mark-{number}- " + "words and more words " * 40))
        log.prompt("go on")
        data, log.lines[:] = log.files()[log.path], []
        times[number] = time.monotonic()
        append(path, data)
        time.sleep(_BETWEEN_APPENDS)
    return times


def _answers_that_settle(config: Path, sessions: int) -> dict[int, float]:
    """Append one answer to each of several logs, and nothing after it; return when each was appended."""
    times = {}
    for number in range(sessions):
        log = LogBuilder(session_id(f"settle/{number}"), cwd="/srv/bench/live", start=datetime.now(UTC).isoformat())
        log.prompt("begin")
        log.answer(text(f"mark-{number}- words"))
        times[number] = time.monotonic()
        append(config / "projects" / log.path, log.files()[log.path])
        time.sleep(_BETWEEN_APPENDS)
    return times


def _arrivals(receiver: Receiver, appended: dict[int, float]) -> list[float]:
    """Wait until every appended answer has arrived; return the seconds that each took."""
    seen: dict[int, float] = {}
    deadline = time.monotonic() + _ARRIVAL_LIMIT
    while len(seen) < len(appended):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(appended) - len(seen)} of {len(appended)} events have not arrived")
        time.sleep(0.2)
        for number, moment in receiver.take()["marks"]:
            seen.setdefault(number, moment)
    return [seen[number] - moment for number, moment in appended.items()]


def idle(specs: dict[str, Spec], seconds: float) -> Table:
    """Let a daemon follow old sessions that stay at rest."""
    columns = ("old sessions", "first start to ready s", "later start s", "CPU idle %", "MB idle", "descriptors")
    table = Table(f"At rest (for {seconds:.0f} s)", columns)
    for name, spec in specs.items():
        folder = provide(spec)
        with receiving() as receiver, room(receiver) as place:
            env, errors = place.environment(folder), place.folder / "errors"
            with Follower(env, errors) as follower:
                first = follower.ready_after
            with Follower(env, errors) as follower:
                time.sleep(_CALM_SECONDS)
                before, began = follower.cpu, time.monotonic()
                time.sleep(seconds)
                share = (follower.cpu - before) / (time.monotonic() - began) * 100
                figures = (share, follower.memory / 1e6, follower.descriptors)
            table.rows.append((name, first, follower.ready_after, *figures))
    return table
