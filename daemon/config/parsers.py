"""Parsers of settings: what a flag, a variable or a file gives, to the value that is meant.

Each raises ValueError with what is wrong and what to do, and never repeats what looks like a key.
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from daemon.system.messages import one_line
from daemon.system.secret import Secret

__all__ = [
    "Choice",
    "Context",
    "Enabled",
    "Parser",
    "api_key",
    "attribute_length",
    "boolean",
    "choice",
    "distinct_id",
    "enabled",
    "folder",
    "folders",
    "host",
    "json_object",
    "looks_like_key",
    "nearest",
    "one_line",
    "patterns",
    "properties",
    "purpose",
    "seconds",
    "shown",
    "text",
]

Enabled = bool | Literal["projects"]
"""Whether sessions may be sent; "projects": those whose own project says so, and only those."""

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})

# Ingestion host of each web host people copy from their browser.
_INGESTION_HOSTS = {
    "us.posthog.com": "us.i.posthog.com",
    "eu.posthog.com": "eu.i.posthog.com",
    "app.posthog.com": "us.i.posthog.com",
}
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_DEFAULT_PORTS = {"https": 443, "http": 80}

# The receiver refuses longer tokens and cuts longer ids.
_MAX_KEY_LENGTH = 64
_MAX_DISTINCT_ID_LENGTH = 200
_MAX_PURPOSE_LENGTH = 200
# Both may come with a repository; these go into every event, and are compared with every folder.
_MAX_PROPERTIES_BYTES = 16 * 1024
_MAX_PATTERNS_LENGTH = 16 * 1024
_QUOTES = ('"', "'", '["', "['")
_PROPERTIES_ADVICE = 'set a JSON object such as {"team": "web"}'
# Below this a cut text says nothing and its marker is longer than what is kept.
_MIN_ATTRIBUTE_LENGTH = 100

_KEY_LIKE = re.compile(r"ph[a-z]_\w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What reading one value may depend on.

    Attributes:
        home: the folder `~` stands for.
        allow_custom_host: whether a host may be one that is not PostHog's.
        in_config: whether the value stands in config.toml, above its tables.
    """

    home: Path
    allow_custom_host: bool = False
    in_config: bool = False


Parser = Callable[[object, Context], Any]
"""Value of any source -> value that is meant."""


def looks_like_key(value: str) -> bool:
    """Whether *value* holds what looks like a key of PostHog's, and must not be repeated."""
    return _KEY_LIKE.search(value) is not None


def shown(value: object) -> str:
    """Put *value* into a message: short, on one line, and never something that looks like a key."""
    words = str(value)
    if looks_like_key(words):
        return "what looks like a key"
    longest = 60
    return repr(words if len(words) <= longest else f"{words[:longest]}…")


def text(value: object, _: Context) -> str:
    """Read text, without blanks around it."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}; put it in quotes")  # noqa: TRY004 - a wrong value, as all parsers tell of one
    if "\0" in value:
        raise ValueError("holds a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid UTF-8; write it in UTF-8") from None
    return value.strip()


def boolean(value: object, _: Context) -> bool:
    """Read true, yes, on, 1 or false, no, off, 0."""
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{shown(value)} is neither true nor false; set true or false")


def enabled(value: object, context: Context) -> Enabled:
    """Read a boolean, or the word that leaves it to the projects."""
    if isinstance(value, str) and value.strip().lower() == "projects":
        if context.in_config:
            return "projects"
        raise ValueError("'projects' counts above the tables of config.toml only; set true or false here")
    return boolean(value, context)


def api_key(value: object, context: Context) -> Secret:
    """Read a project API key."""
    key = text(value, context)
    if key.startswith("phx_"):
        raise ValueError("is a personal API key (phx_…); set the project API key (phc_…) of the project's settings")
    if len(key) > _MAX_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("has not the form of a project API key; copy the key (phc_…) from the project's settings")
    return Secret(key)


def distinct_id(value: object, context: Context) -> str:
    """Read the id of a person."""
    person = text(value, context)
    if len(person) > _MAX_DISTINCT_ID_LENGTH:
        raise ValueError(f"is longer than {_MAX_DISTINCT_ID_LENGTH} characters; set a shorter one")
    return person


def purpose(value: object, context: Context) -> str:
    """Read a word or two of what sessions are for."""
    words = text(value, context)
    if len(words) > _MAX_PURPOSE_LENGTH:
        raise ValueError(f"is longer than {_MAX_PURPOSE_LENGTH} characters; set a shorter one")
    return words


@dataclass(frozen=True, slots=True)
class Choice:
    """A parser that reads one of *words*, in any case."""

    words: tuple[str, ...]

    def __call__(self, value: object, context: Context) -> str:
        """Read it."""
        word = text(value, context).lower()
        if word not in self.words:
            raise ValueError(f"{shown(value)} is not known; set one of {', '.join(self.words)}")
        return word


def choice(*words: str) -> Choice:
    """Make a parser that reads one of *words*, in any case."""
    return Choice(words)


def attribute_length(value: object, _: Context) -> int:
    """Read a number of characters."""
    digits = str(value).strip()
    # int() alone would also take 12_000, +12000 and the digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,9}", digits) or int(digits) < _MIN_ATTRIBUTE_LENGTH:
        raise ValueError(f"{shown(value)} is no length; set a whole number of at least {_MIN_ATTRIBUTE_LENGTH}")
    return int(digits)


def seconds(value: object, _: Context) -> float:
    """Read a time in seconds, above 0."""
    try:
        time = float(str(value).strip())
    except ValueError:
        time = math.nan
    if not (time > 0 and math.isfinite(time)):
        raise ValueError(f"{shown(value)} is no time; set a number of seconds above 0")
    return time


def json_object(value: object, context: Context) -> Mapping[str, Any]:
    """Read a JSON object, as text or as a table of TOML."""
    try:
        # TOML knows dates and times, which go out as text, and infinities, which JSON has no word for.
        data = json.dumps(value, allow_nan=False, default=str) if isinstance(value, dict) else text(value, context)
    except (ValueError, OverflowError, RecursionError):
        raise ValueError(f"is not valid JSON; {_PROPERTIES_ADVICE}") from None
    return properties(data)


def properties(data: str, limit: int = _MAX_PROPERTIES_BYTES) -> Mapping[str, Any]:
    """Read the JSON object *data*, of at most *limit* characters."""
    try:
        found = msgspec.json.decode(data)
        msgspec.json.encode(found)
    except (ValueError, msgspec.MsgspecError, OverflowError, RecursionError):
        raise ValueError(f"is not valid JSON; {_PROPERTIES_ADVICE}") from None
    if not isinstance(found, dict):
        raise ValueError(f"is no JSON object; {_PROPERTIES_ADVICE}")  # noqa: TRY004 - as above
    if len(data) > limit:
        raise ValueError(f"is larger than {limit} bytes; set fewer or shorter properties")
    return MappingProxyType(found)


def _list(value: object, separators: str) -> list[str]:
    """Take the entries of a TOML list, or of text cut at any of *separators*, without blank ones."""
    if not isinstance(value, str) and isinstance(value, Sequence):
        entries = list(value)
    else:
        entries = re.split(f"[{re.escape(separators)}]", str(value))
    if not all(isinstance(entry, str | os.PathLike) for entry in entries):
        raise ValueError("holds something that is not text; put each entry in quotes")
    stripped = [os.fspath(entry).strip() for entry in entries]
    if any("\0" in entry for entry in stripped):
        raise ValueError("holds a NUL character; remove it")
    return [entry for entry in stripped if entry]


def patterns(value: object, _: Context) -> tuple[str, ...]:
    """Read patterns of folders: a list, or text with commas or line ends between them."""
    found = tuple(_list(value, ",\n"))
    if quoted := next((pattern for pattern in found if pattern.startswith(_QUOTES)), None):
        # A list of JSON or TOML as text would name no folder, and exclude none.
        raise ValueError(f"{shown(quoted)} has quotes around it; write folders without, and commas between them")
    if sum(map(len, found)) > _MAX_PATTERNS_LENGTH:
        raise ValueError(f"holds more than {_MAX_PATTERNS_LENGTH} characters; set fewer or shorter patterns")
    return found


def _path(name: str, home: Path) -> Path:
    path = home / name[2:] if name == "~" or name.startswith("~/") else Path(name)
    if not path.is_absolute():
        raise ValueError(f"{shown(name)} is not an absolute path; set one that starts with / or ~/")
    return path


def folder(value: object, context: Context) -> Path:
    """Read the absolute path of a folder."""
    paths = folders([value], context)
    if not paths:
        raise ValueError("names no folder; set an absolute path")
    return paths[0]


def folders(value: object, context: Context) -> tuple[Path, ...]:
    """Read absolute paths of folders: a list, or text as PATH has it; each once."""
    return tuple(dict.fromkeys(_path(name, context.home) for name in _list(value, os.pathsep)))


def host(value: object, context: Context) -> str:
    """Read where PostHog is, as `scheme://name[:port]` of its ingestion host."""
    given = text(value, context)
    address = given if "://" in given else f"https://{given}"
    example = "set a host such as https://us.i.posthog.com"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not an address; {example}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"holds a user name or password; {example}")
    if parts.path.strip("/") or parts.query or parts.fragment or "?" in given or "#" in given:
        raise ValueError(f"holds more than a host; {example}, without path or query")
    name = (parts.hostname or "").removesuffix(".")
    # urlsplit drops tabs and line ends without a word; a host that has some is a mistake to name, not to mend.
    if re.search(r"\s", given) or not (_is_ip(name) or _HOST_NAME.fullmatch(name)):
        raise ValueError(f"is not a host name; {example}")
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{shown(parts.scheme)} is not a scheme of the web; {example}")
    if not _is_loopback(name):
        if name != "posthog.com" and not name.endswith(".posthog.com") and not context.allow_custom_host:
            raise ValueError(f"{shown(name)} is not PostHog's; set POSTHOG_LLMA_ALLOW_CUSTOM_HOST=true if it is yours")
        if parts.scheme != "https":
            raise ValueError(f"would send to {shown(name)} without encryption; set it with https://")
    name = _INGESTION_HOSTS.get(name, name)
    bracketed = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port not in (None, _DEFAULT_PORTS[parts.scheme]) else "")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of *names* that *name* may have been meant to be; None if it is like none of them."""
    import difflib  # noqa: PLC0415 - who makes no mistake has no use for it in memory

    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_ip(name) and ipaddress.ip_address(name).is_loopback)
