"""The baseline for every figure: reads the same logs and only decodes each line.

    python -m tests.bench.baseline json FOLDER     with the standard library, into dictionaries
    python -m tests.bench.baseline typed FOLDER    into records, as the daemon does

Prints one JSON object: bytes, lines, and the seconds it took, on the clock and of the processor, without the start of
the interpreter.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from llma_core.claude_code.records import decode
from tests.bench.corpus import lines_of

__all__: list[str] = []


def _typed(line: bytes) -> object:
    return decode(line[:-1])


_KINDS: dict[str, Callable[[bytes], object]] = {"json": json.loads, "typed": _typed}


def _main(kind: str, folder: str) -> None:
    read = _KINDS[kind]
    size = lines = 0
    wall, cpu = time.perf_counter(), time.process_time()
    for line in lines_of(Path(folder)):
        read(line)
        size += len(line)
        lines += 1
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"bytes": size, "lines": lines, "wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
