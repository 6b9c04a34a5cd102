"""Reads the daemon's condition from a state directory, for `status` and `doctor`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from daemon.running.condition import Condition, condition_of
from daemon.running.problem import Problem
from daemon.state.store import StoreError, read_store

__all__ = ["UnreadableStateError", "read_condition"]


class UnreadableStateError(Exception):
    """The state directory cannot be read.

    Attributes:
        problem: what is wrong, and what to do.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.problem = Problem(level="fail", message=message, hint=hint)


def read_condition(
    folder: Path, config_dirs: Sequence[Path], now: float, *, outboxes: Sequence[Path] = ()
) -> Condition:
    """Return the condition of the daemon on the state directory *folder*.

    Args:
        folder: the state directory, which may not exist yet.
        config_dirs: Claude Code's folders.
        now: seconds since the epoch.
        outboxes: folders in which programs record their own calls.

    Raises:
        UnreadableStateError: the folder or its store cannot be read.
    """
    try:
        with read_store(folder) as store:
            return condition_of(store, folder, config_dirs, now, outboxes=outboxes)
    except StoreError as error:
        what, _, advice = str(error).rpartition("; ")
        raise UnreadableStateError(what or advice, advice if what else "check the folder") from None
    except (sqlite3.Error, OSError) as error:
        raise UnreadableStateError(
            f"cannot read the state in {folder}: {error}", "check the disk and the folder"
        ) from None
