"""Catching up: `run --once` reads and delivers whole corpora, compared with only decoding the same lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.corpus import Spec, provide
from tests.bench.figures import Table
from tests.bench.machine import DAEMON, ROOT, Ran, receiving, room, run

__all__ = ["Paired", "baseline", "catch_up", "once", "paired", "previewed", "shared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The cost of only decoding."""

    bytes: int
    lines: int
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Runs over one corpus, in turn with the two baselines that only decode.

    Attributes:
        bytes: bytes of the corpus.
        lines: lines of the corpus.
        events: events delivered.
        sent: bytes sent, compressed.
        runs: the cost of each run of the daemon.
        plain: processor seconds of each run of `json.loads`.
        typed: processor seconds of each run of the typed decoding.
    """

    bytes: int
    lines: int
    events: int
    sent: int
    runs: Sequence[Ran]
    plain: Sequence[float]
    typed: Sequence[float]

    @property
    def ratio(self) -> float:
        """The daemon's MB per processor second, as a ratio to those of `json.loads` in the same run."""
        return median(plain / ran.cpu for plain, ran in zip(self.plain, self.runs, strict=True))

    @property
    def typed_ratio(self) -> float:
        """The daemon's MB per processor second, as a ratio to those of the typed decoding in the same run."""
        return median(typed / ran.cpu for typed, ran in zip(self.typed, self.runs, strict=True))


def baseline(kind: str, folder: Path) -> Decoded:
    """Decode every line of a corpus in another process."""
    command = [sys.executable, "-m", "tests.bench.baseline", kind, str(folder)]
    said = json.loads(subprocess.check_output(command, cwd=ROOT))
    return Decoded(bytes=said["bytes"], lines=said["lines"], cpu=said["cpu"])


def once(folder: Path, jobs: int | None = 1) -> tuple[Ran, int, int]:
    """Catch up with a corpus; return the cost, the number of events, and the bytes sent.

    Args:
        folder: the corpus.
        jobs: how many processes read it; None: as many as are worth it. Their cost is counted, too, but *peak* is that
            of the largest process.
    """
    chosen = [] if jobs is None else ["--jobs", str(jobs)]
    with receiving() as receiver, room(receiver) as place:
        ran = run([*DAEMON, "run", "--once", *chosen], env=place.environment(folder))
        return ran, place.sent(), receiver.take()["bytes"]


def paired(spec: Spec, runs: int) -> Paired:
    """Catch up with a corpus *runs* times, each time after the two baselines."""
    folder = provide(spec)
    plain, typed, ran = [], [], []
    events = sent = 0
    for _ in range(runs):
        plain.append(decoded := baseline("json", folder))
        typed.append(baseline("typed", folder))
        taken, events, sent = once(folder)
        ran.append(taken)
    return Paired(
        bytes=decoded.bytes,
        lines=decoded.lines,
        events=events,
        sent=sent,
        runs=ran,
        plain=[one.cpu for one in plain],
        typed=[one.cpu for one in typed],
    )


def catch_up(specs: dict[str, Spec], runs: int) -> tuple[Table, dict[str, float]]:
    """Catch up with several corpora; return the figures, and each corpus's ratio to `json.loads`."""
    columns = (
        "logs",
        "MB",
        "events",
        "MB/s",
        "MB per CPU s",
        "events/s",
        "peak MB",
        "to json.loads",
        "to typed decode",
    )
    table = Table("Catching up (`run --once`, medians)", columns)
    ratios = {}
    for name, spec in specs.items():
        found = paired(spec, runs)
        size = found.bytes / 1e6
        wall, cpu = median(ran.wall for ran in found.runs), median(ran.cpu for ran in found.runs)
        peak = median(ran.peak for ran in found.runs) / 1e6
        speeds = (round(size), found.events, size / wall, size / cpu, found.events / wall, peak)
        table.rows.append((name, *speeds, found.ratio, found.typed_ratio))
        for kind, costs in (("json.loads", found.plain), ("typed decode", found.typed)):
            row = (f"{name}: {kind} alone", round(size), None, None, size / median(costs), None, None, None, None)
            table.rows.append(row)
        ratios[name] = found.ratio
    return table, ratios


def shared(specs: dict[str, Spec], runs: int) -> Table:
    """Catch up with several corpora in turn in one process and with two workers."""
    columns = (
        "logs",
        "MB",
        "wall s, one process",
        "with workers",
        "times as fast",
        "CPU s, one process",
        "with workers",
    )
    table = Table("Catching up in one process and with two workers (medians)", columns)
    for name, spec in specs.items():
        folder = provide(spec)
        size = sum(path.stat().st_size for path in folder.rglob("*.jsonl")) / 1e6
        pairs = [(once(folder)[0], once(folder, 2)[0]) for _ in range(runs)]
        alone, together = ([pair[place] for pair in pairs] for place in (0, 1))
        walls = [median(ran.wall for ran in side) for side in (alone, together)]
        faster = median(one.wall / other.wall for one, other in pairs)
        table.rows.append(
            (name, round(size), *walls, faster, *(median(ran.cpu for ran in side) for side in (alone, together)))
        )
    return table


def previewed(specs: dict[str, Spec], runs: int) -> Table:
    """Run `preview` on several corpora, and discard its output."""
    table = Table("`preview` (medians)", ("logs", "MB", "MB/s", "MB per CPU s", "peak MB"))
    for name, spec in specs.items():
        folder = provide(spec)
        size = sum(path.stat().st_size for path in folder.rglob("*.jsonl")) / 1e6
        with room() as place:
            ran = [run([*DAEMON, "preview", str(folder)], env=place.environment(folder)) for _ in range(runs)]
        wall, cpu = median(one.wall for one in ran), median(one.cpu for one in ran)
        table.rows.append((name, round(size), size / wall, size / cpu, median(one.peak for one in ran) / 1e6))
    return table
