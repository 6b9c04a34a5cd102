"""What a project's files made stricter for a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = ["UNRESTRAINED", "Restraint"]


# Words of a choice, the strictest first.
_STRICTNESS: Final = {"content": ("metadata", "no_tool_content", "full"), "input": ("prompt", "delta", "full")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraint:
    """What a project's files have made stricter for a session. It can grow and never shrinks.

    Attributes:
        off: whether nothing of the session may be sent.
        content: the content level, or None.
        input: what a generation's input may hold at most, or None.
        max_attribute_length: characters kept of one string of tool content at most, or None.
        include: lists of patterns, each of which has to name a folder that may be sent from.
        exclude: patterns of folders not to send from.
    """

    off: bool = False
    content: str | None = None
    input: str | None = None
    max_attribute_length: int | None = None
    include: tuple[tuple[str, ...], ...] = ()
    exclude: tuple[str, ...] = ()

    def also(self, other: Restraint) -> Restraint:
        """Return what is as strict as both."""
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
        """Return it as text, to be kept."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def load(text: str) -> Restraint:
        """Return what `dump` made text of.

        Raises:
            ValueError: nothing did.
        """
        try:
            return msgspec.json.decode(text, type=Restraint)
        except msgspec.MsgspecError as error:
            # In msgspec 0.19 that is no ValueError.
            raise ValueError(str(error)) from None


UNRESTRAINED = Restraint()
"""Nothing was made stricter."""


def stricter(name: str, one: str | None, other: str | None) -> str | None:
    return min((each for each in (one, other) if each is not None), key=_STRICTNESS[name].index, default=None)
