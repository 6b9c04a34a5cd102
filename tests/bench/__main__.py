"""The benchmarks: `python -m tests.bench --help` lists the options; README.md beside this has the results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.archives import archives
from tests.bench.catchup import catch_up, paired, previewed, shared
from tests.bench.corpus import Spec
from tests.bench.figures import Table
from tests.bench.following import idle, live
from tests.bench.growth import TIMES, growth
from tests.bench.local import page, reports
from tests.bench.longest import longest
from tests.bench.others import others
from tests.bench.recording import recording
from tests.bench.small import commits, scrubbing, starts

_RECORDED = Path(__file__).with_name("recorded.json")
_GUARDED = "one file"
_TOLERATED = 0.5
"""The smoke run fails below this share of the recorded ratio: noise does not halve the ratio of two runs in turn."""
_SECOND_LOOKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The amounts to measure.

    Attributes:
        runs: how many runs the median is taken of.
        logs: the corpora to catch up with, by name.
        old: corpora of sessions that stay at rest, by name.
        appends: how many appended lines are timed.
        settling: how many of the answers end only with the settle time.
        rest: seconds at rest.
        times: the multiples of the smallest amount, for growth.
        unit: bytes of the smallest amount, for growth.
        commits: how many transactions of the store.
        text: the corpus that is searched for secrets.
        lines: for the longest lines: how many lines, and how many bytes each has.
        local: corpora that fill the local file, by name.
        page: the corpus that the page shows.
        changes: how many changes are timed until the page shows them.
        calls: how many calls of the recorder.
        fleet: the corpus that is sent as archives.
        archives: how many archives it is packed into.
    """

    runs: int
    logs: dict[str, Spec]
    old: dict[str, Spec]
    appends: int
    settling: int
    rest: float
    times: Sequence[int]
    unit: int
    commits: int
    text: Spec
    lines: Sequence[tuple[int, int]]
    local: dict[str, Spec]
    page: Spec
    changes: int
    calls: int
    fleet: Spec
    archives: int


_MIB = 1024 * 1024
_TWO_THOUSAND = Spec(sessions=1_700, projects=200, size=200_000_000, agents=300)
_TEN_THOUSAND = Spec(sessions=8_500, projects=500, size=200_000_000, agents=1_500)
FULL = Scale(
    runs=3,
    logs={
        _GUARDED: Spec(sessions=1, projects=1, size=200_000_000),
        "2,000 files": _TWO_THOUSAND,
        "10,000 files": _TEN_THOUSAND,
    },
    old={"2,000 files": _TWO_THOUSAND, "10,000 files": _TEN_THOUSAND},
    appends=200,
    settling=20,
    rest=30.0,
    times=TIMES,
    unit=4_000_000,
    commits=500,
    text=Spec(sessions=1, projects=1, size=24_000_000),
    lines=((12, 4 * _MIB), (1, 32 * _MIB)),
    local={
        "10,000 files": _TEN_THOUSAND,
        "10,000 files, 2 GB": Spec(sessions=8_500, projects=500, size=2_000_000_000, agents=1_500),
    },
    page=_TEN_THOUSAND,
    changes=50,
    calls=20_000,
    fleet=Spec(sessions=3_400, projects=400, size=400_000_000, agents=600),
    archives=80,
)
_FEW = Spec(sessions=170, projects=20, size=8_000_000, agents=30)
SMOKE = Scale(
    runs=1,
    logs={
        _GUARDED: Spec(sessions=1, projects=1, size=24_000_000),
        "200 files": _FEW,
    },
    old={"200 files": _FEW},
    appends=20,
    settling=3,
    rest=2.0,
    times=(1, 4),
    unit=500_000,
    commits=50,
    text=Spec(sessions=1, projects=1, size=2_000_000),
    lines=((2, _MIB),),
    local={"200 files": _FEW},
    page=_FEW,
    changes=5,
    calls=1_000,
    fleet=_FEW,
    archives=4,
)


def _main() -> int:
    suites = (
        "catchup",
        "workers",
        "preview",
        "live",
        "idle",
        "growth",
        "longest",
        "store",
        "scrub",
        "start",
        "local",
        "page",
        "record",
        "archive",
        "others",
    )
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the daemon.")
    parser.add_argument(
        "--smoke", action="store_true", help="measure little of everything; fail if catching up is far slower"
    )
    parser.add_argument("--only", action="append", choices=suites, help="measure only this; may be repeated")
    parser.add_argument("--runs", type=int, help="how many runs the median is taken of")
    parser.add_argument(
        "--record", action="store_true", help="record the ratio that later smoke runs are compared with"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    arguments = parser.parse_args()
    # Handled like an interrupt: running programs are ended, and the folders are removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    scale = SMOKE if arguments.smoke or arguments.record else FULL
    runs = arguments.runs or scale.runs
    ratios: dict[str, float] = {}

    def catchup() -> Table:
        table, found = catch_up(scale.logs, runs)
        ratios.update(found)
        return table

    measures: dict[str, Callable[[], Table]] = {
        "catchup": catchup,
        "workers": lambda: shared(scale.logs, runs),
        "preview": lambda: previewed(dict(list(scale.logs.items())[:1]), runs),
        "live": lambda: live(scale.old, scale.appends, scale.settling),
        "idle": lambda: idle(scale.old, scale.rest),
        "growth": lambda: growth(scale.times, scale.unit),
        "longest": lambda: longest(scale.lines),
        "store": lambda: commits(scale.commits),
        "scrub": lambda: scrubbing(scale.text),
        "start": lambda: starts(max(runs, 2)),
        "local": lambda: reports(scale.local, runs),
        "page": lambda: page(scale.page, scale.rest, scale.changes),
        "record": lambda: recording(scale.calls),
        "archive": lambda: archives(scale.fleet, scale.archives, runs),
        "others": lambda: others(dict(list(scale.logs.items())[1:2]), runs),
    }
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load before: {os.getloadavg()[0]:.2f}; medians of {runs}\n", flush=True)
    tables = {}
    # The programs of others are not here, unless somebody has named them.
    usual = [name for name in measures if name != "others"]
    began = time.monotonic()
    for name, measure in measures.items():
        if name in (arguments.only or usual):
            tables[name] = measure()
            print(tables[name].markdown(), flush=True)
    print(f"took {time.monotonic() - began:.0f} s", flush=True)
    if arguments.json is not None:
        values = {name: table.values() for name, table in tables.items()}
        arguments.json.write_text(json.dumps(values, indent=2) + "\n")
    if arguments.record:
        _RECORDED.write_text(json.dumps({"catch_up_to_json_loads": round(ratios[_GUARDED], 4)}, indent=2) + "\n")
    if not arguments.smoke or _GUARDED not in ratios:
        return 0
    return _judge(ratios[_GUARDED], lambda: paired(scale.logs[_GUARDED], 1).ratio)


def _judge(found: float, measure: Callable[[], float]) -> int:
    """Return the exit status: 1 if catching up is far slower than recorded.

    Args:
        found: the measured ratio.
        measure: measures it again: a run that something else slowed down is not slow three times.
    """
    recorded = json.loads(_RECORDED.read_text())["catch_up_to_json_loads"]
    for _ in range(_SECOND_LOOKS):
        if found >= recorded * _TOLERATED:
            return 0
        found = max(found, measure())
    if found >= recorded * _TOLERATED:
        return 0
    print(
        f"error: catching up runs at {found:.3f} of the speed of json.loads, recorded are {recorded:.3f}: "
        "find out what made it slower, or record the new ratio with `python -m tests.bench --record --only catchup`",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(_main())
