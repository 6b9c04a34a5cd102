"""Numbers, times and text from logs, written for people."""

from __future__ import annotations

__all__ = [
    "count",
    "dollars",
    "duration",
    "printable",
    "rough_duration",
    "share",
    "short_duration",
    "short_tokens",
    "size",
    "tokens",
]

_THOUSAND = 1000
_MINUTE = 60.0


def count(number: int, noun: str) -> str:
    """Write a number of things: `1 event`, `1,234 events`. The plural of *noun* must end in `s`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Write a number of bytes: `512 bytes`, `1.5 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:,.1f} {unit}"
    return f"{number:,.0f} bytes"


def tokens(taken: int | None, given: int | None, read: int | None, written: int | None) -> str:
    """Write token counts in full: `1,234 in 56 out (cache 9,000 read, 7 written)`.

    Unknown counts and unused caches are left out.

    Args:
        taken: input tokens that no cache held.
        given: output tokens.
        read: input tokens read from the cache.
        written: input tokens written to the cache.
    """
    parts = [f"{taken:,} in" if taken is not None else "", f"{given:,} out" if given is not None else ""]
    cache = [f"{read:,} read" if read else "", f"{written:,} written" if written else ""]
    if any(cache):
        parts.append(f"(cache {', '.join(filter(None, cache))})")
    return " ".join(filter(None, parts))


def short_tokens(number: int) -> str:
    """Write one token count in a few characters: `999`, `1.0k`, `1.5M`."""
    if number < _THOUSAND:
        return str(number)
    if number < 999_950:  # noqa: PLR2004 - from here on one digit behind the point rounds to 1000.0k
        return f"{number / _THOUSAND:.1f}k"
    return f"{number / _THOUSAND**2:.1f}M"


def dollars(amount: float) -> str:
    """Write US dollars: `$12.30`, `$1,234.50`; amounts below a cent with more digits: `$0.0042`."""
    if 0 < amount < 0.01:  # noqa: PLR2004 - a cent
        return f"${amount:.4f}" if amount >= 0.0001 else "<$0.0001"  # noqa: PLR2004 - the last digit shown
    return f"${amount:,.2f}"


def share(part: float, whole: float) -> str:
    """Write a part of a whole in percent: `82%`."""
    return f"{part / whole:.0%}"


def duration(seconds: float | None) -> str:
    """Write how long something took: `1.25 s`, `1 min 29 s`; "" if it is unknown."""
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), int(_MINUTE))
    return f"{minutes} min {rest:02d} s"


def short_duration(seconds: float | None) -> str:
    """Write how long something took in a few characters: `0.25s`, `1.2s`, `1m29s`; "" if it is unknown."""
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.2f}s" if seconds < 1 else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), int(_MINUTE))
    return f"{minutes}m{rest:02d}s"


def rough_duration(seconds: float) -> str:
    """Write how long something has lasted, in its largest unit of which there are two: `90 s`, `5 min`, `3 d`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def printable(text: str, longest: int | None = None) -> str:
    """Make *text* one line that is safe to print.

    Text from a log may hold line ends and control sequences, and a terminal would act on them.

    Args:
        text: the text.
        longest: cut the line to this many characters; None for no limit.
    """
    # Blanks may collapse, so read more than is kept, but not megabytes.
    kept = text if longest is None else text[: 4 * longest]
    line = " ".join("".join(char if char.isprintable() else " " for char in kept).split())
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"
