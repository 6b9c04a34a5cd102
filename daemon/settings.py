"""The settings: each declared once in a table, all read at once, all problems reported together.

Precedence, first one wins: flag, environment, config.toml, the `env` block of Claude Code's user settings, default.
An empty or blank string, and an empty list, count as unset wherever they stand. What holds for the sessions of one
project, by the `[[project]]` tables of config.toml and the project's own files, is worked out in project_settings.py.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import platformdirs

from daemon import claude_settings, parsers
from daemon.parsers import Enabled
from daemon.secret import Secret
from llma_core import events
from llma_core.privacy import ContentLevel

__all__ = [
    "APP_NAME",
    "SETTINGS",
    "ConfigError",
    "Enabled",
    "Entry",
    "ProjectTable",
    "Secret",
    "Setting",
    "Settings",
    "default_config_file",
    "load",
    "read_block",
]

APP_NAME = "posthog-llma-daemon"

# Names that are none of ours are repeated up to here.
_MAX_NAME_LENGTH = 60

_TOML_POSITION = re.compile(r"\(at (line \d+, column \d+|end of document)\)\Z")
_READABLE_BY_OTHERS = 0o044


class ConfigError(Exception):
    """The configuration cannot be used. For the user: shown without a traceback, exit code 78.

    Attributes:
        problems: everything that is wrong, one line each: what, from where, what to do. Never a secret value.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(parsers.one_line(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


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
        in_project: whether it can hold for one project alone.
    """

    name: str
    variable: str
    parse: parsers.Parser
    default: str | None
    help: str
    secret: bool = False
    aliases: tuple[str, ...] = ()
    compute: Callable[[Path], object] | None = None
    in_claude_settings: bool = True
    in_project: bool = True

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
class ProjectTable:
    """One `[[project]]` table of config.toml: settings that hold for the sessions begun in some folders.

    Attributes:
        path: patterns of those folders, as `include` has them.
        values: what it gives, by field name.
        label: names the table to people.
    """

    path: tuple[str, ...]
    values: Mapping[str, Any]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a user can set, checked. Built by load().

    Attributes:
        api_key: project API key, or None.
        enabled: the user's word that sessions may be sent; "projects" (in config.toml only): those whose own project
            enables itself.
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
        plugin_status_file: whether the status file of PostHog's plugin is kept.
        projects: the `[[project]]` tables, in their order.
        config_file: the config.toml that was, or would have been, read.
        warnings: one line each on what was left out although all could be read.
        sources: where each value came from, by field name.
    """

    api_key: Secret | None
    enabled: Enabled
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
    plugin_status_file: bool
    projects: tuple[ProjectTable, ...] = ()
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

    def pairs(self) -> Iterator[tuple[str, Secret]]:
        """Give every host and key that the user's own configuration sends to, the user-wide ones first."""
        for values in ({}, *(table.values for table in self.projects)):
            key = values.get("api_key", self.api_key)
            if key is not None:
                yield values.get("host", self.host), key

    def why_disabled(self) -> str | None:
        """Return in one line what to set before anything is sent, or None when some session may be."""
        if self.opt_out:
            return f"OPT_OUT_CAPTURE is set ({self.source('opt_out')}), so nothing is sent; unset it to send"
        if self.enabled == "projects" or any(
            table.values.get("enabled", self.enabled) and table.values.get("api_key", self.api_key)
            for table in self.projects
        ):
            return None
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
        return f"sending is not set up: `{APP_NAME} login` does it, or set {' and '.join(missing)} in {places}"

    def require_enabled(self) -> None:
        """Make sure that some session may be sent.

        Raises:
            ConfigError: none may; the one problem says what to set.
        """
        if (reason := self.why_disabled()) is not None:
            raise ConfigError([reason])


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
        parse=parsers.api_key,
        default=None,
        help="Project API key (phc_…).",
        secret=True,
    ),
    Setting(
        name="enabled",
        variable="POSTHOG_LLMA_CC_ENABLED",
        parse=parsers.enabled,
        default="false",
        help="Nothing is sent unless true.",
        aliases=("enabled",),
    ),
    Setting(
        name="host",
        variable="POSTHOG_HOST",
        parse=parsers.host,
        default="https://us.i.posthog.com",
        help="PostHog's ingestion host; the us., eu. and app. web hosts become theirs.",
    ),
    Setting(
        name="allow_custom_host",
        variable="POSTHOG_LLMA_ALLOW_CUSTOM_HOST",
        parse=parsers.boolean,
        default="false",
        help="Allow a host other than posthog.com, its subdomains and loopback; always over https.",
        in_project=False,
    ),
    Setting(
        name="privacy_mode",
        variable="POSTHOG_LLMA_PRIVACY_MODE",
        parse=parsers.boolean,
        default="false",
        help="Send no content: the same as POSTHOG_LLMA_CONTENT=metadata, whatever that says.",
    ),
    Setting(
        name="content",
        variable="POSTHOG_LLMA_CONTENT",
        parse=parsers.choice("full", "no_tool_content", "metadata"),
        default="full",
        help="How much content leaves the machine: full, no_tool_content or metadata.",
    ),
    Setting(
        name="redact_secrets",
        variable="POSTHOG_LLMA_REDACT_SECRETS",
        parse=parsers.boolean,
        default="true",
        help="Replace keys, tokens and passwords in what is sent.",
        in_project=False,
    ),
    Setting(
        name="distinct_id",
        variable="POSTHOG_LLMA_DISTINCT_ID",
        parse=parsers.distinct_id,
        default=None,
        help="Person the events belong to; unset: git's user e-mail of the session's repository.",
    ),
    Setting(
        name="trace_grouping",
        variable="POSTHOG_LLMA_TRACE_GROUPING",
        parse=parsers.choice("session", "message"),
        default="session",
        help="What one trace is: a session, or one prompt (message).",
    ),
    Setting(
        name="input",
        variable="POSTHOG_LLMA_INPUT",
        parse=parsers.choice("delta", "prompt", "full"),
        default="delta",
        help="A generation's input: the messages added since the one before (delta), the human prompt only, or the "
        "whole request with its system prompt and tools (full).",
    ),
    Setting(
        name="max_attribute_length",
        variable="POSTHOG_LLMA_MAX_ATTRIBUTE_LENGTH",
        parse=parsers.attribute_length,
        default="12000",
        help="Characters kept of each string of tool content.",
    ),
    Setting(
        name="custom_properties",
        variable="POSTHOG_LLMA_CUSTOM_PROPERTIES",
        parse=parsers.json_object,
        default="{}",
        help="JSON object of properties added to every event; a table in config.toml.",
    ),
    Setting(
        name="include",
        variable="POSTHOG_LLMA_INCLUDE",
        parse=parsers.patterns,
        default=None,
        help="Folders to follow, as patterns separated by commas or line ends; a list in config.toml. Unset: all.",
        compute=lambda _: (),
    ),
    Setting(
        name="exclude",
        variable="POSTHOG_LLMA_EXCLUDE",
        parse=parsers.patterns,
        default=None,
        help="Folders never to send from, written like include; wins over it.",
        compute=lambda _: (),
    ),
    Setting(
        name="purpose",
        variable="POSTHOG_AI_PURPOSE",
        parse=parsers.purpose,
        default=None,
        help="What the sessions are for, such as authoring or review.",
    ),
    Setting(
        name="state_dir",
        variable="POSTHOG_LLMA_STATE_DIR",
        parse=parsers.folder,
        default="the user's state folder",
        help="Where the daemon keeps its own files.",
        compute=_default_state_dir,
        in_project=False,
    ),
    Setting(
        name="session_timeout",
        variable="POSTHOG_LLMA_SESSION_TIMEOUT",
        parse=parsers.seconds,
        default="3600",
        help="Seconds of quiet after which a session without a live process has ended.",
        in_project=False,
    ),
    Setting(
        name="claude_config_dirs",
        variable="CLAUDE_CONFIG_DIR",
        parse=parsers.folders,
        default="~/.claude",
        help="Claude Code's folders, separated like PATH; unset: also ~/.config/claude where it has projects/.",
        compute=_default_config_dirs,
        # The file to read stands in this folder, so it cannot say where the folder is.
        in_claude_settings=False,
        in_project=False,
    ),
    Setting(
        name="plugin_status_file",
        variable="POSTHOG_LLMA_PLUGIN_STATUS_FILE",
        parse=parsers.boolean,
        default="false",
        help="Keep posthog-llma-status.json in Claude Code's folder, which PostHog's plugin reads.",
        in_project=False,
    ),
    Setting(
        name="opt_out",
        variable="OPT_OUT_CAPTURE",
        parse=parsers.boolean,
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
    is_config: bool = False


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What was read so far, and what was wrong with it."""

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, setting: Setting, places: Sequence[_Source], context: parsers.Context) -> None:
        """Take *setting* from the first of *places* that gives it, else its default."""
        for place in places:
            value = place.values.get(setting.name)
            if _is_unset(value):
                continue
            label = f"flag {setting.flag}" if place.label == "flag" else place.label
            try:
                self.values[setting.name] = setting.parse(value, replace(context, in_config=place.is_config))
            except ValueError as error:
                self.problems.append(f"{setting.variable} ({label}): {error}")
            self.sources[setting.name] = label
            return
        if setting.compute is not None:
            self.values[setting.name] = setting.compute(context.home)
        else:
            self.values[setting.name] = None if setting.default is None else setting.parse(setting.default, context)
        self.sources[setting.name] = "default"


def _is_unset(value: object) -> bool:
    return value is None or value in ([], ()) or (isinstance(value, str) and not value.strip())


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
    config, tables = _read_config(config_file, reading)
    places = [
        _Source(label="flag", values=flags),
        _Source(label="environment", values={s.name: environ[s.variable] for s in SETTINGS if s.variable in environ}),
        config,
    ]
    reading.warnings.extend(_unknown_variables(environ))

    # These two decide how the others are read.
    reading.read(table["claude_config_dirs"], places, parsers.Context(home=home))
    folders = reading.values.get("claude_config_dirs", ())
    places.extend(_read_claude_settings(folders if isinstance(folders, tuple) else (), reading))
    reading.read(table["allow_custom_host"], places, parsers.Context(home=home))
    # Where the permission cannot be read that is the problem to report, not the host that waits for it.
    context = parsers.Context(home=home, allow_custom_host=bool(reading.values.get("allow_custom_host", True)))
    for setting in SETTINGS:
        if setting.name not in reading.sources:
            reading.read(setting, places, context)
    projects = tuple(_read_table(path, source, reading, context) for path, source in tables)

    if reading.problems:
        raise ConfigError(reading.problems)
    values: dict[str, Any] = reading.values
    reading.warnings.extend(_odd_key(values["api_key"], reading.sources["api_key"]))
    for project in projects:
        reading.warnings.extend(_odd_key(project.values.get("api_key"), project.label))
    values["custom_properties"] = _allowed_properties(
        values["custom_properties"], reading.sources["custom_properties"], reading.warnings
    )
    return Settings(
        **values,
        projects=projects,
        config_file=config_file,
        warnings=tuple(parsers.one_line(warning) for warning in reading.warnings),
        sources=MappingProxyType(reading.sources),
    )


_Table = tuple[tuple[str, ...], _Source]
"""A `[[project]]` table as it stands there: its path and what it gives."""


def _read_config(path: Path, reading: _Reading) -> tuple[_Source, list[_Table]]:
    """Read config.toml; every problem of the file goes to *reading*."""
    document = dict(_parse_config(path, reading))
    tables = _find_tables(document.pop("project", []), path, reading)
    values = _by_name(document, str(path), reading)
    if values.get("api_key") or any(table.values.get("api_key") for _, table in tables):
        try:
            open_to_others = path.stat().st_mode & _READABLE_BY_OTHERS
        except OSError as error:
            reading.problems.append(f"{path}: cannot be looked at ({error.strerror}); give it back and try again")
        else:
            if open_to_others:
                fix = f"`chmod 600 {shlex.quote(str(path))}`"
                reading.problems.append(f"{path}: holds a key and can be read by other users; run {fix}")
    return _Source(label=str(path), values=values, is_config=True), tables


def _by_name(document: Mapping[str, object], label: str, reading: _Reading) -> dict[str, object]:
    """Sort what a table of config.toml holds by field name."""
    values: dict[str, object] = {}
    keys = {key: setting for setting in SETTINGS for key in (setting.key, *setting.aliases)}
    for key, value in document.items():
        if key not in keys:
            guess = parsers.nearest(_key_of(key), keys)
            advice = f"did you mean {guess}?" if guess else f"remove it; `{APP_NAME} config` lists what there is"
            reading.problems.append(f"{label}: unknown setting {parsers.shown(key)}; {advice}")
        elif keys[key].name in values:
            reading.problems.append(
                f"{label}: {keys[key].key} is given twice, also as {parsers.shown(key)}; remove one"
            )
        else:
            values[keys[key].name] = value
    return values


def _find_tables(tables: object, path: Path, reading: _Reading) -> list[_Table]:
    found: list[_Table] = []
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        reading.problems.append(f"{path}: project is not a list of tables; write each one below a line [[project]]")
        return found
    for number, table in enumerate(tables, start=1):
        label = f"{path}, [[project]] {number}"
        given = dict(table)
        paths = given.pop("path", None)
        patterns = tuple(paths) if isinstance(paths, list) else (paths,)
        if not patterns or not all(isinstance(each, str) and each.strip() and "\0" not in each for each in patterns):
            reading.problems.append(f'{label}: path names no folder; set one such as path = "~/work/**"')
            continue
        values = _by_name(given, label, reading)
        for setting in SETTINGS:
            if setting.name in values and not setting.in_project:
                del values[setting.name]
                reading.problems.append(f"{label}: {setting.key} cannot hold for one project; set it above all tables")
        found.append((tuple(each.strip() for each in patterns), _Source(label=label, values=values)))
    return found


def _read_table(path: tuple[str, ...], source: _Source, reading: _Reading, context: parsers.Context) -> ProjectTable:
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        value = source.values.get(setting.name)
        if _is_unset(value):
            continue
        try:
            values[setting.name] = setting.parse(value, context)
        except ValueError as error:
            reading.problems.append(f"{setting.variable} ({source.label}): {error}")
    if "custom_properties" in values:
        values["custom_properties"] = _allowed_properties(values["custom_properties"], source.label, reading.warnings)
    return ProjectTable(path=path, values=MappingProxyType(values), label=source.label)


def read_block(
    block: Mapping[str, str], names: Collection[str], *, label: str, allow_custom_host: bool
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Read settings out of the `env` block of a project's own settings file.

    Args:
        block: the block, as strings.
        names: the fields of Settings that count there; other variables are left alone.
        label: names the file to people.
        allow_custom_host: whether a host may be one that is not PostHog's.

    Returns:
        The values by field name, and one warning for each thing that was left out although it could be read.

    Raises:
        ConfigError: a value cannot be read.
    """
    context = parsers.Context(home=Path.home(), allow_custom_host=allow_custom_host)
    reading = _Reading()
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        value = block.get(setting.variable)
        if _is_unset(value):
            continue
        if setting.name not in names:
            reading.warnings.append(f"{setting.variable} ({label}): has no effect in this file")
            continue
        try:
            values[setting.name] = setting.parse(value, context)
        except ValueError as error:
            reading.problems.append(f"{setting.variable} ({label}): {error}")
    if reading.problems:
        raise ConfigError(reading.problems)
    if "custom_properties" in values:
        values["custom_properties"] = _allowed_properties(values["custom_properties"], label, reading.warnings)
    reading.warnings.extend(_unknown_variables(block, label))
    return values, tuple(parsers.one_line(warning) for warning in reading.warnings)


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
            label = str(folder / "settings.json")
            reading.warnings.extend(_unknown_variables(block, label))
            yield _Source(label=label, values=values)


def _unknown_variables(names: Iterable[str], label: str = "environment") -> Iterator[str]:
    """Warn of a misspelled variable: left unsaid, a privacy setting would seem to hold."""
    # The second is no setting: `exec` gives it to the command it runs.
    known = [*(setting.variable for setting in SETTINGS), "POSTHOG_LLMA_PROPERTIES_FILE"]
    for name in sorted(names):
        if name.startswith("POSTHOG_LLMA_") and name not in known:
            guess = parsers.nearest(name, known)
            advice = f"; did you mean {guess}?" if guess else ""
            yield f"{name[:_MAX_NAME_LENGTH]} ({label}): no such setting{advice}"


def _odd_key(key: Secret | None, label: str) -> Iterator[str]:
    if key is not None and not key.reveal().startswith("phc_"):
        yield f"POSTHOG_API_KEY ({label}): does not start with phc_ as project API keys do"


def _allowed_properties(properties: Mapping[str, Any], label: str, warnings: list[str]) -> Mapping[str, Any]:
    """Leave out custom properties that would replace what the daemon itself says of an event."""
    refused = events.refused_properties(properties)
    for name in sorted(refused):
        what = f"{parsers.shown(name)} is the daemon's to set and was left out; give it another name"
        warnings.append(f"POSTHOG_LLMA_CUSTOM_PROPERTIES ({label}): {what}")
    return MappingProxyType({name: value for name, value in properties.items() if name not in refused})
