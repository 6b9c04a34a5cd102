"""Growth: how costs grow when the amount of the same work is four and sixteen times as large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.catchup import once
from tests.bench.corpus import Spec, provide
from tests.bench.figures import Table, exponent
from tests.bench.machine import room

__all__ = ["growth", "series"]

TIMES = (1, 4, 16)


def series(times: Sequence[int], unit: int) -> dict[str, list[Spec]]:
    """Return the quantities that grow, each with its corpora; *unit* is the size of the smallest, in bytes."""
    return {
        "data (16 sessions, each longer)": [Spec(sessions=16, projects=4, size=unit * time) for time in times],
        "sessions (of 20 KB)": [
            Spec(sessions=unit // 20_000 * time, projects=max(1, unit * time // 400_000), size=unit * time)
            for time in times
        ],
        "length of one session": [Spec(sessions=1, projects=1, size=unit * time) for time in times],
    }


def growth(times: Sequence[int], unit: int) -> Table:
    """Catch up with corpora of growing size, and fit the exponent with which the processor time grows."""
    columns = ("what grows", "MB", "CPU s", "peak MB", "power of CPU")
    table = Table(f"Growth at {', '.join(f'{time}x' for time in times)} (without the start)", columns)
    with room() as place:
        start = once(_nothing(place.folder))[0].cpu
    for name, specs in series(times, unit).items():
        sizes, costs, peaks = [], [], []
        for spec in specs:
            folder = provide(spec)
            ran, _, _ = once(folder)
            sizes.append(sum(path.stat().st_size for path in folder.rglob("*.jsonl")) / 1e6)
            costs.append(max(ran.cpu - start, 1e-3))
            peaks.append(ran.peak / 1e6)
        shown = [" / ".join(f"{value:.{digits}f}" for value in values) for values, digits in
                 ((sizes, 0), (costs, 2), (peaks, 0))]  # fmt: skip
        table.rows.append((name, *shown, exponent(sizes, costs)))
    return table


def _nothing(folder: Path) -> Path:
    """Make a configuration folder without a session."""
    config = folder / "empty"
    (config / "projects").mkdir(parents=True)
    return config
