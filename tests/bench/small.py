"""Small, frequent work: starting, writing to the store, searching for secrets."""

from __future__ import annotations

import json
import random
import string
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from daemon.state.lock import prepare_state_dir
from daemon.state.rows import Commit, FileMark, Settled
from daemon.state.store import Store
from llma_core.redaction import is_clean, scrub
from llma_core.screen import automaton, scrub_text, surely_clean
from tests.bench.corpus import Spec, lines_of, provide
from tests.bench.figures import Table, percentile
from tests.bench.machine import DAEMON, room, run

__all__ = ["commits", "scrubbing", "starts"]

_Text = TypeVar("_Text", bytes, str)

_EVENTS = 100
"""Events in a full batch, which are settled in one transaction."""
_BETWEEN_SECRETS = 10_000
"""Bytes of text for each secret that is strewn in."""
_LONGEST_RESULT = 12_000
"""How many characters of a tool's result are sent."""
_MIB = 1024 * 1024


def starts(runs: int) -> Table:
    """Start the interpreter, import the command line, and print its help."""
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
    """Write the changes of an acknowledged batch into one store, again and again."""
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


def scrubbing(spec: Spec) -> Table:
    """Search for secrets in the text of a corpus, with and without secrets strewn in, as JSON and as text."""
    columns = (
        "text",
        "MB",
        "first look MB/s",
        "is_clean MB/s",
        "is_clean behind it MB/s",
        "scrub MB/s",
        "scrub behind it MB/s",
        "secrets found",
    )
    table = Table("Scrubbing (of one processor)", columns)
    lines = list(lines_of(provide(spec)))
    size = sum(map(len, lines)) / 1e6
    first_look = automaton()
    # The program itself builds it only when that pays off.
    scrub_text("a " * _MIB)
    kinds = {
        "as it is": lines,
        "a secret every 10 KB": _with_secrets(lines),
        "program code": _code(int(size * 1e6 / 2)),
    }
    for name, texts in kinds.items():
        size = sum(map(len, texts)) / 1e6
        found: list[str] = []
        strings = [text for line in texts for text in _strings(json.loads(line))]
        length = sum(map(len, strings)) / 1e6
        first = size / _spent(first_look, texts) if first_look is not None else "-"
        judged = size / _spent(is_clean, texts)
        judged_sooner = size / _spent(surely_clean, texts)
        scrubbed = length / _spent(partial(_scrub, found=found), strings)
        sooner = length / _spent(scrub_text, strings)
        table.rows.append((name, size, first, judged, judged_sooner, scrubbed, sooner, len(found)))
    return table


def _code(size: int) -> list[bytes]:
    """Return some modules of the standard library that mention keys and tokens, as they look in a tool's results."""
    texts, left = [], size
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py")):
        texts.append(json.dumps({"content": path.read_text(errors="replace")[:_LONGEST_RESULT]}).encode())
        left -= len(texts[-1])
        if left <= 0:
            break
    return texts


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _strings(member)


def _scrub(text: str, found: list[str]) -> None:
    scrub(text, found)


def _with_secrets(lines: Sequence[bytes]) -> list[bytes]:
    draws = random.Random("secrets")
    due, strewn = 0, []
    for line in lines:
        due += len(line)
        while due >= _BETWEEN_SECRETS:
            due -= _BETWEEN_SECRETS
            secret = "".join(draws.choices(string.ascii_letters + string.digits, k=36))
            # After the first blank of the line's text, if it has one.
            line = line.replace(b" ", f" ghp_{secret} ".encode(), 1)  # noqa: PLW2901 - it grows by each
        strewn.append(line)
    return strewn


def _spent(look: Callable[[_Text], object], texts: Sequence[_Text]) -> float:
    """Return the processor seconds that searching all of *texts* takes."""
    began = time.process_time()
    for text in texts:
        look(text)
    return time.process_time() - began
