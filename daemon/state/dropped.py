"""What programs could not record: each writes how many calls it has dropped, and why, beside its files in the outbox.

<outbox>/<pid>-<started>.dropped.json    {"too_full": 3, "disk": 1, "at": …}
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from daemon.system import disk
from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = ["DROPPED", "dropped", "why"]

DROPPED = ".dropped.json"
"""How the names of these files end."""

_REASONS = {
    "too_full": "the outbox was full",
    "disk": "the disk refused them",
    "encode": "they could not be written as JSON",
}


def dropped(folders: Iterable[Path]) -> Counter[str]:
    """Return how many calls the programs that use *folders* have dropped, by the reason as they give it."""
    found: Counter[str] = Counter()
    for folder in folders:
        for name in _names(folder):
            if not name.endswith(DROPPED):
                continue
            with suppress(UnreadableFileError, ValueError, msgspec.MsgspecError, RecursionError):
                said = msgspec.json.decode(read_regular(folder / name) or b"{}", type=dict[str, object])
                for reason, count in said.items():
                    if reason in _REASONS and isinstance(count, int) and count > 0:
                        found[reason] += count
    return found


def why(counts: Mapping[str, int]) -> str:
    """Return *counts* in words; "" if nothing was dropped."""
    return ", ".join(f"{count:,} because {_REASONS[reason]}" for reason, count in sorted(counts.items()))


def _names(folder: Path) -> list[str]:
    try:
        return disk.call(str(folder), lambda: sorted(os.listdir(folder)))  # noqa: PTH208 - names are enough
    except OSError:
        return []
