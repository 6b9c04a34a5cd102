from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from tests.support.processes import ROOT
from tests.support.waiting import PATIENCE

_PARENT = """
import subprocess, sys
from tests.support.guard import guard
watched, released = (
    subprocess.Popen(["sleep", "600"], pass_fds=[int(number)], start_new_session=True) for number in sys.argv[1:]
)
guard().watch(watched.pid)
guard().watch(released.pid)
guard().release(released.pid)
print(released.pid, flush=True)
sys.stdin.read()
"""


def test_what_it_watches_ends_when_the_process_that_started_it_is_killed() -> None:
    (watched, held), (released, kept) = os.pipe(), os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(held), str(kept)],
        cwd=ROOT,
        pass_fds=[held, kept],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        os.close(held)
        os.close(kept)
        assert parent.stdout is not None
        other = int(parent.stdout.readline())
        try:
            parent.kill()
            # A pipe ends when nobody has its other end open.
            assert select.select([watched], [], [], PATIENCE)[0], "it lives on"
            assert os.read(watched, 1) == b""
            assert not select.select([released], [], [], 0)[0], "nobody ends what was released"
        finally:
            os.kill(other, signal.SIGKILL)
    os.close(watched)
    os.close(released)
