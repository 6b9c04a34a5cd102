"""The settings: each declared once in a table, all read at once, all problems reported together.

Precedence, first one wins: flag, environment, config.toml, the `env` block of Claude Code's user settings, default.
An empty or blank string, and an empty list, count as unset wherever they stand.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import msgspec
import platformdirs

from daemon import claude_settings
from llma_core import events
from llma_core.privacy import ContentLevel

__all__ = [
    "APP_NAME",
    "SETTINGS",
    "ConfigError",
    "Entry",
    "Secret",
    "Setting",
    "Settings",
    "default_config_file",
    "load",
]

APP_NAME = "posthog-llma-daemon"

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
# Below this a cut text says nothing and its marker is longer than what is kept.
_MIN_ATTRIBUTE_LENGTH = 100

_KEY_LIKE = re.compile(r"ph[a-z]_\w")
_TOML_POSITION = re.compile(r"\(at (line \d+, column \d+|end of document)\)\Z")
_READABLE_BY_OTHERS = 0o044


class ConfigError(Exception):
    """The configuration cannot be used. For the user: shown without a traceback, exit code 78.

    Attributes:
        problems: everything that is wrong, one line each: what, from where, what to do. Never a secret value.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(_one_line(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


class Secret:
    """A string that does not show itself: its str and repr are stars. Compared and hashed by what it hides."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the string itself."""
        return self._value

    def masked(self) -> str:
        """Return enough to tell two keys apart: the first six characters, then stars; only stars of a short one."""
        shown = 6
        return f"{self._value[:shown]}{self}" if len(self._value) > 2 * shown else str(self)

    def __repr__(self) -> str:
        return f"Secret('{self}')"

    def __str__(self) -> str:
        return "**********"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What reading one value may depend on."""

    home: Path
    allow_custom_host: bool = False


_Parser = Callable[[object, _Context], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The declaration of one setting.

    Attributes:
        name: the field of Settings and the key of flags.
        variable: the environment variable.
        parse: value of any source -> value of the field; raises ValueError that says what is wrong and what to do,
            without a secret.
        default: what the documentation says of the default; None is unset.
        help: one sentence for users.
        secret: whether the value must never be shown.
        aliases: further keys of config.toml.
        compute: the default where it depends on the machine; else *default* is parsed.
        in_claude_settings: whether Claude Code's settings may give it.
    """

    name: str
    variable: str
    parse: _Parser
    default: str | None
    help: str
    secret: bool = False
    aliases: tuple[str, ...] = ()
    compute: Callable[[Path], object] | None = None
    in_claude_settings: bool = True

    @property
    def key(self) -> str:
        """The key in config.toml: the variable in lower case without its prefix."""
        return _key_of(self.variable)

    @property
    def flag(self) -> str:
        """How the command line spells it, where it is a flag."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One setting as it holds now.

    Attributes:
        setting: its declaration.
        value: the field of Settings.
        source: where the value came from: a flag, "environment", the path of a file, or "default".
    """

    setting: Setting
    value: object
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a user can set, checked. Built by load().

    Attributes:
        api_key: project API key, or None.
        enabled: the user's word that sessions may be sent.
        host: ingestion host as `scheme://name[:port]`, without a slash at its end.
        allow_custom_host: whether *host* may be one that is not PostHog's.
        privacy_mode: whether *content* is overruled by "metadata".
        content: the content level asked for; see content_level.
        redact_secrets: whether secrets are scrubbed from what is sent.
        distinct_id: the person all events belong to; None: git's user e-mail of the session's repository.
        trace_grouping: what one trace is, a session or one prompt ("message").
        input: what a generation's input holds.
        max_attribute_length: characters kept of one string of tool content.
        custom_properties: JSON values added to each event.
        include: patterns of folders to follow; empty: all.
        exclude: patterns of folders never to send from.
        purpose: `POSTHOG_AI_PURPOSE`, or None.
        state_dir: absolute path of the daemon's own files.
        session_timeout: seconds of quiet after which a session without a live process has ended.
        claude_config_dirs: absolute paths of Claude Code's configuration folders; at least one.
        opt_out: whether the user opted out of capturing altogether.
        config_file: the config.toml that was, or would have been, read.
        warnings: one line each on what was left out although all could be read.
        sources: where each value came from, by field name.
    """

    api_key: Secret | None
    enabled: bool
    host: str
    allow_custom_host: bool
    privacy_mode: bool
    content: ContentLevel
    redact_secrets: bool
    distinct_id: str | None
    trace_grouping: events.Grouping
    input: events.InputMode
    max_attribute_length: int
    custom_properties: Mapping[str, Any]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    purpose: str | None
    state_dir: Path
    session_timeout: float
    claude_config_dirs: tuple[Path, ...]
    opt_out: bool
    config_file: Path
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str]

    @property
    def content_level(self) -> ContentLevel:
        """The content level that holds: "metadata" in privacy mode, else what *content* says."""
        return "metadata" if self.privacy_mode else self.content

    def source(self, name: str) -> str:
        """Return where the value of the field *name* came from. Raises KeyError for a name that is no setting."""
        return self.sources[name]

    def entries(self) -> Iterator[Entry]:
        """Give every setting with its value and source, in the order of the table."""
        for setting in SETTINGS:
            yield Entry(setting=setting, value=getattr(self, setting.name), source=self.sources[setting.name])

    def why_disabled(self) -> str | None:
        """Return in one line what to set before anything is sent, or None when sending is allowed."""
        if self.opt_out:
            return f"OPT_OUT_CAPTURE is set ({self.source('opt_out')}), so nothing is sent; unset it to send"
        missing = []
        if not self.enabled:
            missing.append("POSTHOG_LLMA_CC_ENABLED=true")
        if self.api_key is None:
            missing.append("POSTHOG_API_KEY to a project key (phc_…)")
        if not missing:
            return None
        places = (
            f"the environment, {self.config_file} or the env block of {self.claude_config_dirs[0] / 'settings.json'}"
        )
        return f"sending is not set up: set {' and '.join(missing)} in {places}"

    def require_enabled(self) -> Secret:
        """Return the project key when sending is allowed.

        Raises:
            ConfigError: it is not; the one problem says what to set.
        """
        reason = self.why_disabled()
        if reason is not None or self.api_key is None:
            raise ConfigError([reason or "POSTHOG_API_KEY is not set"])
        return self.api_key


# --- reading one value -------------------------------------------------------------------------------------------


def _one_line(message: str) -> str:
    # A path or a name may hold a line end.
    return " ".join(message.splitlines())


def _shown(value: object) -> str:
    """Put *value* into a message: short, on one line, and never something that looks like a key."""
    text = str(value)
    if _KEY_LIKE.search(text):
        return "what looks like a key"
    longest = 60
    return repr(text if len(text) <= longest else f"{text[:longest]}…")


def _text(value: object, _: _Context) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}; put it in quotes")  # noqa: TRY004
    if "\0" in value:
        raise ValueError("holds a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid UTF-8; write it in UTF-8") from None
    return value.strip()


def _boolean(value: object, _: _Context) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{_shown(value)} is neither true nor false; set true or false")


def _enabled(value: object, context: _Context) -> bool:
    if isinstance(value, str) and value.strip().lower() == "projects":
        raise ValueError("'projects' is not supported in this version; set true or false")
    return _boolean(value, context)


def _api_key(value: object, context: _Context) -> Secret:
    key = _text(value, context)
    if key.startswith("phx_"):
        raise ValueError("is a personal API key (phx_…); set the project API key (phc_…) of the project's settings")
    if len(key) > _MAX_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("has not the form of a project API key; copy the key (phc_…) from the project's settings")
    return Secret(key)


def _distinct_id(value: object, context: _Context) -> str:
    text = _text(value, context)
    if len(text) > _MAX_DISTINCT_ID_LENGTH:
        raise ValueError(f"is longer than {_MAX_DISTINCT_ID_LENGTH} characters; set a shorter one")
    return text


def _choice(*words: str) -> _Parser:
    def parse(value: object, context: _Context) -> str:
        word = _text(value, context).lower()
        if word not in words:
            raise ValueError(f"{_shown(value)} is not known; set one of {', '.join(words)}")
        return word

    return parse


def _attribute_length(value: object, _: _Context) -> int:
    text = str(value).strip()
    # int() alone would also take 12_000, +12000 and the digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < _MIN_ATTRIBUTE_LENGTH:
        raise ValueError(f"{_shown(value)} is no length; set a whole number of at least {_MIN_ATTRIBUTE_LENGTH}")
    return int(text)


def _seconds(value: object, _: _Context) -> float:
    try:
        seconds = float(str(value).strip())
    except ValueError:
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"{_shown(value)} is no time; set a number of seconds above 0")
    return seconds


def _json_object(value: object, context: _Context) -> Mapping[str, Any]:
    advice = 'set a JSON object such as {"team": "web"}'
    try:
        # TOML knows dates and times, which go out as text, and infinities, which JSON has no word for.
        text = json.dumps(value, allow_nan=False, default=str) if isinstance(value, dict) else _text(value, context)
        properties = msgspec.json.decode(text)
        msgspec.json.encode(properties)
    except (ValueError, msgspec.MsgspecError, OverflowError, RecursionError):
        raise ValueError(f"is not valid JSON; {advice}") from None
    if not isinstance(properties, dict):
        raise ValueError(f"is no JSON object; {advice}")  # noqa: TRY004
    return MappingProxyType(properties)


def _list(value: object, separators: str) -> list[str]:
    """Take the entries of a TOML list, or of text cut at any of *separators*, without blank ones."""
    if not isinstance(value, str) and isinstance(value, Sequence):
        entries = list(value)
    else:
        entries = re.split(f"[{re.escape(separators)}]", str(value))
    if not all(isinstance(entry, str | os.PathLike) for entry in entries):
        raise ValueError("holds something that is not text; put each entry in quotes")
    texts = [os.fspath(entry).strip() for entry in entries]
    if any("\0" in text for text in texts):
        raise ValueError("holds a NUL character; remove it")
    return [text for text in texts if text]


def _patterns(value: object, _: _Context) -> tuple[str, ...]:
    return tuple(_list(value, ",\n"))


def _path(text: str, home: Path) -> Path:
    path = home / text[2:] if text == "~" or text.startswith("~/") else Path(text)
    if not path.is_absolute():
        raise ValueError(f"{_shown(text)} is not an absolute path; set one that starts with / or ~/")
    return path


def _folder(value: object, context: _Context) -> Path:
    paths = _folders([value], context)
    if not paths:
        raise ValueError("names no folder; set an absolute path")
    return paths[0]


def _folders(value: object, context: _Context) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(_path(text, context.home) for text in _list(value, os.pathsep)))


def _host(value: object, context: _Context) -> str:
    text = _text(value, context)
    address = text if "://" in text else f"https://{text}"
    example = "set a host such as https://us.i.posthog.com"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not an address; {example}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"holds a user name or password; {example}")
    if parts.path.strip("/") or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(f"holds more than a host; {example}, without path or query")
    name = (parts.hostname or "").removesuffix(".")
    # urlsplit drops tabs and line ends without a word; a host that has some is a mistake to name, not to mend.
    if re.search(r"\s", text) or not (_is_ip(name) or _HOST_NAME.fullmatch(name)):
        raise ValueError(f"is not a host name; {example}")
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{_shown(parts.scheme)} is not a scheme of the web; {example}")
    if not _is_loopback(name):
        if name != "posthog.com" and not name.endswith(".posthog.com") and not context.allow_custom_host:
            raise ValueError(f"{_shown(name)} is not PostHog's; set POSTHOG_LLMA_ALLOW_CUSTOM_HOST=true if it is yours")
        if parts.scheme != "https":
            raise ValueError(f"would send to {_shown(name)} without encryption; set it with https://")
    name = _INGESTION_HOSTS.get(name, name)
    bracketed = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port not in (None, _DEFAULT_PORTS[parts.scheme]) else "")


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_ip(name) and ipaddress.ip_address(name).is_loopback)


def _default_state_dir(_: Path) -> Path:
    return platformdirs.user_state_path(APP_NAME)


def _default_config_dirs(home: Path) -> tuple[Path, ...]:
    """Name the client's own folder, and the one some of its versions use instead where that holds logs."""
    other = home / ".config" / "claude"
    return (home / ".claude", *([other] if (other / "projects").is_dir() else []))


# --- the table ---------------------------------------------------------------------------------------------------

SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="api_key",
        variable="POSTHOG_API_KEY",
        parse=_api_key,
        default=None,
        help="Project API key (phc_…).",
        secret=True,
    ),
    Setting(
        name="enabled",
        variable="POSTHOG_LLMA_CC_ENABLED",
        parse=_enabled,
        default="false",
        help="Nothing is sent unless true.",
        aliases=("enabled",),
    ),
    Setting(
        name="host",
        variable="POSTHOG_HOST",
        parse=_host,
        default="https://us.i.posthog.com",
        help="PostHog's ingestion host; the us., eu. and app. web hosts become theirs.",
    ),
    Setting(
        name="allow_custom_host",
        variable="POSTHOG_LLMA_ALLOW_CUSTOM_HOST",
        parse=_boolean,
        default="false",
        help="Allow a host other than posthog.com, its subdomains and loopback; always over https.",
    ),
    Setting(
        name="privacy_mode",
        variable="POSTHOG_LLMA_PRIVACY_MODE",
        parse=_boolean,
        default="false",
        help="Send no content: the same as POSTHOG_LLMA_CONTENT=metadata, whatever that says.",
    ),
    Setting(
        name="content",
        variable="POSTHOG_LLMA_CONTENT",
        parse=_choice("full", "no_tool_content", "metadata"),
        default="full",
        help="How much content leaves the machine: full, no_tool_content or metadata.",
    ),
    Setting(
        name="redact_secrets",
        variable="POSTHOG_LLMA_REDACT_SECRETS",
        parse=_boolean,
        default="true",
        help="Replace keys, tokens and passwords in what is sent.",
    ),
    Setting(
        name="distinct_id",
        variable="POSTHOG_LLMA_DISTINCT_ID",
        parse=_distinct_id,
        default=None,
        help="Person the events belong to; unset: git's user e-mail of the session's repository.",
    ),
    Setting(
        name="trace_grouping",
        variable="POSTHOG_LLMA_TRACE_GROUPING",
        parse=_choice("session", "message"),
        default="session",
        help="What one trace is: a session, or one prompt (message).",
    ),
    Setting(
        name="input",
        variable="POSTHOG_LLMA_INPUT",
        parse=_choice("delta", "prompt", "full"),
        default="delta",
        help="A generation's input: the messages added since the one before (delta), the human prompt only, or the "
        "whole request with its system prompt and tools (full).",
    ),
    Setting(
        name="max_attribute_length",
        variable="POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH",
        parse=_attribute_length,
        default="12000",
        help="Characters kept of each string of tool content.",
    ),
    Setting(
        name="custom_properties",
        variable="POSTHOG_LLMA_CUSTOM_PROPERTIES",
        parse=_json_object,
        default="{}",
        help="JSON object of properties added to every event; a table in config.toml.",
    ),
    Setting(
        name="include",
        variable="POSTHOG_LLMA_INCLUDE",
        parse=_patterns,
        default=None,
        help="Folders to follow, as patterns separated by commas or line ends; a list in config.toml. Unset: all.",
        compute=lambda _: (),
    ),
    Setting(
        name="exclude",
        variable="POSTHOG_LLMA_EXCLUDE",
        parse=_patterns,
        default=None,
        help="Folders never to send from, written like include; wins over it.",
        compute=lambda _: (),
    ),
    Setting(
        name="purpose",
        variable="POSTHOG_AI_PURPOSE",
        parse=_text,
        default=None,
        help="What the sessions are for, such as authoring or review.",
    ),
    Setting(
        name="state_dir",
        variable="POSTHOG_LLMA_STATE_DIR",
        parse=_folder,
        default="the user's state folder",
        help="Where the daemon keeps its own files.",
        compute=_default_state_dir,
    ),
    Setting(
        name="session_timeout",
        variable="POSTHOG_LLMA_SESSION_TIMEOUT",
        parse=_seconds,
        default="3600",
        help="Seconds of quiet after which a session without a live process has ended.",
    ),
    Setting(
        name="claude_config_dirs",
        variable="CLAUDE_CONFIG_DIR",
        parse=_folders,
        default="~/.claude",
        help="Claude Code's folders, separated like PATH; unset: also ~/.config/claude where it has projects/.",
        compute=_default_config_dirs,
        # The file to read stands in this folder, so it cannot say where the folder is.
        in_claude_settings=False,
    ),
    Setting(
        name="opt_out",
        variable="OPT_OUT_CAPTURE",
        parse=_boolean,
        default=None,
        help="true: send nothing, whatever else is set.",
        compute=lambda _: False,
    ),
)


def _key_of(variable: str) -> str:
    return variable.lower().removeprefix("posthog_").removeprefix("llma_")


# --- reading all of them -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One place settings come from: *values* by field name."""

    label: str
    values: Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What was read so far, and what was wrong with it."""

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, setting: Setting, places: Sequence[_Source], context: _Context) -> None:
        """Take *setting* from the first of *places* that gives it, else its default."""
        for place in places:
            value = place.values.get(setting.name)
            if value is None or value in ([], ()) or (isinstance(value, str) and not value.strip()):
                continue
            label = f"flag {setting.flag}" if place.label == "flag" else place.label
            try:
                self.values[setting.name] = setting.parse(value, context)
            except ValueError as error:
                self.problems.append(f"{setting.variable} ({label}): {error}")
            self.sources[setting.name] = label
            return
        if setting.compute is not None:
            self.values[setting.name] = setting.compute(context.home)
        else:
            self.values[setting.name] = None if setting.default is None else setting.parse(setting.default, context)
        self.sources[setting.name] = "default"


def default_config_file() -> Path:
    """Return the path of the user's config.toml, whether it exists or not."""
    return platformdirs.user_config_path(APP_NAME) / "config.toml"


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    config_file: Path | None = None,
    home: Path | None = None,
) -> Settings:
    """Read all settings from all their sources.

    Args:
        flags: values of the command line by field name; None is "not given".
        environ: the environment.
        config_file: the config.toml to read instead of the user's; a missing one is no problem.
        home: the folder `~` stands for; the user's if not given.

    Raises:
        ConfigError: at least one value or file cannot be used; it holds every problem there is.
        TypeError: *flags* names a setting that does not exist.
    """
    if unknown := flags.keys() - {setting.name for setting in SETTINGS}:
        raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
    home = home or Path(environ.get("HOME") or Path.home())
    config_file = config_file or default_config_file()
    table = {setting.name: setting for setting in SETTINGS}
    reading = _Reading()
    places = [
        _Source(label="flag", values=flags),
        _Source(label="environment", values={s.name: environ[s.variable] for s in SETTINGS if s.variable in environ}),
        _read_config(config_file, reading),
    ]
    reading.warnings.extend(_unknown_variables(environ))

    # These two decide how the others are read.
    reading.read(table["claude_config_dirs"], places, _Context(home=home))
    folders = reading.values.get("claude_config_dirs", ())
    places.extend(_read_claude_settings(folders if isinstance(folders, tuple) else (), reading))
    reading.read(table["allow_custom_host"], places, _Context(home=home))
    # Where the permission cannot be read that is the problem to report, not the host that waits for it.
    context = _Context(home=home, allow_custom_host=bool(reading.values.get("allow_custom_host", True)))
    for setting in SETTINGS:
        if setting.name not in reading.sources:
            reading.read(setting, places, context)

    if reading.problems:
        raise ConfigError(reading.problems)
    _check_key(reading)
    _check_custom_properties(reading)
    values: dict[str, Any] = reading.values
    return Settings(
        **values,
        config_file=config_file,
        warnings=tuple(_one_line(warning) for warning in reading.warnings),
        sources=MappingProxyType(reading.sources),
    )


def _read_config(path: Path, reading: _Reading) -> _Source:
    """Read config.toml; every problem of the file goes to *reading*."""
    values: dict[str, object] = {}
    keys = {key: setting for setting in SETTINGS for key in (setting.key, *setting.aliases)}
    for key, value in _parse_config(path, reading).items():
        if key == "project":
            reading.problems.append(f"{path}: [[project]] tables are not supported in this version; remove them")
        elif key not in keys:
            guess = difflib.get_close_matches(_key_of(key), keys, n=1)
            advice = f"did you mean {guess[0]}?" if guess else f"remove it; `{APP_NAME} config` lists what there is"
            reading.problems.append(f"{path}: unknown setting {_shown(key)}; {advice}")
        elif keys[key].name in values:
            reading.problems.append(f"{path}: {keys[key].key} is given twice, also as {_shown(key)}; remove one")
        else:
            values[keys[key].name] = value
    if values.get("api_key"):
        try:
            open_to_others = path.stat().st_mode & _READABLE_BY_OTHERS
        except OSError as error:
            reading.problems.append(f"{path}: cannot be looked at ({error.strerror}); give it back and try again")
        else:
            if open_to_others:
                fix = f"chmod 600 {shlex.quote(str(path))}"
                reading.problems.append(f"{path}: holds a key and can be read by other users; run {fix}")
    return _Source(label=str(path), values=values)


def _parse_config(path: Path, reading: _Reading) -> Mapping[str, object]:
    try:
        data = claude_settings.read_regular(path)
        # utf-8-sig: editors of other systems put a byte order mark in front.
        return {} if data is None else tomllib.loads(data.decode("utf-8-sig"))
    except claude_settings.UnreadableFileError as error:
        reading.problems.append(f"{path}: {error.reason}; correct or remove the file")
    except UnicodeDecodeError as error:
        reading.problems.append(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        # The parser's own words may quote the file; its position does not.
        position = _TOML_POSITION.search(str(error))
        where = f" ({position[1]})" if position else ""
        reading.problems.append(f"{path}: is not valid TOML{where}; correct it there")
    except (ValueError, RecursionError):
        reading.problems.append(f"{path}: is not valid TOML; correct the file")
    return {}


def _read_claude_settings(folders: Iterable[Path], reading: _Reading) -> Iterator[_Source]:
    for folder in folders:
        try:
            block = claude_settings.read_env(folder)
        except claude_settings.UnreadableFileError as error:
            reading.problems.append(f"{error.path}: {error.reason}; correct the file, Claude Code reads it too")
        else:
            values = {s.name: block[s.variable] for s in SETTINGS if s.in_claude_settings and s.variable in block}
            yield _Source(label=str(folder / "settings.json"), values=values)


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Warn of a misspelled variable: left unsaid, a privacy setting would seem to hold."""
    known = [setting.variable for setting in SETTINGS]
    for name in sorted(environ):
        if name.startswith("POSTHOG_LLMA_") and name not in known:
            guess = difflib.get_close_matches(name, known, n=1)
            yield f"{name} (environment): no such setting" + (f"; did you mean {guess[0]}?" if guess else "")


def _check_key(reading: _Reading) -> None:
    key = reading.values["api_key"]
    if isinstance(key, Secret) and not key.reveal().startswith("phc_"):
        label = reading.sources["api_key"]
        reading.warnings.append(f"POSTHOG_API_KEY ({label}): does not start with phc_ as project API keys do")


def _check_custom_properties(reading: _Reading) -> None:
    """Leave out custom properties that would replace what the daemon itself says of an event."""
    properties = reading.values["custom_properties"]
    assert isinstance(properties, Mapping)
    refused = events.refused_properties(properties)
    for name in sorted(refused):
        label = reading.sources["custom_properties"]
        what = f"{_shown(name)} is the daemon's to set and was left out; give it another name"
        reading.warnings.append(f"POSTHOG_LLMA_CUSTOM_PROPERTIES ({label}): {what}")
    kept = {name: value for name, value in properties.items() if name not in refused}
    reading.values["custom_properties"] = MappingProxyType(kept)
