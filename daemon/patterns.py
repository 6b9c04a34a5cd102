"""Patterns that name folders: which sessions are followed and which never leave the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["Folders"]

_TOKEN = re.compile(r"/\*\*$|\*\*/|\*\*|\*|\?|/|[^*?/]+")
_REGEX = {"**/": "(?:.*/)?", "/**": "(?:/.*)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class Folders:
    """Says of a folder whether its events may be sent.

    A pattern names a folder and everything below it; `~`, `*`, `?` and `**` mean what they do in .gitignore, and one
    that does not begin at the root or at home names folders at any depth. Excluded wins over included.

    Args:
        include: patterns of the folders to follow; none: all.
        exclude: patterns of the folders never to send from.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [_compile(pattern) for pattern in include]
        self._exclude = [_compile(pattern) for pattern in exclude]
        self._allowed = lru_cache(maxsize=1024)(self._look)

    def allow(self, cwd: str | None) -> bool:
        """Whether events of *cwd*, as logged, may be sent. Where folders are included, an unknown one is not."""
        if not self._include and not self._exclude:
            return True
        return self._allowed(cwd) if cwd else not self._include

    def _look(self, cwd: str) -> bool:
        # The log names the folder as the user reached it; a rule may name it by its real path, or the other way round.
        paths = {_plain(cwd), _plain(os.path.realpath(cwd))}
        if any(pattern.fullmatch(path) for pattern in self._exclude for path in paths):
            return False
        return not self._include or any(pattern.fullmatch(path) for pattern in self._include for path in paths)


def _plain(path: str) -> str:
    return os.path.normpath(path)


def _compile(pattern: str) -> re.Pattern[str]:
    plain = os.path.expanduser(pattern).rstrip("/") or "/"  # noqa: PTH111 - a pattern is no path yet
    if not plain.startswith("/"):
        plain = f"**/{plain}"
    parts = (_REGEX.get(token) or re.escape(token) for token in _TOKEN.findall(plain))
    return re.compile("".join(parts) + "(?:/.*)?", re.DOTALL)
