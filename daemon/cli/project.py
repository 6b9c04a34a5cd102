"""What `--project` means: a folder, or a name, as a person writes it.

path, `~` or `.`   sessions begun in this folder or below it
name               sessions begun in a folder of this name or below it, in any case, and calls in a project that is
named so, by its folder or by a custom property `$ai_project_name`
end of a path      `work/orchard`, with `*` as in .gitignore
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli.message import say
from daemon.cli.sessions import LoggedSession, logged_sessions
from daemon.cli.startup import fail
from daemon.config.patterns import Folders
from daemon.config.project_settings import InvalidProjectError, Projects
from daemon.following.opening import first_cwd
from daemon.system import disk
from daemon.system.figures import count, printable
from daemon.usage.report import Index
from llma_core.view import PROJECT_NAME

if TYPE_CHECKING:
    from daemon.config.settings import Settings

__all__ = ["Chosen", "begun_in", "chosen"]

_MOST_NAMED = 5
_NO_LETTER = re.compile(r"[^a-zA-Z0-9]")
_LONGEST_NAME = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What belongs to a project: the sessions with these ids, and the calls in projects of these names."""

    sessions: frozenset[str]
    names: frozenset[str] = frozenset()


def begun_in(wanted: str, settings: Settings) -> Callable[[str | None], bool]:
    """Return whether a session that began in a folder, as logged, belongs to what *wanted* names.

    Args:
        wanted: what the user has written.
        settings: the settings in force; they may name projects otherwise than their folders are.
    """
    if _is_path(wanted):
        return Folders(include=[os.path.abspath(os.path.expanduser(wanted))]).allow  # noqa: PTH100, PTH111 - for `..`
    exact, any_case = Folders(include=[wanted]), Folders(include=[wanted.casefold()])
    projects = Projects(settings)

    def belongs(cwd: str | None) -> bool:
        if cwd is None:
            return False
        return exact.allow(cwd) or any_case.allow(cwd.casefold()) or _named(projects, cwd) == wanted.casefold()

    return belongs


def _named(projects: Projects, cwd: str) -> str | None:
    """Return the name that the configuration gives to a folder's project, in lower case; None if it gives none."""
    try:
        named = projects.of(cwd).settings.custom_properties.get(PROJECT_NAME)
    except (InvalidProjectError, disk.Unanswered):
        return None
    return str(named).casefold() if named is not None else None


def chosen(wanted: str, settings: Settings, path: Path) -> Chosen:
    """Return what belongs to the project that *wanted* names, of what the local file has.

    Says so if a name stands for several folders.

    Args:
        wanted: what the user has written.
        settings: the settings in force.
        path: the local file.

    Raises:
        UnreadableEventsError: the file cannot be read.
        click.exceptions.Exit: with 1: nothing is named so, or it is the part of several names.
    """
    logged = logged_sessions(settings.claude_config_dirs)
    begun = _begun(wanted, logged, settings)
    with Index(path) as index:
        names = index.projects()
        if _is_path(wanted):
            # Of sessions whose logs are gone, only the names of their folders are known.
            name = Path(os.path.abspath(os.path.expanduser(wanted))).name  # noqa: PTH100, PTH111 - as above
            gone = index.sessions_of(name) - {each.session for each in logged} if name in names else frozenset()
            return Chosen(sessions=frozenset(begun) | gone)
        fitting = {name for name in names if name.casefold() == wanted.casefold()}
        if not fitting and not begun:
            fitting = {name for name in names if wanted.casefold() in name.casefold()}
            if len(fitting) != 1:
                raise fail(_told(wanted, fitting, names))
    folders = Counter(begun.values())
    tops = [folder for folder in folders if not any(folder.startswith(f"{other}/") for other in folders)]
    if len(tops) > 1 and "*" not in wanted:
        listed = ", ".join(printable(folder, 80) for folder in sorted(tops)[:_MOST_NAMED])
        say(f"note: {count(len(tops), 'folder')} fit {wanted!r}: {listed}; give a path to choose one", err=True)
    return Chosen(sessions=frozenset(begun), names=frozenset(fitting))


def _told(wanted: str, fitting: Iterable[str], names: Iterable[str]) -> str:
    several = sorted(fitting)
    listed = ", ".join(printable(name, 40) for name in (several or sorted(names))[:_MOST_NAMED])
    if several:
        return f"{len(several)} projects fit {wanted!r}: {listed}; give the whole name, or a path"
    return f"no project fits {wanted!r}" + (f"; there are {listed}" if listed else "")


def _is_path(wanted: str) -> bool:
    # A folder that is there may still be meant as a name only if no path is written.
    return wanted.startswith(("/", "~", "./", "../")) or wanted in (".", "..")


def _begun(wanted: str, logged: Iterable[LoggedSession], settings: Settings) -> dict[str, str]:
    """Return the sessions that began in what *wanted* names, by their ids, each with its folder."""
    belongs = begun_in(wanted, settings)
    # A folder of logs is named after the folder in which its sessions began, so most logs need no look. But the
    # configuration may name any folder, and a link may lead to it.
    part = _NO_LETTER.sub("-", Path(wanted).name)[:_LONGEST_NAME].casefold()
    if any(PROJECT_NAME in table.values.get("custom_properties", {}) for table in settings.projects) or not part.strip(
        "-"
    ):
        part = ""
    if "*" in wanted or "?" in wanted or Path(wanted).expanduser().is_symlink():
        part = ""
    begun: dict[str, str] = {}
    for each in logged:
        if part not in _NO_LETTER.sub("-", Path(each.path).parent.name).casefold():
            continue
        try:
            cwd = first_cwd(each.agent, each.path)
            if cwd is not None and belongs(cwd):
                begun[each.session] = cwd
        except disk.Unanswered:
            continue
    return begun
