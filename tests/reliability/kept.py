"""Keeps the files of programs that record. It imports little, because such a program is started again and again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["keep"]


def keep(outbox: Path, kept: Path, pid: int) -> None:
    """Give the files of a process a second name in another folder."""
    for path in outbox.glob(f"{pid}-*.jsonl"):
        if not (kept / path.name).exists():
            os.link(path, kept / path.name)
