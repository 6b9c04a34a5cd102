"""Imports structlog and httpx without their terminal-only parts.

A long-running process saves about 4 MB by that, a short one a thirtieth of a second.

structlog imports rich for colored tracebacks, and httpx imports a command line of its own, with rich and pygments. Both
cope with these not being installed, so they are hidden during the import.

httpcore tries to import sniffio half a dozen times for every request. If it is not installed, each attempt searches all
module folders, which takes four milliseconds in total. Marking it as missing makes these attempts fail at once.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys

__all__ = ["import_slim"]

_LIBRARIES = ("structlog", "httpx")
_UNUSED = ("rich", "httpx._main")
_LOOKED_FOR = "sniffio"


def import_slim(*libraries: str) -> None:
    """Import libraries without rich, unless they are already imported. Rich can still be imported later.

    Args:
        libraries: structlog, httpx, or both; both if none is named.
    """
    hidden = [name for name in _UNUSED if name not in sys.modules]
    for name in hidden:
        # None marks a module that cannot be imported.
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        for library in libraries or _LIBRARIES:
            # A version that cannot do without them is imported in full later, by the module that needs it.
            with contextlib.suppress(ImportError):
                importlib.import_module(library)
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
    if _LOOKED_FOR not in sys.modules and importlib.util.find_spec(_LOOKED_FOR) is None:
        # As above, but for good.
        sys.modules[_LOOKED_FOR] = None  # type: ignore[assignment]
