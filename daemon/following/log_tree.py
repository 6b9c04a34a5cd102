"""The tree of folders and files below a log root.

A folder that does not answer counts as one that cannot be listed: its content is unknown, and the others are listed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from daemon.following.log_roots import LogRoot
from daemon.system import disk
from llma_core.agent import Agent

__all__ = [
    "FoundFile",
    "folders_below",
    "plain_folders",
    "project_files",
    "project_folders",
    "project_logs",
    "root_logs",
    "session_folder_files",
]

FoundFile = tuple[str, os.stat_result]
"""A file's path and status."""


def _ignore_folder(_folder: str) -> None:
    """Do nothing."""


def _ignore_error(_folder: str, _error: OSError) -> None:
    """Do nothing."""


OnUnlisted = Callable[[str, OSError], None]
"""Called with each existing folder that cannot be listed, and the reason: its content is unknown."""


def project_folders(root: LogRoot, on_unlisted: OnUnlisted = _ignore_error) -> Iterator[str]:
    """Yield the project folders in a root. A symbolic link to a folder is yielded once, by its real path.

    If the root's agent does not keep its logs by project, the root itself is the only project folder; that of a spool
    may also hold folders of commands.
    """
    if not root.agent.by_project:
        yield str(root.path)
        if root.agent.is_spool:
            yield from plain_folders(str(root.path))
        return
    seen: set[str] = set()
    for name in _answered(str(root.path), lambda: _names(str(root.path), on_unlisted), on_unlisted):
        project = f"{root.path}/{name}"
        # It may be on another disk, or lead there, so it is asked for itself.
        try:
            folder = disk.call(project, partial(_real_folder, project))
        except disk.Unanswered as error:
            on_unlisted(project, error)
            continue
        except OSError:
            continue
        if folder is not None and folder not in seen:
            seen.add(folder)
            yield folder


def project_files(
    agent: Agent,
    project: str,
    on_folder: Callable[[str], None] = _ignore_folder,
    on_unlisted: OnUnlisted = _ignore_error,
) -> Iterator[FoundFile]:
    """Yield every log and meta file of one project, with its status.

    Links below the project's folder are not followed. A folder that cannot be listed is left out: the next sweep looks
    again.

    Args:
        agent: whose logs to look for.
        project: the project's folder.
        on_folder: called with each folder in which a log may appear, before it is listed.
        on_unlisted: called with each folder that cannot be listed.
    """
    yield from _answered(project, lambda: [*_project_files(agent, project, on_folder, on_unlisted)], on_unlisted)


def _project_files(
    agent: Agent, project: str, on_folder: Callable[[str], None], on_unlisted: OnUnlisted
) -> Iterator[FoundFile]:
    on_folder(project)
    suffixes = agent.suffixes
    for name in _names(project, on_unlisted):
        path = f"{project}/{name}"
        if name.endswith(suffixes):
            # Anything may lie in a spool; a project's folder belongs to the client.
            if not agent.is_spool or agent.classify(path) is not None:
                yield from _file(path)
        elif agent.session_folders and _is_folder(path):
            yield from _session_files(agent, path, on_folder, on_unlisted)


def project_logs(agent: Agent, project: str) -> Iterator[FoundFile]:
    """Yield every log of one project, with its status."""
    return (found for found in project_files(agent, project) if found[0].endswith(agent.log_suffix))


def root_logs(root: LogRoot) -> Iterator[FoundFile]:
    """Yield every log below a root, with its status."""
    return (found for project in project_folders(root) for found in project_logs(root.agent, project))


def session_folder_files(
    agent: Agent,
    session_folder: str,
    on_folder: Callable[[str], None] = _ignore_folder,
    on_unlisted: OnUnlisted = _ignore_error,
) -> Iterator[FoundFile]:
    """Yield every log and meta file in a session's own folder: those of its subagents, at any depth.

    Args:
        agent: whose logs to look for.
        session_folder: the folder named like the session. Whatever else it holds was written by the session's tools.
        on_folder: as for `project_files`.
        on_unlisted: as for `project_files`.
    """
    found = partial(_session_files, agent, session_folder, on_folder, on_unlisted)
    yield from _answered(session_folder, lambda: [*found()], on_unlisted)


def _session_files(
    agent: Agent, session_folder: str, on_folder: Callable[[str], None], on_unlisted: OnUnlisted
) -> Iterator[FoundFile]:
    on_folder(session_folder)
    for folder in (f"{session_folder}/{name}" for name in agent.session_folders):
        try:
            disk.at(session_folder)
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                continue
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            on_unlisted(session_folder, error)
            continue
        yield from _files_below(agent, folder, on_folder, on_unlisted)


def _files_below(
    agent: Agent, folder: str, on_folder: Callable[[str], None], on_unlisted: OnUnlisted
) -> Iterator[FoundFile]:
    """Yield the logs and meta files in a folder of subagents, and in the folders in it, such as a workflow's."""
    on_folder(folder)
    # No function calls itself here: a program can make folders in each other that are deeper than calls may be.
    left = [(folder, iter(_names(folder, on_unlisted)))]
    while left:
        folder, names = left[-1]
        name = next(names, None)
        if name is None:
            left.pop()
            continue
        path = f"{folder}/{name}"
        if name.endswith(agent.suffixes):
            if agent.classify(path) is not None:
                yield from _file(path)
        elif _is_folder(path):
            on_folder(path)
            left.append((path, iter(_names(path, on_unlisted))))


def plain_folders(folder: str) -> list[str]:
    """Return the folders in a folder, without links, as far as they answer."""

    def look() -> list[str]:
        return [path for name in _names(folder, _ignore_error) if _is_folder(path := f"{folder}/{name}")]

    return _answered(folder, look, _ignore_error)


def folders_below(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder at and below *folder* that can be listed, without links, with the names of its files."""
    left = [folder]
    while left:
        folder = left.pop()
        try:
            disk.at(folder)
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names are enough, and there may be many
        except OSError:
            continue
        folders = [name for name in names if _is_folder(f"{folder}/{name}")]
        yield folder, sorted({*names} - {*folders})
        left += [f"{folder}/{name}" for name in reversed(folders)]


_Found = TypeVar("_Found")


def _answered(folder: str, look: Callable[[], list[_Found]], on_unlisted: OnUnlisted) -> list[_Found]:
    """Return what *look* finds in a folder, which changes nothing; nothing if the folder does not answer."""
    try:
        return disk.call(folder, look)
    except disk.Unanswered as error:
        on_unlisted(str(error.filename), error)
        return []


def _real_folder(path: str) -> str | None:
    """Return the folder that is at *path*, or to which a link there leads; None if there is none."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        path = str(Path(path).resolve())
        status = os.lstat(path)
    return path if stat.S_ISDIR(status.st_mode) else None


# The entries that `os.scandir` yields are asked for nothing: they hold the interpreter's lock while they wait for the
# disk, and with it every thread.


def _file(path: str) -> Iterator[FoundFile]:
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISREG(status.st_mode):
        yield path, status


def _is_folder(path: str) -> bool:
    try:
        disk.at(path)
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _names(folder: str, on_unlisted: OnUnlisted) -> list[str]:
    try:
        disk.at(folder)
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are enough, and there may be many
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        on_unlisted(folder, error)
        return []
