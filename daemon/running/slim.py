"""Imports without the parts that only a terminal has a use for: some 4 MB of a process that runs for years.

structlog imports rich for coloured tracebacks, httpx a command line of its own, with rich and pygments. Both take it
that these may not be installed, so for the time of the import they are not.

httpcore looks for sniffio half a dozen times with every request. Where that is not installed each of them is a search
of all folders of modules, together four milliseconds: what is known to be missing is found to be so at once.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys

__all__ = ["import_slim"]

_UNUSED = ("rich", "httpx._main")
_LOOKED_FOR = "sniffio"


def import_slim() -> None:
    """Import structlog and httpx without them, if they were not imported before. Rich can still be imported later."""
    hidden = [name for name in _UNUSED if name not in sys.modules]
    for name in hidden:
        # What stands for a module that cannot be imported.
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        for library in ("structlog", "httpx"):
            # A version that insists on them is imported whole, where it is needed.
            with contextlib.suppress(ImportError):
                importlib.import_module(library)
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
    if _LOOKED_FOR not in sys.modules and importlib.util.find_spec(_LOOKED_FOR) is None:
        # As above; it stays so.
        sys.modules[_LOOKED_FOR] = None  # type: ignore[assignment]
