"""Memory goes back to the system, where it can."""

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

# Small enough for the heap; what is kept between them keeps the heap from shrinking by itself.
taken = [bytes(60_000) for _ in range(1000)]
kept = taken[::100]
del taken
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it, and gives it back")
def test_what_was_freed_goes_back() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", _TAKE_AND_FREE]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert int(said) > 20_000_000
