"""The executable that a service manager is to run: found once, by its absolute path."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from daemon.config.table import APP_NAME

__all__ = ["ProgramError", "find_program", "other_owners"]

# Environments that are made for one run, and thrown away some day: uvx's and `pipx run`'s.
_PASSING = ("/uv/archive-v", "/uv/builds-v", "/pipx/.cache/", "/.cache/pipx/")


class ProgramError(Exception):
    """There is no executable that a service could run; the message says what to do, in one line."""


def find_program() -> Path:
    """Return the absolute path of this program's executable: that of its virtual environment, of pipx, of uv tool.

    Links are not followed: an upgrade may move what they point to.

    Raises:
        ProgramError: it is not installed, or where it will not stay.
    """
    for path in _candidates():
        if path.is_file() and os.access(path, os.X_OK):
            if any(part in str(path.parent.resolve()) + "/" for part in _PASSING):
                raise ProgramError(
                    f"{path} is made for one run and will be gone: install it with `uv tool install {APP_NAME}` "
                    f"or `pipx install {APP_NAME}`"
                )
            return path
    raise ProgramError(
        f"there is no executable {APP_NAME} beside {sys.executable}: install it with `pipx install {APP_NAME}` or "
        f"`uv tool install {APP_NAME}`, or name one with --program"
    )


def _candidates() -> Iterator[Path]:
    # The interpreter of a virtual environment is a link out of it; its own folder is what counts.
    yield Path(sys.executable).absolute().parent / APP_NAME
    yield Path(sysconfig.get_path("scripts")) / APP_NAME
    if sysconfig.get_preferred_scheme("user") in sysconfig.get_scheme_names():
        yield Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))) / APP_NAME
    called = Path(sys.argv[0])
    if called.name == APP_NAME and called.is_absolute():
        yield called


def other_owners() -> tuple[str, ...]:
    """Return the names of other installed packages that own the import name `daemon`, such as python-daemon.

    Of two in one environment the one installed last has overwritten a part of the other.
    """
    owners = importlib.metadata.packages_distributions().get("daemon", [])
    return tuple(sorted({owner for owner in owners if owner.lower().replace("_", "-") != APP_NAME}))
