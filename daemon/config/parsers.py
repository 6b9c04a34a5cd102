"""Parsers of settings: each turns the value of a flag, a variable or a file into the value of the setting.

A parser raises ValueError with what is wrong and what to do. It never repeats anything that looks like a key.
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
    "app_host",
    "attribute_length",
    "boolean",
    "choice",
    "config_folders",
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
    "personal_key",
    "properties",
    "purpose",
    "seconds",
    "shown",
    "text",
]

Enabled = bool | Literal["projects"]
"""Whether sessions may be sent; "projects" means only sessions whose own project enables itself."""

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})

# The ingestion host for each web host that people copy from their browser.
_INGESTION_HOSTS = {
    "us.posthog.com": "us.i.posthog.com",
    "eu.posthog.com": "eu.i.posthog.com",
    "app.posthog.com": "us.i.posthog.com",
}
# The other way round: the web host for each host that events go to.
_APP_HOSTS = {
    "us.i.posthog.com": "us.posthog.com",
    "eu.i.posthog.com": "eu.posthog.com",
    "app.posthog.com": "us.posthog.com",
}
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_DEFAULT_PORTS = {"https": 443, "http": 80}

# PostHog refuses longer keys and cuts longer ids.
_MAX_KEY_LENGTH = 64
_MAX_PERSONAL_KEY_LENGTH = 256
_MAX_DISTINCT_ID_LENGTH = 200
_MAX_PURPOSE_LENGTH = 200
# A repository can bring both. Properties go into every event, and patterns are compared with every folder.
_MAX_PROPERTIES_BYTES = 16 * 1024
_MAX_PATTERNS_LENGTH = 16 * 1024
_QUOTES = ('"', "'", '["', "['")
_PROPERTIES_ADVICE = 'set a JSON object such as {"team": "web"}'
# A text cut below this length is useless, and the marker of the cut is longer than the text that is kept.
_MIN_ATTRIBUTE_LENGTH = 100

_KEY_LIKE = re.compile(r"ph[a-z]_\w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The context in which one value is parsed.

    Attributes:
        home: the folder that `~` stands for.
        allow_custom_host: whether the host may be one that is not PostHog's.
        in_config: whether the value comes from config.toml, above its tables.
    """

    home: Path
    allow_custom_host: bool = False
    in_config: bool = False


Parser = Callable[[object, Context], Any]
"""Turns the value of any source into the value of the setting."""


def looks_like_key(value: str) -> bool:
    """Whether *value* contains something that looks like a PostHog key, and must not be repeated."""
    return _KEY_LIKE.search(value) is not None


def shown(value: object) -> str:
    """Return *value* for a message: short, on one line, and never something that looks like a key."""
    string = str(value)
    if looks_like_key(string):
        return "what looks like a key"
    longest = 60
    return repr(string if len(string) <= longest else f"{string[:longest]}…")


def text(value: object, _: Context) -> str:
    """Parse text, and strip surrounding whitespace."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}; put it in quotes")  # noqa: TRY004 - all parsers report a wrong value as ValueError
    if "\0" in value:
        raise ValueError("contains a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid UTF-8; write it in UTF-8") from None
    return value.strip()


def boolean(value: object, _: Context) -> bool:
    """Parse true, yes, on, 1 or false, no, off, 0, in any case."""
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{shown(value)} is neither true nor false; set true or false")


def enabled(value: object, context: Context) -> Enabled:
    """Parse a boolean, or "projects", which leaves the decision to each project."""
    if isinstance(value, str) and value.strip().lower() == "projects":
        if context.in_config:
            return "projects"
        raise ValueError("'projects' is only valid in config.toml, above its tables; set true or false here")
    return boolean(value, context)


def api_key(value: object, context: Context) -> Secret:
    """Parse a project API key."""
    key = text(value, context)
    if key.startswith("phx_"):
        raise ValueError("is a personal API key (phx_…); set the project API key (phc_…) from the project's settings")
    if len(key) > _MAX_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("does not look like a project API key; copy the key (phc_…) from the project's settings")
    return Secret(key)


def personal_key(value: object, context: Context) -> Secret:
    """Parse a personal API key."""
    key = text(value, context)
    advice = "create a personal API key (phx_…) in PostHog's account settings"
    if key.startswith("phc_"):
        raise ValueError(f"is a project API key (phc_…); {advice}")
    if len(key) > _MAX_PERSONAL_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"does not look like a personal API key; {advice}")
    return Secret(key)


def distinct_id(value: object, context: Context) -> str:
    """Parse the id of a person."""
    person = text(value, context)
    if len(person) > _MAX_DISTINCT_ID_LENGTH:
        raise ValueError(f"is longer than {_MAX_DISTINCT_ID_LENGTH} characters; set a shorter one")
    return person


def purpose(value: object, context: Context) -> str:
    """Parse what sessions are for: a word or two."""
    name = text(value, context)
    if len(name) > _MAX_PURPOSE_LENGTH:
        raise ValueError(f"is longer than {_MAX_PURPOSE_LENGTH} characters; set a shorter one")
    return name


@dataclass(frozen=True, slots=True)
class Choice:
    """A parser that accepts one of *words*, in any case."""

    words: tuple[str, ...]

    def __call__(self, value: object, context: Context) -> str:
        """Parse *value*, and return the word in lower case."""
        word = text(value, context).lower()
        if word not in self.words:
            raise ValueError(f"{shown(value)} is not valid; set one of {', '.join(self.words)}")
        return word


def choice(*words: str) -> Choice:
    """Return a parser that accepts one of *words*, in any case."""
    return Choice(words)


def attribute_length(value: object, _: Context) -> int:
    """Parse a number of characters."""
    digits = str(value).strip()
    # int() alone would also accept 12_000, +12000 and digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,9}", digits) or int(digits) < _MIN_ATTRIBUTE_LENGTH:
        raise ValueError(f"{shown(value)} is not a length; set a whole number of at least {_MIN_ATTRIBUTE_LENGTH}")
    return int(digits)


def seconds(value: object, _: Context) -> float:
    """Parse a time in seconds, above 0."""
    try:
        time = float(str(value).strip())
    except ValueError:
        time = math.nan
    if not (time > 0 and math.isfinite(time)):
        raise ValueError(f"{shown(value)} is not a time; set a number of seconds above 0")
    return time


def json_object(value: object, context: Context) -> Mapping[str, Any]:
    """Parse a JSON object, from text or from a TOML table."""
    try:
        # TOML has dates and times, which become text, and infinities, which JSON cannot express.
        data = json.dumps(value, allow_nan=False, default=str) if isinstance(value, dict) else text(value, context)
    except (ValueError, OverflowError, RecursionError):
        raise ValueError(f"is not valid JSON; {_PROPERTIES_ADVICE}") from None
    return properties(data)


def properties(data: str, limit: int = _MAX_PROPERTIES_BYTES) -> Mapping[str, Any]:
    """Parse the JSON object *data*, of at most *limit* characters.

    Raises:
        ValueError: it is not JSON, not an object, or too long.
    """
    try:
        found = msgspec.json.decode(data)
        msgspec.json.encode(found)
    except (ValueError, msgspec.MsgspecError, OverflowError, RecursionError):
        raise ValueError(f"is not valid JSON; {_PROPERTIES_ADVICE}") from None
    if not isinstance(found, dict):
        raise ValueError(f"is not a JSON object; {_PROPERTIES_ADVICE}")  # noqa: TRY004 - as above
    if len(data) > limit:
        raise ValueError(f"is longer than {limit} characters; set fewer or shorter properties")
    return MappingProxyType(found)


def _list(value: object, separators: str) -> list[str]:
    """Return the entries of a TOML list, or of text split at any of *separators*, without blank ones."""
    if not isinstance(value, str) and isinstance(value, Sequence):
        entries = list(value)
    else:
        entries = re.split(f"[{re.escape(separators)}]", str(value))
    if not all(isinstance(entry, str | os.PathLike) for entry in entries):
        raise ValueError("contains something that is not text; put each entry in quotes")
    stripped = [os.fspath(entry).strip() for entry in entries]
    if any("\0" in entry for entry in stripped):
        raise ValueError("contains a NUL character; remove it")
    return [entry for entry in stripped if entry]


def patterns(value: object, _: Context) -> tuple[str, ...]:
    """Parse folder patterns: a list, or text with commas or line ends between them."""
    found = tuple(_list(value, ",\n"))
    if quoted := next((pattern for pattern in found if pattern.startswith(_QUOTES)), None):
        # A JSON or TOML list written as text matches no folder, so it would exclude none.
        raise ValueError(f"{shown(quoted)} has quotes around it; remove them, and put commas between folders")
    if sum(map(len, found)) > _MAX_PATTERNS_LENGTH:
        raise ValueError(f"has more than {_MAX_PATTERNS_LENGTH} characters; set fewer or shorter patterns")
    return found


def _path(name: str, home: Path) -> Path:
    path = home / name[2:] if name == "~" or name.startswith("~/") else Path(name)
    if not path.is_absolute():
        raise ValueError(f"{shown(name)} is not an absolute path; set one that starts with / or ~/")
    return path


def folder(value: object, context: Context) -> Path:
    """Parse the absolute path of a folder."""
    paths = folders([value], context)
    if not paths:
        raise ValueError("names no folder; set an absolute path")
    return paths[0]


def folders(value: object, context: Context) -> tuple[Path, ...]:
    """Parse absolute paths of folders: a list, or text separated like PATH. Duplicates are dropped."""
    return tuple(dict.fromkeys(_path(name, context.home) for name in _list(value, os.pathsep)))


def config_folders(value: object, context: Context) -> tuple[Path, ...]:
    """Parse the clients' configuration folders: like `folders`, or with commas between them, as other tools have it.

    A comma separates only where a path begins after it, or nothing comes: a name may contain one.
    """
    if isinstance(value, str):
        value = re.sub(r"\s*(?:,\s*)+(?=[/~]|$)", os.pathsep, value)
    return folders(value, context)


def host(value: object, context: Context) -> str:
    """Parse PostHog's address, and return its ingestion host as `scheme://name[:port]`."""
    return _address(value, context, _INGESTION_HOSTS, "https://us.i.posthog.com")


def app_host(value: object, context: Context) -> str:
    """Parse the address of PostHog's web app, and return it as `scheme://name[:port]`."""
    return _address(value, context, _APP_HOSTS, "https://us.posthog.com")


def _address(value: object, context: Context, others: Mapping[str, str], usual: str) -> str:
    """Parse an address of PostHog's.

    Args:
        value: what was set.
        context: the context.
        others: the hosts to take instead of those that people copy from elsewhere.
        usual: an address that most people set.
    """
    given = text(value, context)
    address = given if "://" in given else f"https://{given}"
    example = f"set a host such as {usual}"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not an address; {example}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"contains a user name or password; {example}")
    if parts.path.strip("/") or parts.query or parts.fragment or "?" in given or "#" in given:
        raise ValueError(f"contains more than a host; {example}, without path or query")
    name = (parts.hostname or "").removesuffix(".")
    # urlsplit silently drops tabs and line ends. A host with any is a mistake to report, not to repair.
    if re.search(r"\s", given) or not (_is_ip(name) or _HOST_NAME.fullmatch(name)):
        raise ValueError(f"is not a host name; {example}")
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{shown(parts.scheme)} is neither http nor https; {example}")
    if not _is_loopback(name):
        if name != "posthog.com" and not name.endswith(".posthog.com") and not context.allow_custom_host:
            raise ValueError(f"{shown(name)} is not PostHog's; set POSTHOG_LLMA_ALLOW_CUSTOM_HOST=true if it is yours")
        if parts.scheme != "https":
            raise ValueError(f"would send to {shown(name)} without encryption; use https://")
    name = others.get(name, name)
    bracketed = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port not in (None, _DEFAULT_PORTS[parts.scheme]) else "")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the entry of *names* that is most like *name*; None if none is similar."""
    import difflib  # noqa: PLC0415 - saves memory: it is only needed after a mistake

    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_ip(name) and ipaddress.ip_address(name).is_loopback)
