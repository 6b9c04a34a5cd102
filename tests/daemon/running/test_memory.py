"""Freed memory is returned to the system if the C library can do so."""

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it, and gives it back")
def test_freed_memory_is_returned_to_the_system() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", _TAKE_AND_FREE]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert int(said) > 20_000_000
