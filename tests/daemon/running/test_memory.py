"""Freed memory is returned to the system, and used by other threads, if the C library can do so."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

_TAKE_AND_FREE = """
from pathlib import Path
from daemon.running.memory import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

# Small enough for the heap. The blocks kept in between stop the heap from shrinking by itself.
taken = [bytes(60_000) for _ in range(1000)]
kept = taken[::100]
del taken
before = resident()
give_back()
print(before - resident())
"""

_TAKE_IN_A_THREAD = """
import threading
from daemon.running.memory import share_heap

def heap():
    with open("/proc/self/maps") as maps:
        [line] = [line for line in maps if line.endswith("[heap]\\n")]
    first, last = (int(end, 16) for end in line.split()[0].split("-"))
    return last - first

share_heap()
taken, before = [], heap()
thread = threading.Thread(target=lambda: taken.extend(bytes(60_000) for _ in range(500)))
thread.start()
thread.join()
print(heap() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it, and gives it back")
def test_freed_memory_is_returned_to_the_system() -> None:
    assert said_by(_TAKE_AND_FREE) > 20_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives each thread a heap of its own")
def test_a_thread_takes_its_memory_from_the_heap_of_all() -> None:
    assert said_by(_TAKE_IN_A_THREAD) > 20_000_000


def said_by(program: str) -> int:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    return int(said)
