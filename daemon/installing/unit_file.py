"""The unit file for systemd's user manager."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from daemon.installing import templates
from daemon.installing.plan import Plan

__all__ = ["UNIT", "environment_file", "render", "state_dir"]

UNIT = "posthog-llma-daemon.service"

_NAMESPACES = re.compile(r"^# >>> namespaces\n.*?^# <<< namespaces\n", re.DOTALL | re.MULTILINE)
_ENVIRONMENT_FILE = re.compile(r"^EnvironmentFile=-(.+)$", re.MULTILINE)
_WRITABLE = re.compile(r"^ReadWritePaths=(.+)$", re.MULTILINE)
_WITHOUT = "# This machine forbids user namespaces, so the limits that need them are left out.\n"


def render(plan: Plan, *, namespaces: bool = True) -> str:
    """Return the text of the unit file.

    Args:
        plan: what to run.
        namespaces: whether to include the limits that need user namespaces: what the service may see and change.

    Raises:
        ValueError: systemd would refuse the program's path.
    """
    if any(character in str(plan.program) for character in "\"'\\"):
        raise ValueError(f"{plan.program}: systemd runs no program whose path has a quote or a backslash; move it")
    text = templates.fill(
        templates.UNIT,
        {
            "exec_start": f"{_quoted(str(plan.program))} run",
            # The path extends to the end of the line: quotes would be part of it.
            "environment_file": _unspecified(str(plan.environment_file)),
            # "-": a missing file must not keep the service from starting.
            "writable": " ".join(map(_quoted, [str(plan.state_dir), *(f"-{path}" for path in plan.status_files)])),
        },
    )
    return text if namespaces else _NAMESPACES.sub(_WITHOUT, text)


def environment_file(text: str) -> Path | None:
    """Return the file of variables that the unit file *text* names; None if it names none."""
    found = _ENVIRONMENT_FILE.search(text)
    return Path(found[1].replace("%%", "%")) if found is not None else None


def state_dir(text: str) -> Path | None:
    """Return the state directory that the unit file *text* lets the service write to; None if it limits nothing."""
    found = _WRITABLE.search(text)
    return Path(shlex.split(found[1])[0].replace("%%", "%")) if found is not None else None


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_unspecified(escaped)}"'


def _unspecified(word: str) -> str:
    """Escape percent signs, which would start one of systemd's specifiers."""
    return word.replace("%", "%%")
