from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from daemon.executing.descendants import Descendants

VARIABLE = ("LLMA_TEST_MARK", "of this test")


@pytest.fixture
def grandchild() -> Iterator[tuple[int, int]]:
    """A process and its child; both wait for the end of their input."""
    script = "import subprocess, sys; c = subprocess.Popen(['cat']); print(c.pid, flush=True); c.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


def test_the_command_and_its_descendants_count(grandchild: tuple[int, int]) -> None:
    pid, below = grandchild
    descendants = Descendants(pid)
    assert descendants.has(pid) is True
    assert descendants.has(below) is True
    assert descendants.has(os.getpid()) is False
    assert Descendants(below).has(pid) is False
    assert Descendants(os.getpid()).has(below) is True


def test_nothing_is_known_about_a_process_that_does_not_exist() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert Descendants(os.getpid()).has(gone.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_orphaned_process_is_known_by_its_environment() -> None:
    # The shell ends at once, so its child gets another parent.
    name, value = VARIABLE
    with subprocess.Popen(
        ["sh", "-c", "sleep 20 >&- & echo $!"], stdout=subprocess.PIPE, env={**os.environ, name: value}, text=True
    ) as shell:
        assert shell.stdout is not None
        orphan = int(shell.stdout.read())
    try:
        assert Descendants(shell.pid, VARIABLE).has(orphan) is True
        assert Descendants(shell.pid, (name, "of another")).has(orphan) is not True
    finally:
        os.kill(orphan, 9)
