"""The version of this distribution, which is that of the daemon."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
