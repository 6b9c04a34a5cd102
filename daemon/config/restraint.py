"""The restraint of a session: settings that its project's files have made stricter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = ["UNRESTRAINED", "Restraint"]


# The values of a choice, the strictest first.
_STRICTNESS: Final = {"content": ("metadata", "no_tool_content", "full"), "input": ("prompt", "delta", "full")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraint:
    """Limits that a project's files set for a session. A restraint can only become stricter.

    Attributes:
        off: whether nothing of the session may be sent.
        content: the highest content level allowed; None means no limit.
        input: the most that the input of a generation may contain; None means no limit.
        max_attribute_length: the maximum number of characters to keep of one string of tool content; None means no
            limit.
        include: lists of patterns. A folder must match each list to be sent.
        exclude: patterns of folders whose events are not sent.
    """

    off: bool = False
    content: str | None = None
    input: str | None = None
    max_attribute_length: int | None = None
    include: tuple[tuple[str, ...], ...] = ()
    exclude: tuple[str, ...] = ()

    def also(self, other: Restraint) -> Restraint:
        """Return the restraint that is as strict as both."""
        # Nearly always.
        if other is self or other is UNRESTRAINED:
            return self
        if self is UNRESTRAINED:
            return other
        lengths = [each for each in (self.max_attribute_length, other.max_attribute_length) if each is not None]
        return Restraint(
            off=self.off or other.off,
            content=stricter("content", self.content, other.content),
            input=stricter("input", self.input, other.input),
            max_attribute_length=min(lengths, default=None),
            include=tuple(dict.fromkeys((*self.include, *other.include))),
            exclude=tuple(dict.fromkeys((*self.exclude, *other.exclude))),
        )

    def dump(self) -> str:
        """Return the restraint as JSON text, for the store."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def load(text: str) -> Restraint:
        """Return the restraint that `dump` turned into *text*.

        Raises:
            ValueError: *text* does not come from `dump`.
        """
        try:
            return msgspec.json.decode(text, type=Restraint)
        except msgspec.MsgspecError as error:
            # In msgspec 0.19 this is not a ValueError.
            raise ValueError(str(error)) from None


UNRESTRAINED = Restraint()
"""The restraint that limits nothing."""


def stricter(name: str, one: str | None, other: str | None) -> str | None:
    """Return the stricter of two values of the setting *name*, "content" or "input". None means no limit."""
    return min((each for each in (one, other) if each is not None), key=_STRICTNESS[name].index, default=None)
