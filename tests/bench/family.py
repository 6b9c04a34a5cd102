"""A program and the processes that it leaves to others: what each of both costs.

    python -m tests.bench.family COMMAND...     prints the processor's seconds as JSON, and exits as the command does

`command` are those of the program and of the processes that it has waited for. `left` are those of the others that it
has started, as by a fork server: they become children of this one when the program ends. Only Linux tells them.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from resource import struct_rusage

__all__: list[str] = []

_PR_SET_CHILD_SUBREAPER = 36


def _seconds(used: struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _main() -> int:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    left = 0.0
    while True:
        try:
            left += _seconds(os.wait4(-1, 0)[2])
        except ChildProcessError:
            break
    print(json.dumps({"command": _seconds(used), "left": left}))
    return child.returncode


if __name__ == "__main__":
    raise SystemExit(_main())
