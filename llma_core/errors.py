"""The core's error tree.

    CoreError
      RecordError      a line that holds no record: skip it, count it, read on

A core function raises nothing else, whatever bytes it is given.
"""

from __future__ import annotations

__all__ = ["CoreError", "RecordError"]


class CoreError(Exception):
    """Base of everything the core raises. Never raised itself."""

    def __init__(self, reason: str) -> None:
        if type(self) is CoreError:
            raise TypeError("CoreError is only a base class")
        super().__init__(reason)
        self.reason = reason


class RecordError(CoreError):
    """A line is no record: not JSON, not an object, nested too deep.

    Attributes:
        reason: what is wrong in a few words. Never a part of the line: it goes to logs.
    """
