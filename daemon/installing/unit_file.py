"""The unit file for systemd's user manager."""

from __future__ import annotations

import re

from daemon.installing import templates
from daemon.installing.plan import Plan

__all__ = ["UNIT", "render"]

UNIT = "posthog-llma-daemon.service"

_NAMESPACES = re.compile(r"^# >>> namespaces\n.*?^# <<< namespaces\n", re.DOTALL | re.MULTILINE)
_WITHOUT = "# This machine forbids user namespaces, so what limits the view of files is left out.\n"


def render(plan: Plan, *, namespaces: bool = True) -> str:
    """Return the text of the unit file.

    Args:
        plan: what to run.
        namespaces: whether to limit what the service sees and changes; that needs user namespaces.

    Raises:
        ValueError: systemd would refuse the program's path.
    """
    if any(character in str(plan.program) for character in "\"'\\"):
        raise ValueError(f"{plan.program}: systemd runs no program whose path holds a quote or a backslash; move it")
    text = templates.fill(
        templates.UNIT,
        {
            "exec_start": f"{_quoted(str(plan.program))} run",
            # This one is a path up to the line's end: quotes would be part of it.
            "environment_file": _unspecified(str(plan.environment_file)),
            # One of the files that is not there must not keep the service from starting.
            "writable": " ".join(map(_quoted, [str(plan.state_dir), *(f"-{path}" for path in plan.status_files)])),
        },
    )
    return text if namespaces else _NAMESPACES.sub(_WITHOUT, text)


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_unspecified(escaped)}"'


def _unspecified(word: str) -> str:
    """Keep a percent sign from being read as one of systemd's specifiers."""
    return word.replace("%", "%%")
