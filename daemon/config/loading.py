"""Reads all settings from all their sources, and reports all problems at once."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import platformdirs

from daemon.config import claude_settings, parsers
from daemon.config.settings import ConfigError, ProjectTable, Settings
from daemon.config.table import APP_NAME, SETTINGS, Setting, key_of
from daemon.system.messages import one_line, system_reason
from daemon.system.secret import Secret
from daemon.system.small_file import UnreadableFileError, read_regular
from llma_core.properties import refused_properties

__all__ = ["default_config_file", "load", "read_block"]


# Unknown names are echoed up to this length.
_MAX_NAME_LENGTH = 60
_TOML_POSITION = re.compile(r"\(at (line \d+, column \d+|end of document)\)\Z")
_READABLE_BY_OTHERS = 0o044


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One source of settings.

    Attributes:
        label: the source's name in messages.
        values: its values, by field name.
        is_config: whether it is config.toml, above its tables.
    """

    label: str
    values: Mapping[str, object]
    is_config: bool = False


@dataclass(slots=True, kw_only=True)
class _Reading:
    """The values read so far, with their sources, and the problems and warnings."""

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, setting: Setting, places: Sequence[_Source], context: parsers.Context) -> None:
        """Take *setting* from the first of *places* that sets it, else its default."""
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
        flags: values from the command line by field name; None means that the flag was not given.
        environ: the environment.
        config_file: the config.toml to read instead of the user's. It may be missing.
        home: the folder that `~` stands for; the user's home if not given.

    Raises:
        ConfigError: at least one value or file cannot be used. It lists all problems.
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

    # These two settings decide how the others are read.
    reading.read(table["claude_config_dirs"], places, parsers.Context(home=home))
    folders = reading.values.get("claude_config_dirs", ())
    places.extend(_read_claude_settings(folders if isinstance(folders, tuple) else (), reading))
    reading.read(table["allow_custom_host"], places, parsers.Context(home=home))
    # If the permission cannot be read, report that, and not also the host that needs it.
    context = parsers.Context(home=home, allow_custom_host=bool(reading.values.get("allow_custom_host", True)))
    for setting in SETTINGS:
        if setting.name not in reading.sources:
            reading.read(setting, places, context)
    projects = tuple(_read_table(path, source, reading, context) for path, source in tables)

    if reading.problems:
        raise ConfigError(reading.problems)
    values: dict[str, Any] = reading.values
    reading.warnings.extend(_warn_of_key_form(values["api_key"], reading.sources["api_key"]))
    for project in projects:
        reading.warnings.extend(_warn_of_key_form(project.values.get("api_key"), project.label))
    values["custom_properties"] = _allowed_properties(
        values["custom_properties"], reading.sources["custom_properties"], reading.warnings
    )
    return Settings(
        **values,
        projects=projects,
        config_file=config_file,
        warnings=tuple(one_line(warning) for warning in reading.warnings),
        sources=MappingProxyType(reading.sources),
    )


_Table = tuple[tuple[str, ...], _Source]
"""A `[[project]]` table before its values are parsed: its path, and the table as a source."""


def _read_config(path: Path, reading: _Reading) -> tuple[_Source, list[_Table]]:
    """Read config.toml, and add every problem of the file to *reading*."""
    document = dict(_parse_config(path, reading))
    tables = _find_tables(document.pop("project", []), path, reading)
    values = _by_name(document, str(path), reading)
    secret = [setting.name for setting in SETTINGS if setting.secret]
    if any(map(values.get, secret)) or any(table.values.get("api_key") for _, table in tables):
        try:
            open_to_others = path.stat().st_mode & _READABLE_BY_OTHERS
        except OSError as error:
            reading.problems.append(f"{path}: cannot be read ({system_reason(error)}); restore it and try again")
        else:
            if open_to_others:
                fix = f"`chmod 600 {shlex.quote(str(path))}`"
                reading.problems.append(f"{path}: contains a key and can be read by other users; run {fix}")
    return _Source(label=str(path), values=values, is_config=True), tables


def _by_name(document: Mapping[str, object], label: str, reading: _Reading) -> dict[str, object]:
    """Return the values of a table of config.toml by field name."""
    values: dict[str, object] = {}
    keys = {key: setting for setting in SETTINGS for key in (setting.key, *setting.aliases)}
    for key, value in document.items():
        if key not in keys:
            guess = parsers.nearest(key_of(key), keys)
            advice = f"did you mean {guess}?" if guess else f"remove it; `{APP_NAME} config` lists all settings"
            reading.problems.append(f"{label}: unknown setting {parsers.shown(key)}; {advice}")
        elif keys[key].name in values:
            reading.problems.append(
                f"{label}: {keys[key].key} is set twice, also as {parsers.shown(key)}; remove one of them"
            )
        else:
            values[keys[key].name] = value
    return values


def _find_tables(tables: object, path: Path, reading: _Reading) -> list[_Table]:
    found: list[_Table] = []
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        reading.problems.append(f"{path}: project is not a list of tables; start each table with the line [[project]]")
        return found
    for number, table in enumerate(tables, start=1):
        label = f"{path}, [[project]] {number}"
        contents = dict(table)
        paths = contents.pop("path", None)
        patterns = tuple(paths) if isinstance(paths, list) else (paths,)
        if not patterns or not all(isinstance(each, str) and each.strip() and "\0" not in each for each in patterns):
            reading.problems.append(f'{label}: path names no folder; set one, such as path = "~/work/**"')
            continue
        values = _by_name(contents, label, reading)
        for setting in SETTINGS:
            if setting.name in values and not setting.in_project:
                del values[setting.name]
                problem = f"{setting.key} cannot be set for one project; set it above all tables"
                reading.problems.append(f"{label}: {problem}")
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
    """Read the settings in the `env` block of a project's own settings file.

    Args:
        block: the block, as strings.
        names: the fields of Settings that a project's file may set. Other settings have no effect there.
        label: the file's name in messages.
        allow_custom_host: whether the host may be one that is not PostHog's.

    Returns:
        The values by field name, and one warning for each thing that could be read but was left out.

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
    return values, tuple(one_line(warning) for warning in reading.warnings)


def _parse_config(path: Path, reading: _Reading) -> Mapping[str, object]:
    try:
        data = read_regular(path)
        # utf-8-sig: some editors on other systems start a file with a byte order mark.
        return {} if data is None else tomllib.loads(data.decode("utf-8-sig"))
    except UnreadableFileError as error:
        reading.problems.append(f"{path}: {error.reason}; correct or remove the file")
    except UnicodeDecodeError as error:
        reading.problems.append(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        # The parser's message may quote the file. The position in it is safe to repeat.
        position = _TOML_POSITION.search(str(error))
        where = f" ({position[1]})" if position else ""
        reading.problems.append(f"{path}: is not valid TOML{where}; correct the file")
    except (ValueError, RecursionError):
        reading.problems.append(f"{path}: is not valid TOML; correct the file")
    return {}


def _read_claude_settings(folders: Iterable[Path], reading: _Reading) -> Iterator[_Source]:
    for folder in folders:
        try:
            block = claude_settings.read_env(folder)
        except UnreadableFileError as error:
            reading.problems.append(f"{error.path}: {error.reason}; correct the file (Claude Code reads it too)")
        else:
            values = {s.name: block[s.variable] for s in SETTINGS if s.in_claude_settings and s.variable in block}
            label = str(folder / "settings.json")
            reading.warnings.extend(_unknown_variables(block, label))
            yield _Source(label=label, values=values)


def _unknown_variables(names: Iterable[str], label: str = "environment") -> Iterator[str]:
    """Warn about misspelled variables: without a warning, a misspelled privacy setting would seem to be in effect."""
    # POSTHOG_LLMA_PROPERTIES_FILE is not a setting. `exec` passes it to the command that it runs.
    known = [*(setting.variable for setting in SETTINGS), "POSTHOG_LLMA_PROPERTIES_FILE"]
    for name in sorted(names):
        if name.startswith("POSTHOG_LLMA_") and name not in known:
            guess = parsers.nearest(name, known)
            advice = f"; did you mean {guess}?" if guess else ""
            yield f"{name[:_MAX_NAME_LENGTH]} ({label}): no such setting{advice}"


def _warn_of_key_form(key: Secret | None, label: str) -> Iterator[str]:
    if key is not None and not key.reveal().startswith("phc_"):
        yield f"POSTHOG_API_KEY ({label}): does not start with phc_, as project API keys do"


def _allowed_properties(properties: Mapping[str, Any], label: str, warnings: list[str]) -> Mapping[str, Any]:
    """Leave out custom properties that would replace the daemon's own, with one warning each."""
    refused = refused_properties(properties)
    for name in sorted(refused):
        problem = f"{parsers.shown(name)} is a property that the daemon sets, so yours was left out; rename it"
        warnings.append(f"POSTHOG_LLMA_CUSTOM_PROPERTIES ({label}): {problem}")
    return MappingProxyType({name: value for name, value in properties.items() if name not in refused})
