"""Pieces of messages for people: what the system says is wrong, and foreign text that a terminal must not act on.

A terminal acts on control characters, the C1 ones included, and shows words in another order after characters that
change the direction of text. Names, paths and content can have any of these.
"""

from __future__ import annotations

import re

__all__ = ["escaped", "escaped_json", "excerpt", "one_line", "system_reason"]

# Controls except line ends, blanks that are line ends to some programs, characters without a width or with an effect on
# others, halves of surrogate pairs, and tags, in which text can hide.
_ACTING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)


def system_reason(error: OSError) -> str:
    """Return why the system refused, in its own words and in lower case, without the path."""
    return (error.strerror or str(error)).lower()


def one_line(message: str) -> str:
    """Return *message* as one printable line: a path or a name in it may contain line ends or control characters."""
    line = " ".join(message.splitlines())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def escaped(text: str) -> str:
    r"""Return *text* with everything that a terminal could act on, except line ends, as an escape such as `\x9b`."""
    return _ACTING.sub(lambda found: ascii(found[0])[1:-1], text)


def escaped_json(document: str) -> str:
    r"""Return JSON that is equal to *document* when parsed, and has nothing in it that a terminal could act on."""

    def escape(found: re.Match[str]) -> str:
        units = found[0].encode("utf-16-be", "surrogatepass").hex()
        return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

    return _ACTING.sub(escape, document)


def excerpt(text: str, limit: int) -> str:
    """Return the beginning of *text*, of at most *limit* characters, as one printable line without runs of blanks."""
    words = " ".join(text.split())
    return "".join(character for character in words if character.isprintable())[:limit]
