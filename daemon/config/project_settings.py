"""What holds for the sessions of one project: the user's settings, `[[project]]` tables, and the project's own files.

A table is the user's own word: what it gives comes before what holds for the user as a whole, and of several tables
that match, the first that gives a setting counts. Only `exclude` adds up, so that a table opens no folder by accident.

The project's files, `.claude/settings.local.json` and `.claude/settings.json` of the folder a session was begun in, may
have come with a repository. Both may make things stricter, whatever else is set, and add properties that nobody else
gave. The first may also ask for a host or a key; whether that counts is for routing.py to say. A file that cannot be
used leaves what held before in force; where nothing did, what was to be stricter is not known, and sessions have to
wait.

What the files have made stricter for a session, its restraint, stays: an agent can write to the folder it works in, and
must not get out more than held when its session began. What they loosen holds from the next session on.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
from daemon.system.messages import one_line, system_reason
from daemon.system.small_file import UnreadableFileError, read_with_status
from llma_core import events

__all__ = ["FOLDER", "LOCAL_FILE", "SHARED_FILE", "InvalidProjectError", "Project", "Projects", "RouteRequest"]

FOLDER = ".claude"
"""Where in a project its settings files stand."""
LOCAL_FILE = "settings.local.json"
"""The user's own settings for a project, which git is to ignore."""
SHARED_FILE = "settings.json"
"""The settings that come with a project."""
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
    """A project's settings cannot be used; its text says in one line which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """A host or key that a `settings.local.json` asks for, in place of the user's own.

    Attributes:
        path: the file.
        changed_at: when it was last changed, in milliseconds since the epoch, by the time that no program can set.
        doubt: why the file may be somebody else's, and what to do about it; None if nothing says so.
    """

    path: Path
    changed_at: int
    doubt: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What holds for the sessions begun in one folder.

    Attributes:
        settings: every setting as it holds there, and where it came from; `enabled` is decided.
        folders: which folders may be sent from; all of them must allow.
        restraint: what the project's files make stricter; it is in *settings* and *folders*.
        route_request: set if *settings* has a host or key that the project's own file asks for.
        warnings: one line each on what the project's files say in vain.
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
        """Return what holds for a session with this *restraint*, which is at least as strict as the project's own."""
        if restraint == self.restraint:
            return self
        settings = _restrained(self.settings, restraint, "what held when the session began")
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
    """Works out what holds for a project, and again when one of its files has changed. Belongs to one thread.

    Args:
        settings: what holds for the user as a whole.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._own_folders = {os.path.realpath(path) for path in settings.claude_config_dirs}
        self._tables = [(Folders(include=table.path), table) for table in settings.projects]
        self._known: OrderedDict[str | None, tuple[object, Project]] = OrderedDict()

    def of(self, folder: str | None) -> Project:
        """Return what holds for the sessions begun in *folder*, as logged; None where it is not known.

        Raises:
            InvalidProjectError: one of the project's own files cannot be used, and nothing held before.
        """
        signature = _signature(folder)
        known = self._known.get(folder)
        if known is not None and known[0] == signature:
            self._known.move_to_end(folder)
            return known[1]
        try:
            project = self._work_out(folder, has_files=any(signature))
        except InvalidProjectError as error:
            if known is None:
                raise
            project = replace(known[1], warnings=(f"{error}; until then what held before goes on",))
        self._known[folder] = (signature, project)
        self._known.move_to_end(folder)
        while len(self._known) > _CAPACITY:
            self._known.popitem(last=False)
        return project

    def _work_out(self, folder: str | None, *, has_files: bool) -> Project:
        settings, given_by_tables = self._with_tables(folder)
        own = Project(settings=settings, folders=(Folders(settings.include, settings.exclude),))
        # What the user has switched off needs no look at files of others.
        reachable = settings.enabled and not settings.opt_out and own.folders[0].allow(folder)
        files = self._read_files(Path(folder)) if folder and has_files and reachable else []
        warnings = self._enabled_in_vain(settings, Path(folder)) if folder and has_files else []
        settings = _enabled_by(settings, files)
        # What the user has switched off is the user's to switch on again, also for a session that runs.
        restraint = Restraint(off=bool(folder and reachable and not settings.enabled))
        for file in files:
            given, vain = _restraint_of(file, settings)
            restraint = restraint.also(given)
            settings = _restrained(settings, given, str(file.path))
            settings, unused = _added(settings, file)
            warnings += (*file.warnings, *vain, *unused)
        settings, route_request, unused = _with_route_request(settings, given_by_tables, files)
        warnings += unused
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
        """Read the project's own files, the user's own first; those that are there.

        Raises:
            InvalidProjectError: one cannot be used.
        """
        files = []
        for name, counted in _COUNTED.items():
            path = folder / FOLDER / name
            if name == SHARED_FILE and os.path.realpath(path.parent) in self._own_folders:
                # Begun at home: the file is the user's, and has been read as such.
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

    def _enabled_in_vain(self, settings: Settings, folder: Path) -> list[str]:
        """Warn of files that enable a project which the user has left off; what else they say does not matter then."""
        if settings.enabled:
            return []
        try:
            files = self._read_files(folder)
        except InvalidProjectError:
            return []
        return [
            f"{_VARIABLES['enabled']} ({file.path}): {settings.source('enabled')} says otherwise, which counts; "
            'set enabled = "projects" above the tables of config.toml to leave it to projects'
            for file in files
            if file.values.get("enabled")
        ]

    def _with_tables(self, folder: str | None) -> tuple[Settings, frozenset[str]]:
        """Put the tables that match before the user-wide settings; tell also which settings they give."""
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
    """Return what changes with a project's files; nothing but None where it has none."""
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
            # ValueError: a path with a NUL or a lone surrogate, which no folder has.
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
                # The folder's own times change with whatever else is written there.
                else (status.st_dev, status.st_ino, status.st_mode, status.st_uid)
            )
    return tuple(found)


def _changed(settings: Settings, values: Mapping[str, Any], label: str, adds: Collection[str] = ()) -> Settings:
    """Return *settings* with other *values*, which come from *label*; of those in *adds*, what was there stays."""
    if not values:
        return settings
    sources = dict(settings.sources)
    for name in values:
        stays = name in adds and getattr(settings, name)
        sources[name] = f"{sources[name]} and {label}" if stays else label
    return replace(settings, **values, sources=MappingProxyType(sources))


def _enabled_by(settings: Settings, files: Sequence[_File]) -> Settings:
    """Decide whether the project is on: a file can always switch it off, and on only where the user leaves it to it."""
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
    """Return what *file* makes stricter than *settings* are, and one warning for each thing it would loosen."""
    given = file.values
    vain = []

    def loosens(name: str, source: str) -> None:
        vain.append(
            f"{_VARIABLES[name]} ({file.path}): a project's file can only make things stricter, and "
            f"{source} is stricter already; remove it here"
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
    return restraint, vain


def _restrained(settings: Settings, restraint: Restraint, label: str) -> Settings:
    """Return *settings* as strict as *restraint*; its folders are not part of them."""
    changes: dict[str, Any] = {}
    if restraint.off and settings.enabled:
        changes["enabled"] = False
    content = stricter("content", restraint.content, settings.content)
    if content != settings.content:
        changes["content"] = content
    what = stricter("input", restraint.input, settings.input)
    if what != settings.input:
        changes["input"] = what
    if (longest := restraint.max_attribute_length) is not None and longest < settings.max_attribute_length:
        changes["max_attribute_length"] = longest
    return _changed(settings, changes, label)


def _added(settings: Settings, file: _File) -> tuple[Settings, list[str]]:
    """Take from *file* the properties nobody gave before, and return one warning for each other one."""
    added: dict[str, Any] = {}
    vain = []
    if "purpose" in file.values:
        if settings.purpose is None:
            added["purpose"] = file.values["purpose"]
        elif settings.purpose != file.values["purpose"]:
            vain.append(_given_already("purpose", file, settings))
    given = dict(file.values.get("custom_properties", {}))
    for name in sorted(events.platform_properties(given)):
        del given[name]
        vain.append(
            f"{_VARIABLES['custom_properties']} ({file.path}): {shown(name)} is PostHog's own and was left out; "
            "set it in config.toml"
        )
    if any(settings.custom_properties.get(name, value) != value for name, value in given.items()):
        vain.append(_given_already("custom_properties", file, settings))
    if given.keys() - settings.custom_properties.keys():
        added["custom_properties"] = MappingProxyType({**given, **settings.custom_properties})
    return _changed(settings, added, str(file.path), adds=("custom_properties",)), vain


def _given_already(name: str, file: _File, settings: Settings) -> str:
    source = settings.source(name)
    return f"{_VARIABLES[name]} ({file.path}): {source} gives another value, which counts; remove it here"


def _with_route_request(
    settings: Settings, given: frozenset[str], files: Sequence[_File]
) -> tuple[Settings, RouteRequest | None, list[str]]:
    """Take host and key from the user's own file of the project, where no table gives them; warn where one does."""
    for file in files:
        asked = {
            name: file.values[name]
            for name in _ROUTE
            if name in file.values and file.values[name] != getattr(settings, name)
        }
        vain = [_given_already(name, file, settings) for name in asked if name in given]
        asked = {name: value for name, value in asked.items() if name not in given}
        if asked or vain:
            changed_at = max(file.status.st_mtime_ns, file.status.st_ctime_ns) // 1_000_000
            route_request = RouteRequest(path=file.path, changed_at=changed_at, doubt=_doubt(file)) if asked else None
            return _changed(settings, asked, str(file.path)), route_request, vain
    return settings, None, []


def _doubt(file: _File) -> str | None:
    """Say why *file* may be somebody else's, in words that follow its path."""
    folder = file.path.parent
    try:
        for path in (folder, file.path):
            status = path.lstat()
            name = "it" if path == file.path else shlex.quote(str(path))
            if stat.S_ISLNK(status.st_mode):
                return f"{name} is a symbolic link; put what it leads to in its place"
            if status.st_uid != os.geteuid():
                return f"{name} belongs to another user; make it your own"
            if status.st_mode & _WRITABLE_BY_OTHERS:
                return f"{name} can be written by other users; run chmod go-w {shlex.quote(str(path))}"
        if (status.st_dev, status.st_ino) != (file.status.st_dev, file.status.st_ino):
            return "it was replaced while it was read; it is read again"
    except OSError as error:
        return f"it cannot be looked at ({system_reason(error)})"
    return None
