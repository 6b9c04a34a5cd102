"""The settings of one project: the user's settings, with `[[project]]` tables and the project's own files applied.

A `[[project]]` table is the user's own configuration, so it overrides the user-wide settings. If several tables match,
the first one that sets a value wins. Only `exclude` accumulates, so that no table opens a folder by accident.

The project's files are `.claude/settings.local.json` and `.claude/settings.json` in the folder where a session began.
A repository can bring them, so both can only make settings stricter, and add properties that nobody else sets.
`settings.local.json` can also ask for a host or a key; routing.py decides whether that counts. If a file cannot be
used, the previous settings stay in effect. If there are none, nobody knows what the file would make stricter, so the
project's sessions wait.

Limits that the files set for a session, its restraint, stay for the whole session. An agent can write to the folder it
works in, and must not be able to send more than was allowed when its session began. A file that becomes less strict
takes effect with the next session.

Prices and names by which costs are told apart come from the user only: a repository must not be able to falsify them.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from daemon.config.claude_settings import env_block
from daemon.config.loading import read_block
from daemon.config.parsers import shown
from daemon.config.patterns import Folders
from daemon.config.restraint import UNRESTRAINED, Restraint, stricter
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import SETTINGS
from daemon.system import disk
from daemon.system.messages import one_line, system_reason
from daemon.system.small_file import UnreadableFileError, read_with_status
from llma_core.properties import users_properties

__all__ = ["FOLDER", "LOCAL_FILE", "SHARED_FILE", "InvalidProjectError", "Project", "Projects", "RouteRequest"]

FOLDER = ".claude"
"""The folder of a project's settings files, relative to the project."""
LOCAL_FILE = "settings.local.json"
"""The user's own settings for a project. Git should ignore this file."""
SHARED_FILE = "settings.json"
"""The settings that a project brings along."""
_EITHER = frozenset(
    {
        "content",
        "custom_properties",
        "enabled",
        "exclude",
        "include",
        "input",
        "max_attribute_length",
        "opt_out",
        "privacy_mode",
        "purpose",
    }
)
_ROUTE = ("host", "api_key")
_COUNTED = {LOCAL_FILE: _EITHER | {*_ROUTE}, SHARED_FILE: _EITHER}
_VARIABLES = {setting.name: setting.variable for setting in SETTINGS}
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_CAPACITY = 256


class InvalidProjectError(Exception):
    """A project's settings cannot be used. The message is one line: which file, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """A host or key that a `settings.local.json` asks for, instead of the user's own.

    Attributes:
        path: the file.
        changed_at: when it was last changed, in milliseconds since the epoch. This includes the change time (ctime),
            which no program can set.
        doubt: why the file may not be the user's own, and what to do about it; None if there is no doubt.
    """

    path: Path
    changed_at: int
    doubt: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The settings for the sessions that begin in one folder.

    Attributes:
        settings: every setting as it applies there, with its source. `enabled` is True or False.
        folders: rules for which folders may be sent. Every rule must allow a folder.
        restraint: what the project's files make stricter. *settings* and *folders* include it.
        route_request: set if *settings* has a host or key that the project's own file asks for.
        warnings: one line for each setting in the project's files that has no effect.
    """

    settings: Settings
    folders: tuple[Folders, ...]
    restraint: Restraint = UNRESTRAINED
    route_request: RouteRequest | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_off(self) -> bool:
        """Whether nothing of the project's sessions may be sent."""
        return self.settings.enabled is not True or self.settings.opt_out

    def allows(self, *folders: str | None) -> bool:
        """Whether events of all *folders* may be sent."""
        return not self.is_off and all(rule.allow(folder) for rule in self.folders for folder in folders)

    def under(self, restraint: Restraint) -> Project:
        """Return the settings for a session with *restraint*, which is at least as strict as the project's own."""
        if restraint == self.restraint:
            return self
        settings = _restrained(self.settings, restraint, "the settings in effect when the session began")
        folders = (*self.folders, *(Folders(include=each) for each in restraint.include))
        if restraint.exclude:
            folders = (*folders, Folders(exclude=restraint.exclude))
        return replace(self, settings=settings, folders=folders, restraint=restraint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    values: Mapping[str, Any]
    warnings: tuple[str, ...]
    status: os.stat_result


class Projects:
    """Works out the settings of projects, again whenever a project's file has changed. Belongs to one thread.

    Args:
        settings: the user's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._own_folders = {os.path.realpath(path) for path in settings.claude_config_dirs}
        self._tables = [(Folders(include=table.path), table) for table in settings.projects]
        self._known: OrderedDict[str | None, tuple[object, Project]] = OrderedDict()
        self._seen: dict[str | None, tuple[object, ...]] = {}

    @contextmanager
    def looking_at(self, folders: Iterable[str]) -> Iterator[None]:
        """Look at the files of many projects at once, so that `of` need not ask the disk about them in this context."""

        def look() -> dict[str | None, tuple[object, ...]]:
            seen: dict[str | None, tuple[object, ...]] = {}
            for folder in dict.fromkeys(folders):
                with suppress(disk.Unanswered):
                    disk.at(folder)
                    seen[folder] = _signature(folder)
            return seen

        try:
            # `of` asks about a folder itself that has not answered, and says so.
            with suppress(disk.Unanswered):
                self._seen = disk.call("the files of projects", look)
            yield
        finally:
            self._seen = {}

    def of(self, folder: str | None) -> Project:
        """Return the settings for the sessions that begin in *folder*, as logged; None if the folder is not known.

        Raises:
            InvalidProjectError: one of the project's own files cannot be used, and there are no previous settings.
            disk.Unanswered: the folder does not answer.
        """
        signature = self._seen.get(folder)
        if signature is None:
            signature = disk.call(folder or "no folder", partial(_signature, folder))
        known = self._known.get(folder)
        if known is not None and known[0] == signature:
            self._known.move_to_end(folder)
            return known[1]
        try:
            project = self._work_out(folder, has_files=any(signature))
        except InvalidProjectError as error:
            if known is None:
                raise
            project = replace(known[1], warnings=(f"{error}; until then the previous settings stay in effect",))
        self._known[folder] = (signature, project)
        self._known.move_to_end(folder)
        while len(self._known) > _CAPACITY:
            self._known.popitem(last=False)
        return project

    def _work_out(self, folder: str | None, *, has_files: bool) -> Project:
        settings, set_by_tables = self._with_tables(folder)
        own = Project(settings=settings, folders=(Folders(settings.include, settings.exclude),))
        # If the user has switched the project off, its files do not matter.
        reachable = settings.enabled and not settings.opt_out and own.folders[0].allow(folder)
        files = self._read_files(Path(folder)) if folder and has_files and reachable else []
        warnings = self._warn_of_enabling(settings, Path(folder)) if folder and has_files else []
        settings = _with_enabled_decided(settings, files)
        # A project that the user has switched off is not restrained: the user can switch it on again at any time.
        restraint = Restraint(off=bool(folder and reachable and not settings.enabled))
        for file in files:
            limits, loosening_warnings = _restraint_of(file, settings)
            restraint = restraint.also(limits)
            settings = _restrained(settings, limits, str(file.path))
            settings, property_warnings = _with_properties(settings, file)
            warnings += (*file.warnings, *loosening_warnings, *property_warnings)
        settings, route_request, route_warnings = _with_route_request(settings, set_by_tables, files)
        warnings += route_warnings
        folders = [Folders(settings.include, settings.exclude)]
        folders += [Folders(include=each) for each in restraint.include]
        if restraint.exclude:
            folders.append(Folders(exclude=restraint.exclude))
        return Project(
            settings=settings,
            folders=tuple(folders),
            restraint=restraint,
            route_request=route_request,
            warnings=tuple(one_line(warning) for warning in warnings),
        )

    def _read_files(self, folder: Path) -> list[_File]:
        """Read those of the project's own files that exist, `settings.local.json` first.

        Raises:
            InvalidProjectError: a file cannot be used.
        """
        files = []
        for name, counted in _COUNTED.items():
            path = folder / FOLDER / name
            real = disk.call(str(folder), partial(os.path.realpath, path.parent))
            if name == SHARED_FILE and real in self._own_folders:
                # The session began in the home folder: this is the user's own file, and loading.py has read it.
                continue
            try:
                found = read_with_status(path)
                if found is None:
                    continue
                data, status = found
                block = env_block(path, data)
                allow_custom_host = self._settings.allow_custom_host
                values, warnings = read_block(block, counted, label=str(path), allow_custom_host=allow_custom_host)
            except UnreadableFileError as error:
                raise InvalidProjectError(one_line(f"{error.path}: {error.reason}; correct or remove it")) from None
            except ConfigError as error:
                raise InvalidProjectError("; ".join(error.problems)) from None
            files.append(_File(path=path, values=values, warnings=warnings, status=status))
        return files

    def _warn_of_enabling(self, settings: Settings, folder: Path) -> list[str]:
        """Warn of files that enable a project although the user has not. Their other settings do not matter then."""
        if settings.enabled:
            return []
        try:
            files = self._read_files(folder)
        except InvalidProjectError:
            return []
        return [
            f"{_VARIABLES['enabled']} ({file.path}): has no effect: {settings.source('enabled')} overrides it; "
            'to let projects decide, set enabled = "projects" in config.toml, above its tables'
            for file in files
            if file.values.get("enabled")
        ]

    def _with_tables(self, folder: str | None) -> tuple[Settings, frozenset[str]]:
        """Apply the tables that match to the user-wide settings. Also return the names of the settings they set."""
        settings = self._settings
        given: dict[str, Any] = {}
        for matcher, table in self._tables:
            if folder and matcher.allow(folder):
                fresh = {name: value for name, value in table.values.items() if name not in given or name == "exclude"}
                if "exclude" in fresh:
                    fresh["exclude"] = (*settings.exclude, *fresh["exclude"])
                if settings.opt_out:
                    fresh.pop("opt_out", None)
                settings = _changed(settings, fresh, table.label, adds=("exclude",))
                given |= fresh
        return settings, frozenset(given)


def _signature(folder: str | None) -> tuple[object, ...]:
    """Return a value that changes with a project's files. Without files, it contains only None."""
    if not folder or not folder.startswith("/"):
        return ()
    place = f"{folder}/{FOLDER}"
    looks = [(os.lstat, place)]
    for name in (LOCAL_FILE, SHARED_FILE):
        looks += [(os.lstat, f"{place}/{name}"), (os.stat, f"{place}/{name}")]
    found: list[object] = []
    for look, path in looks:
        try:
            status = look(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            # ValueError: the path contains a NUL or a lone surrogate. No folder does.
            if path == place:
                # Nothing can be in it. Most projects have none.
                return (None,) * len(looks)
            found.append(None)
        except OSError as error:
            found.append(error.errno)
        else:
            found.append(
                (
                    status.st_dev,
                    status.st_ino,
                    status.st_mode,
                    status.st_uid,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                )
                if path != place
                # The folder's own times also change with other files in it.
                else (status.st_dev, status.st_ino, status.st_mode, status.st_uid)
            )
    return tuple(found)


def _changed(settings: Settings, values: Mapping[str, Any], label: str, adds: Collection[str] = ()) -> Settings:
    """Return *settings* with *values* from the source *label*. Values named in *adds* include the previous value."""
    if not values:
        return settings
    sources = dict(settings.sources)
    for name in values:
        stays = name in adds and getattr(settings, name)
        sources[name] = f"{sources[name]} and {label}" if stays else label
    return replace(settings, **values, sources=MappingProxyType(sources))


def _with_enabled_decided(settings: Settings, files: Sequence[_File]) -> Settings:
    """Decide whether the project is on. A file can always switch it off. It can switch it on if the user permits."""
    for file in files:
        if file.values.get("enabled") is False:
            return _changed(settings, {"enabled": False}, str(file.path))
    if settings.enabled != "projects":
        return settings
    for file in files:
        if file.values.get("enabled"):
            return _changed(settings, {"enabled": True}, str(file.path))
    return replace(settings, enabled=False)


def _restraint_of(file: _File, settings: Settings) -> tuple[Restraint, list[str]]:
    """Return the limits in *file* that are stricter than *settings*, and one warning for each that is less strict."""
    given = file.values
    warnings = []

    def loosens(name: str, source: str) -> None:
        warnings.append(
            f"{_VARIABLES[name]} ({file.path}): a project's file can only make settings stricter, and "
            f"{source} is stricter; remove it here"
        )

    strict: dict[str, Any] = {}
    content = "metadata" if given.get("privacy_mode") else given.get("content")
    decisive = "privacy_mode" if settings.privacy_mode else "content"
    for name, value, now, source in (
        ("content", content, settings.content_level, settings.source(decisive)),
        ("input", given.get("input"), settings.input, settings.source("input")),
    ):
        if value is not None and stricter(name, value, now) == value:
            strict[name] = value
        elif value is not None:
            loosens(name, source)
    length = given.get("max_attribute_length")
    if length is not None and length > settings.max_attribute_length:
        loosens("max_attribute_length", settings.source("max_attribute_length"))
    elif length is not None:
        strict["max_attribute_length"] = length
    if given.get("privacy_mode") is False and settings.privacy_mode:
        loosens("privacy_mode", settings.source("privacy_mode"))
    if given.get("include"):
        strict["include"] = (given["include"],)
    restraint = Restraint(
        off=given.get("enabled") is False or given.get("opt_out", False), exclude=given.get("exclude", ()), **strict
    )
    return restraint, warnings


def _restrained(settings: Settings, restraint: Restraint, label: str) -> Settings:
    """Return *settings* made as strict as *restraint*, except for its folders."""
    changes: dict[str, Any] = {}
    if restraint.off and settings.enabled:
        changes["enabled"] = False
    content = stricter("content", restraint.content, settings.content)
    if content != settings.content:
        changes["content"] = content
    input_mode = stricter("input", restraint.input, settings.input)
    if input_mode != settings.input:
        changes["input"] = input_mode
    if (longest := restraint.max_attribute_length) is not None and longest < settings.max_attribute_length:
        changes["max_attribute_length"] = longest
    return _changed(settings, changes, label)


def _with_properties(settings: Settings, file: _File) -> tuple[Settings, list[str]]:
    """Add the properties of *file* that are not set yet, and return warnings about the others."""
    added: dict[str, Any] = {}
    warnings = []
    if "purpose" in file.values:
        if settings.purpose is None:
            added["purpose"] = file.values["purpose"]
        elif settings.purpose != file.values["purpose"]:
            warnings.append(_overridden("purpose", file, settings))
    given = dict(file.values.get("custom_properties", {}))
    for name in sorted(users_properties(given)):
        del given[name]
        warnings.append(
            f"{_VARIABLES['custom_properties']} ({file.path}): {shown(name)} is one of PostHog's own properties, so it "
            "was left out; set it in config.toml"
        )
    if any(settings.custom_properties.get(name, value) != value for name, value in given.items()):
        warnings.append(_overridden("custom_properties", file, settings))
    if given.keys() - settings.custom_properties.keys():
        added["custom_properties"] = MappingProxyType({**given, **settings.custom_properties})
    return _changed(settings, added, str(file.path), adds=("custom_properties",)), warnings


def _overridden(name: str, file: _File, settings: Settings) -> str:
    return f"{_VARIABLES[name]} ({file.path}): {settings.source(name)} overrides it with another value; remove it here"


def _with_route_request(
    settings: Settings, set_by_tables: frozenset[str], files: Sequence[_File]
) -> tuple[Settings, RouteRequest | None, list[str]]:
    """Apply host and key of `settings.local.json`, unless a table sets them. Return a warning for each that it sets."""
    for file in files:
        asked = {
            name: file.values[name]
            for name in _ROUTE
            if name in file.values and file.values[name] != getattr(settings, name)
        }
        warnings = [_overridden(name, file, settings) for name in asked if name in set_by_tables]
        asked = {name: value for name, value in asked.items() if name not in set_by_tables}
        if asked or warnings:
            changed_at = max(file.status.st_mtime_ns, file.status.st_ctime_ns) // 1_000_000
            doubt = disk.call(str(file.path.parent), partial(_doubt, file))
            route_request = RouteRequest(path=file.path, changed_at=changed_at, doubt=doubt) if asked else None
            return _changed(settings, asked, str(file.path)), route_request, warnings
    return settings, None, []


def _doubt(file: _File) -> str | None:
    """Return why *file* may not be the user's own, as a phrase that follows its path; None if there is no doubt."""
    folder = file.path.parent
    try:
        for path in (folder, file.path):
            status = path.lstat()
            name = "it" if path == file.path else shlex.quote(str(path))
            if stat.S_ISLNK(status.st_mode):
                return f"{name} is a symbolic link; replace it with the file or folder it points to"
            if status.st_uid != os.geteuid():
                return f"{name} belongs to another user; make yourself its owner"
            if status.st_mode & _WRITABLE_BY_OTHERS:
                return f"{name} can be written by other users; run chmod go-w {shlex.quote(str(path))}"
        if (status.st_dev, status.st_ino) != (file.status.st_dev, file.status.st_ino):
            return "it was replaced while the daemon read it; the daemon will read it again"
    except OSError as error:
        return f"it cannot be inspected ({system_reason(error)})"
    return None
