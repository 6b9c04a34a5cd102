"""Archives: `archive` with two workers over one, in turn, over the same archives of a corpus."""

from __future__ import annotations

import json
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.corpus import FOLDER, Spec, provide
from tests.bench.figures import Table
from tests.bench.machine import DAEMON, PYTHON, receiving, room, run

__all__ = ["archives"]

_WAYS = (1, 2)
_LITTLE = Spec(sessions=4, projects=4, size=40_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A run over some archives.

    Attributes:
        wall: seconds on the clock.
        command: processor seconds of the command, with the scheduler.
        workers: processor seconds of the workers, and of what starts them.
    """

    wall: float
    command: float
    workers: float

    @property
    def cpu(self) -> float:
        return self.command + self.workers


def archives(spec: Spec, count: int, runs: int) -> Table:
    """Send a corpus, packed into *count* archives, with one worker and with two, in turn.

    Two workers are a local Dask cluster where `distributed` is installed, else a pool of processes. A run over next to
    nothing tells what a start costs, which is taken off.
    """
    columns = (
        "workers",
        "MB",
        "wall s",
        "without the start",
        "CPU s: command",
        "CPU s: workers",
        "times as fast",
        "without the starts",
        "as the CPU s allow",
    )
    table = Table("`archive` with one worker and with two (medians)", columns)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="archives-") as name:
        folders = [Path(name, part) for part in ("all", "little")]
        for folder in folders:
            folder.mkdir()
        size = _pack(provide(spec), folders[0], count)
        _pack(provide(_LITTLE), folders[1], len(_WAYS))
        sent = [[[_send(folder, jobs) for folder in folders] for jobs in _WAYS] for _ in range(runs)]
    for place, jobs in enumerate(_WAYS):
        pairs = [(turn[0], turn[place]) for turn in sent]
        table.rows.append(
            (
                jobs,
                round(size / 1e6),
                median(every.wall for _, (every, _) in pairs),
                median(every.wall - little.wall for _, (every, little) in pairs),
                median(every.command for _, (every, _) in pairs),
                median(every.workers for _, (every, _) in pairs),
                median(alone[0].wall / every.wall for alone, (every, _) in pairs),
                median(
                    (alone[0].wall - alone[1].wall) / (every.wall - little.wall) for alone, (every, little) in pairs
                ),
                median(jobs * alone[0].cpu / every.cpu for alone, (every, _) in pairs),
            )
        )
    return table


def _send(folder: Path, jobs: int) -> _Sent:
    command = [*DAEMON, "archive", str(folder), "--jobs", str(jobs)]
    with tempfile.TemporaryFile() as output, receiving() as receiver, room(receiver) as place:
        ran = run(
            [*PYTHON, "tests.bench.family", *command], env=place.environment(place.folder / "config"), output=output
        )
        output.seek(0)
        said = json.loads(output.read())
    return _Sent(wall=ran.wall, command=said["command"], workers=said["left"])


def _pack(corpus: Path, folder: Path, count: int) -> int:
    """Write the projects of a corpus into *count* archives; return the bytes of its logs."""
    projects = sorted((corpus / "projects").iterdir())
    for number in range(count):
        with tarfile.open(folder / f"{number:03d}.tar.gz", "w:gz", compresslevel=1) as archive:
            for project in projects[number::count]:
                archive.add(project, f"projects/{project.name}")
    return sum(path.stat().st_size for path in corpus.rglob("*.jsonl"))
