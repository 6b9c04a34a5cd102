"""The longest lines: how much memory the daemon needs for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.catchup import once
from tests.bench.figures import Table
from tests.bench.machine import ROOT, room
from tests.support.logs import LogBuilder, text, tool_use

__all__ = ["longest"]

_LETTER = "\N{RED APPLE}"
"""One such character makes the interpreter store the whole text with four bytes for each character."""


def longest(lines: Sequence[tuple[int, int]]) -> Table:
    """Catch up with sessions of a few very long lines.

    Args:
        lines: for each session, how many lines, and how many bytes each has.
    """
    table = Table("The longest lines", ("lines", "MB", "CPU s", "peak MB", "beyond 120 MB, in lines"))
    for count, size in lines:
        for kind in ("answers", "tool results"):
            for letter in ("", _LETTER):
                with room() as place:
                    config = place.folder / "config"
                    # A process starts with the peak memory of the process that started it.
                    command = [sys.executable, "-m", __name__, str(config / "projects"), kind, letter]
                    subprocess.check_call([*command, str(count), str(size)], cwd=ROOT)
                    ran, _, _ = once(config)
                said = f"{kind}: {count} of {size / 1e6:.1f} MB{', with a letter beyond ASCII' if letter else ''}"
                beyond = max(0.0, (ran.peak - 120e6) / size)
                table.rows.append((said, count * size / 1e6, ran.cpu, ran.peak / 1e6, beyond))
    return table


def _write(projects: Path, kind: str, letter: str, count: int, size: int) -> None:
    half = ("leaf and root " * (size // 14))[: size // 2]
    log = LogBuilder()
    for number in range(count):
        log.prompt(f"turn {number}")
        if kind == "answers":
            log.answer(text(half + letter + half))
        else:
            log.answer(tool_use("Bash", {"command": "ls"}, id=f"toolu_{number}"))
            log.tool_result(f"toolu_{number}", half + letter + half)
            log.answer(text("Done."))
    log.write(projects)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
