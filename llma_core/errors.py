"""The exceptions of llma_core.

    CoreError
      RecordError      a line is not a record: skip it, count it, and read on

Functions of llma_core raise no others, whatever bytes they get, unless their docstrings say so.
"""

from __future__ import annotations

__all__ = ["CoreError", "RecordError"]


class CoreError(Exception):
    """The base class of the exceptions. It is never raised itself."""

    def __init__(self, reason: str) -> None:
        if type(self) is CoreError:
            raise TypeError("CoreError is only a base class")
        super().__init__(reason)
        self.reason = reason


class RecordError(CoreError):
    """A line is not a record: it is not JSON, not an object, or nested too deep.

    Attributes:
        reason: what is wrong, in a few words. It goes to logs, so it never quotes the line.
    """
