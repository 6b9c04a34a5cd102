"""Patterns that name folders: which sessions are followed and which never leave the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

__all__ = ["Folders"]

_TOKEN = re.compile(r"(?:\*\*/)+|\*\*+|\*|\?|[^*?]")


class Folders:
    """Says of a folder whether its events may be sent.

    A pattern names a folder and everything below it; `~`, `*`, `?` and `**` mean what they do in .gitignore, and one
    that does not begin at the root or at home names folders at any depth. Excluded wins over included.

    Args:
        include: patterns of the folders to follow; none: all.
        exclude: patterns of the folders never to send from.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [_Pattern(pattern) for pattern in include]
        self._exclude = [_Pattern(pattern) for pattern in exclude]
        self._allowed = lru_cache(maxsize=1024)(self._look)

    def allow(self, cwd: str | None) -> bool:
        """Whether events of *cwd*, as logged, may be sent. Where folders are included, an unknown one is not."""
        if not self._include and not self._exclude:
            return True
        return self._allowed(cwd) if cwd else not self._include

    def _look(self, cwd: str) -> bool:
        # The log names the folder as the user reached it; a rule may name it by its real path, or the other way round.
        paths = {_plain(cwd), _plain(_real(cwd))}
        if any(pattern.matches(path) for pattern in self._exclude for path in paths):
            return False
        return not self._include or any(pattern.matches(path) for pattern in self._include for path in paths)


class _Pattern:
    """One pattern, followed through a path character by character with all the places in it that are possible.

    A pattern may come with a repository: as a regular expression, some would take for ever on some paths.
    """

    def __init__(self, pattern: str) -> None:
        plain = os.path.expanduser(pattern).rstrip("/") or "/"  # noqa: PTH111 - a pattern is no path yet
        if not plain.startswith("/"):
            plain = f"**/{plain}"
        # What is below a folder that matches does so too.
        plain = re.sub(r"(/\*\*)+\Z", "", plain)
        self._tokens = ["**" if token.startswith("**") and token[-1] == "*" else token for token in _parts(plain)]
        self._start = self._at([0])

    def matches(self, path: str) -> bool:
        """Whether *path* is a folder that the pattern names, or below one."""
        end, places = len(self._tokens), self._start
        for character in path:
            if end in places and (character == "/" or self._tokens in ([], ["/"])):
                return True
            places = self._at(place for at in places if at < end for place in self._after(at, character))
            if not places:
                return False
        return end in places

    def _at(self, places: Iterable[int]) -> frozenset[int]:
        """Add to *places* those that are reached without another character."""
        reached = set(places)
        waiting = list(reached)
        while waiting:
            at = waiting.pop()
            if at < len(self._tokens) and self._tokens[at] in ("*", "**", "**/"):
                # Folders that may be none are two places: before the first of them, and within one.
                further = at + (2 if self._tokens[at] == "**/" else 1)
                if further not in reached:
                    reached.add(further)
                    waiting.append(further)
        return frozenset(reached)

    def _after(self, at: int, character: str) -> Iterator[int]:
        """Yield the places that *character* leads to."""
        match self._tokens[at]:
            case "**":
                yield at
            case "*":
                if character != "/":
                    yield at
            case "?":
                if character != "/":
                    yield at + 1
            case "**/":
                yield at + 1
                if character == "/":
                    yield at + 2
            case "within":
                yield at
                if character == "/":
                    yield at + 1
            case token:
                if character == token:
                    yield at + 1


def _parts(pattern: str) -> Iterator[str]:
    for token in _TOKEN.findall(pattern):
        if token.endswith("**/"):
            yield from ("**/", "within")
        else:
            yield token


def _plain(path: str) -> str:
    return os.path.normpath(path)


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:
        # A path with a NUL or a lone surrogate, which no folder has.
        return path
