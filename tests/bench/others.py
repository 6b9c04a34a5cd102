"""Other programs that read the same logs, in turn with ours, in one run.

agentsview (from PyPI) fills a database of its own and an index for its search. ccusage (from npm) counts tokens and
keeps nothing. Neither is installed here: `LLMA_AGENTSVIEW_BIN` and `LLMA_CCUSAGE_BIN` name them, and one that is not
named is left out. They run in a namespace without a network (`unshare`, Linux), since both may ask the web for prices.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.bench.catchup import baseline, once
from tests.bench.corpus import Spec, provide
from tests.bench.figures import Table
from tests.bench.machine import DAEMON, Ran, room, run

__all__ = ["others"]

AGENTSVIEW = "LLMA_AGENTSVIEW_BIN"
CCUSAGE = "LLMA_CCUSAGE_BIN"

_ALONE = ("unshare", "--map-root-user", "--net")


def _foreign(command: tuple[str, ...], folder: Path, **variables: str) -> Ran:
    """Run a program of somebody else over the logs in *folder*, without a network, in a home of its own."""
    with room() as place:
        env = {"PATH": os.environ["PATH"], "HOME": str(place.folder), "CLAUDE_CONFIG_DIR": str(folder)}
        return run([*_ALONE, *command], env=env | variables)


def _usage(folder: Path) -> Ran:
    with room() as place:
        return run([*DAEMON, "usage", "--since", "2000-01-01", "--json"], env=place.environment(folder))


def _programs() -> dict[str, Callable[[Path], Ran]]:
    """Return what to run over a corpus, by name: ours, and those that are named."""
    found: dict[str, Callable[[Path], Ran]] = {
        "`run --once --jobs 1`": lambda folder: once(folder)[0],
        "`run --once`": lambda folder: once(folder, None)[0],
        "`usage --json`, its first": _usage,
    }
    if (agentsview := os.environ.get(AGENTSVIEW)) is not None:
        # Without this it leaves a server behind, in whose process the work is done.
        found["agentsview `sync`"] = lambda folder: _foreign((agentsview, "sync"), folder, AGENTSVIEW_NO_DAEMON="1")
    if (ccusage := os.environ.get(CCUSAGE)) is not None:
        found["ccusage `daily`"] = lambda folder: _foreign((ccusage, "daily", "--offline", "--json"), folder)
    return found


def others(specs: dict[str, Spec], runs: int) -> Table:
    """Run each program over each corpus, in turn.

    Raises:
        SystemExit: no other program is named, or this system cannot keep one from the network.
    """
    programs = _programs()
    if not {AGENTSVIEW, CCUSAGE} & os.environ.keys():
        raise SystemExit(f"error: name a program to compare with: set {AGENTSVIEW} or {CCUSAGE} to its path")
    if shutil.which(_ALONE[0]) is None:
        raise SystemExit(f"error: other programs are run without a network, and {_ALONE[0]} is not there: use Linux")
    columns = ("logs and program", "MB", "wall s", "CPU s", "peak MB", "CPU to json.loads", "wall to `run --once`")
    table = Table("Beside other programs (medians)", columns)
    for name, spec in specs.items():
        folder = provide(spec)
        plain: list[float] = []
        ran: dict[str, list[Ran]] = {program: [] for program in programs}
        for _ in range(runs):
            decoded = baseline("json", folder)
            plain.append(decoded.cpu)
            for program, start in programs.items():
                ran[program].append(start(folder))
        own = ran["`run --once`"]
        for program, costs in ran.items():
            table.rows.append(
                (
                    f"{name}: {program}",
                    round(decoded.bytes / 1e6),
                    median(cost.wall for cost in costs),
                    median(cost.cpu for cost in costs),
                    median(cost.peak for cost in costs) / 1e6,
                    median(cost.cpu / alone for cost, alone in zip(costs, plain, strict=True)),
                    median(cost.wall / ours.wall for cost, ours in zip(costs, own, strict=True)),
                )
            )
    return table
