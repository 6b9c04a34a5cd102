"""Identities: whose sessions the archives hold, by their paths."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.system.messages import system_reason

__all__ = ["Identities", "IdentitiesError"]

_TOKEN = re.compile(r"\*\*|\*|\?|[^*?]+")
_WORDS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


class IdentitiesError(Exception):
    """The file cannot be used. The message says where and why, in one line."""


@dataclass(frozen=True, slots=True)
class Identities:
    """Persons by pattern.

    Attributes:
        patterns: for each pattern of URLs, the distinct id of the person whose sources they are. The first that matches
            counts. `*` and `?` stand for anything but `/`, `**` for anything. A pattern matches what is below it, too.
    """

    patterns: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Identities:
        """Read a TOML file of lines such as `"s3://logs/ada/**" = "ada@example.com"`.

        Raises:
            IdentitiesError: it cannot be read, or holds something else.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise IdentitiesError(f"{path}: {system_reason(error)}; give a TOML file of patterns and ids") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise IdentitiesError(f"{path}: it is no TOML ({error})") from None
        for pattern, person in values.items():
            if not isinstance(person, str) or not person.strip() or not pattern.strip():
                raise IdentitiesError(f'{path}: {pattern!r} needs an id in quotes, such as "ada@example.com"')
        return cls({pattern: person.strip() for pattern, person in values.items()})

    def of(self, url: str) -> str | None:
        """Return the person whose source *url* is; None if no pattern matches."""
        for pattern, person in self.patterns.items():
            words = "".join(_WORDS.get(token, re.escape(token)) for token in _TOKEN.findall(pattern.rstrip("/")))
            if re.fullmatch(f"{words}(/.*)?", url, re.DOTALL):
                return person
        return None
