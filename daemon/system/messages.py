"""Pieces of messages for people: what the system says is wrong, and foreign text on one line."""

from __future__ import annotations

__all__ = ["excerpt", "one_line", "system_reason"]


def system_reason(error: OSError) -> str:
    """Return why the system refused, in its own words and in lower case, without the path."""
    return (error.strerror or str(error)).lower()


def one_line(message: str) -> str:
    """Return *message* as one printable line: a path or a name in it may contain line ends or control characters."""
    line = " ".join(message.splitlines())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def excerpt(text: str, limit: int) -> str:
    """Return the beginning of *text*, of at most *limit* characters, as one printable line without runs of blanks."""
    words = " ".join(text.split())
    return "".join(character for character in words if character.isprintable())[:limit]
