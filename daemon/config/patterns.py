"""Patterns of folders: which sessions are followed, and which are never sent."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial

from daemon.system import disk

__all__ = ["Folders"]

_TOKEN = re.compile(r"(?:\*\*/)+|\*\*+|\*|\?|[^*?]")


class Folders:
    """Decides whether events of a folder may be sent.

    A pattern matches a folder and everything below it. `*`, `?` and `**` work as in .gitignore, and `~` is the home
    folder. A pattern that does not start with `/` or `~` matches folders at any depth. Exclude wins over include.

    Args:
        include: patterns of the folders to follow; none means all folders.
        exclude: patterns of the folders whose events are never sent.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [_Pattern(pattern) for pattern in include]
        self._exclude = [_Pattern(pattern) for pattern in exclude]
        self._allowed = lru_cache(maxsize=1024)(self._match)

    def allow(self, cwd: str | None) -> bool:
        """Whether events of the folder *cwd*, as logged, may be sent. An unknown folder (None) matches no pattern.

        Raises:
            disk.Unanswered: the folder does not answer, so nobody knows where a link in its path leads.
        """
        if not self._include and not self._exclude:
            return True
        return self._allowed(cwd) if cwd else not self._include

    def _match(self, cwd: str) -> bool:
        # The log has the path that the user used. A pattern may have the real path instead, or the other way round.
        paths = {os.path.normpath(cwd), os.path.normpath(_real(cwd))}
        if any(pattern.matches(path) for pattern in self._exclude for path in paths):
            return False
        return not self._include or any(pattern.matches(path) for pattern in self._include for path in paths)


class _Pattern:
    """One pattern. Matching walks a path character by character and keeps the set of possible positions in the pattern.

    A repository can bring patterns. As regular expressions, some of them would take forever on some paths.
    """

    def __init__(self, pattern: str) -> None:
        plain = os.path.expanduser(pattern).rstrip("/") or "/"  # noqa: PTH111 - a pattern is not a path
        if not plain.startswith("/"):
            plain = f"**/{plain}"
        # Everything below a matching folder matches anyway.
        plain = re.sub(r"(/\*\*)+\Z", "", plain)
        self._tokens = ["**" if token.startswith("**") and token[-1] == "*" else token for token in _parts(plain)]
        self._start = self._at([0])

    def matches(self, path: str) -> bool:
        """Whether *path* is a matching folder, or is below one."""
        end, places = len(self._tokens), self._start
        for character in path:
            if end in places and (character == "/" or self._tokens in ([], ["/"])):
                return True
            places = self._at(place for at in places if at < end for place in self._after(at, character))
            if not places:
                return False
        return end in places

    def _at(self, places: Iterable[int]) -> frozenset[int]:
        """Return *places* with those that can be reached without another character."""
        reached = set(places)
        waiting = list(reached)
        while waiting:
            at = waiting.pop()
            if at < len(self._tokens) and self._tokens[at] in ("*", "**", "**/"):
                # `**/` takes two positions: before the first of its folders, and within one. It also matches none.
                further = at + (2 if self._tokens[at] == "**/" else 1)
                if further not in reached:
                    reached.add(further)
                    waiting.append(further)
        return frozenset(reached)

    def _after(self, at: int, character: str) -> Iterator[int]:
        """Yield the places that *character* leads to from the place *at*."""
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
    """Yield the tokens of *pattern*; `**/` becomes the two tokens "**/" and "within"."""
    for token in _TOKEN.findall(pattern):
        if token.endswith("**/"):
            yield from ("**/", "within")
        else:
            yield token


def _real(path: str) -> str:
    try:
        real: str = disk.call(path, partial(os.path.realpath, path))
    except ValueError:
        # The path contains a NUL or a lone surrogate. No folder does.
        return path
    return real
