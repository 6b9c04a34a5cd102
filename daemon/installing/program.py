"""Finds the executable that a service manager should run."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from daemon.config.table import APP_NAME

__all__ = ["ProgramError", "find_program", "other_owners"]

# Environments of uvx and `pipx run`, which are made for one run and deleted some day.
_TEMPORARY = ("/uv/archive-v", "/uv/builds-v", "/pipx/.cache/", "/.cache/pipx/")


class ProgramError(Exception):
    """There is no executable that a service could run; the message says what to do in one line."""


def find_program() -> Path:
    """Return the absolute path of this program's executable, in its virtual environment or that of pipx or uv tool.

    Links are not followed, because an upgrade may move their targets.

    Raises:
        ProgramError: the program is not installed, or only in a temporary environment.
    """
    for path in _candidates():
        if path.is_file() and os.access(path, os.X_OK):
            if any(part in str(path.parent.resolve()) + "/" for part in _TEMPORARY):
                raise ProgramError(
                    f"{path} is in a temporary environment: install it with `uv tool install {APP_NAME}` "
                    f"or `pipx install {APP_NAME}`"
                )
            return path
    raise ProgramError(
        f"there is no executable {APP_NAME} next to {sys.executable}: install it with `pipx install {APP_NAME}` or "
        f"`uv tool install {APP_NAME}`, or pass one with --program"
    )


def _candidates() -> Iterator[Path]:
    # A virtual environment's interpreter is a link to one outside; the folder of the link is the one to search.
    yield Path(sys.executable).absolute().parent / APP_NAME
    yield Path(sysconfig.get_path("scripts")) / APP_NAME
    if sysconfig.get_preferred_scheme("user") in sysconfig.get_scheme_names():
        yield Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))) / APP_NAME
    called = Path(sys.argv[0])
    if called.name == APP_NAME and called.is_absolute():
        yield called


def other_owners() -> tuple[str, ...]:
    """Return the names of other installed packages that own the import name `daemon`, such as python-daemon.

    If two of them are in one environment, the one installed last has overwritten parts of the other.
    """
    # Not `packages_distributions`: it reads every file name of every package, which takes a third of a second.
    owners = [each.metadata["Name"] for each in importlib.metadata.distributions() if _owns(each, "daemon")]
    return tuple(sorted({owner for owner in owners if owner.lower().replace("_", "-") != APP_NAME}))


def _owns(package: importlib.metadata.Distribution, name: str) -> bool:
    """Whether an installed package says that it owns an import name, or has files there."""
    if declared := package.read_text("top_level.txt"):
        return name in declared.split()
    files = (package.read_text("RECORD") or "").splitlines()
    return any(file.startswith((f"{name}/", f"{name}.py,")) for file in files)
