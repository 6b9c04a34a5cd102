"""Small things that are done often: starting, and writing to the store."""

from __future__ import annotations

import sys
import time
from statistics import median

from daemon.lock import prepare_state_dir
from daemon.store import Commit, FileMark, Settled, Store
from tests.bench.figures import Table, percentile
from tests.bench.machine import DAEMON, room, run

__all__ = ["commits", "starts"]

_EVENTS = 100
"""Events of a full batch, settled in one transaction."""


def starts(runs: int) -> Table:
    """Start the interpreter, import the command line, and ask it for help."""
    table = Table("Starting (medians)", ("command", "ms"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import daemon.cli'": [sys.executable, "-c", "import daemon.cli"],
        "posthog-llma-daemon --help": [*DAEMON, "--help"],
        "posthog-llma-daemon run --help": [*DAEMON, "run", "--help"],
    }
    with room() as place:
        env = place.environment(place.folder)
        for name, command in commands.items():
            table.rows.append((name, median(run(command, env=env).wall for _ in range(runs)) * 1000))
    return table


def commits(count: int) -> Table:
    """Write what an acknowledged batch changes, again and again into one store."""
    table = Table("One transaction of the store", ("events settled", "commits", "p50 ms", "p99 ms"))
    for events in (1, _EVENTS):
        with room() as place:
            prepare_state_dir(place.state)
            store = Store(place.state)
            try:
                store.begin(0, [])
                times = [_commit(store, number, events) for number in range(count)]
            finally:
                store.close()
        table.rows.append((str(events), count, percentile(times, 0.5) * 1000, percentile(times, 0.99) * 1000))
    return table


def _commit(store: Store, number: int, events: int) -> float:
    settled = [Settled(identity=f"gen|msg_{number:08d}_{event:04d}", unit="project/session") for event in range(events)]
    mark = FileMark(
        device=1,
        inode=number % 50,
        path=f"/srv/bench/{number % 50}.jsonl",
        unit="project/session",
        offset=number * 1000,
        head=b"head",
        head_length=1024,
        tail=b"tail",
    )
    began = time.perf_counter()
    store.commit(Commit(files=[mark], settled=settled, counters={"sent": events}))
    return time.perf_counter() - began
