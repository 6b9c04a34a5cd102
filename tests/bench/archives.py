"""Archives: `archive` with two workers over one, in turn, over the same archives of a corpus."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from statistics import median

from tests.bench.corpus import FOLDER, Spec, provide
from tests.bench.figures import Table
from tests.bench.machine import DAEMON, Ran, receiving, room, run

__all__ = ["archives"]

_WAYS = (("one worker", "1"), ("two workers", "2"))


def archives(spec: Spec, count: int, runs: int) -> Table:
    """Send a corpus, packed into *count* archives, with one worker and with two, in turn.

    Two workers are a local Dask cluster where `distributed` is installed, else a pool of processes. Their start counts.
    """
    table = Table("`archive` (medians)", ("workers", "MB", "MB/s", "CPU s of all", "to one worker"))
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="archives-") as name:
        folder = Path(name)
        size = _pack(provide(spec), folder, count)
        ran: dict[str, list[Ran]] = {way: [] for way, _ in _WAYS}
        for _ in range(runs):
            for way, jobs in _WAYS:
                with receiving() as receiver, room(receiver) as place:
                    command = [*DAEMON, "archive", str(folder), "--jobs", jobs]
                    ran[way].append(run(command, env=place.environment(place.folder / "config")))
    for way, _ in _WAYS:
        pairs = zip(ran["one worker"], ran[way], strict=True)
        table.rows.append(
            (
                way,
                round(size / 1e6),
                size / 1e6 / median(one.wall for one in ran[way]),
                median(one.cpu for one in ran[way]),
                median(one.wall / other.wall for one, other in pairs),
            )
        )
    return table


def _pack(corpus: Path, folder: Path, count: int) -> int:
    """Write the projects of a corpus into *count* archives; return the bytes of its logs."""
    projects = sorted((corpus / "projects").iterdir())
    for number in range(count):
        with tarfile.open(folder / f"{number:03d}.tar.gz", "w:gz", compresslevel=1) as archive:
            for project in projects[number::count]:
                archive.add(project, f"projects/{project.name}")
    return sum(path.stat().st_size for path in corpus.rglob("*.jsonl"))
