"""The templates of the service's files: the unit for systemd, the agent for launchd."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["AGENT", "UNIT", "TemplateError", "fill", "find"]

UNIT = "systemd/posthog-llma-daemon.service"
AGENT = "launchd/com.posthog.llma-daemon.plist"

_PACKAGE = Path(__file__).parents[1]
# Not string.Template's: both kinds of file have their own use for the dollar sign.
_PLACE = re.compile(r"@\{([a-z_]+)\}")


class TemplateError(Exception):
    """A template is not where it should be; the message says where that is and what to do, in one line."""


def find(name: str) -> Path:
    """Return the path of a template: in the installed package, else in the checkout around it.

    Args:
        name: UNIT or AGENT.

    Raises:
        TemplateError: it is in neither place.
    """
    for folder in (_PACKAGE / "service_files", _PACKAGE.parent):
        path = folder / name
        if path.is_file():
            return path
    raise TemplateError(f"{_PACKAGE / 'service_files' / name} is missing: install the package again")


def fill(name: str, values: Mapping[str, str]) -> str:
    """Return the text of a template with *values*, already quoted for its kind of file, in their places.

    Raises:
        TemplateError: it is not to be found.
        KeyError: it has a place that *values* do not name.
    """
    return _PLACE.sub(lambda place: values[place[1]], find(name).read_text(encoding="utf-8"))
