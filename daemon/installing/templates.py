"""The templates of the service files: the unit for systemd and the agent for launchd."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["AGENT", "UNIT", "TemplateError", "fill", "find"]

UNIT = "systemd/posthog-llma-daemon.service"
AGENT = "launchd/com.posthog.llma-daemon.plist"

_PACKAGE = Path(__file__).parents[1]
# Not string.Template's syntax: both kinds of file use the dollar sign themselves.
_PLACEHOLDER = re.compile(r"@\{([a-z_]+)\}")


class TemplateError(Exception):
    """A template is missing; the message says where it should be and what to do, in one line."""


def find(name: str) -> Path:
    """Return the path of a template, in the installed package or else in the checkout around it.

    Args:
        name: UNIT or AGENT.

    Raises:
        TemplateError: the template is in neither place.
    """
    for folder in (_PACKAGE / "service_files", _PACKAGE.parent):
        path = folder / name
        if path.is_file():
            return path
    raise TemplateError(f"{_PACKAGE / 'service_files' / name} is missing: install the package again")


def fill(name: str, values: Mapping[str, str]) -> str:
    """Return the text of a template with its placeholders replaced.

    Args:
        name: UNIT or AGENT.
        values: the text for each placeholder, already quoted for this kind of file.

    Raises:
        TemplateError: the template is missing.
        KeyError: *values* lacks a placeholder.
    """
    return _PLACEHOLDER.sub(lambda placeholder: values[placeholder[1]], find(name).read_text(encoding="utf-8"))
