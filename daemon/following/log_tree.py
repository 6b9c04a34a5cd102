"""The tree of folders and files below a log root."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from daemon.following.log_roots import LogRoot
from llma_core.agent import Agent

__all__ = ["FoundFile", "project_files", "project_folders", "project_logs", "root_logs", "session_folder_files"]

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

    If the root's agent does not keep its logs by project, the root itself is the only project folder.
    """
    if not root.agent.by_project:
        yield str(root.path)
        return
    seen: set[str] = set()
    for project in _entries(str(root.path), on_unlisted):
        try:
            if not project.is_dir():
                continue
            folder = str(Path(project.path).resolve()) if project.is_symlink() else project.path
        except OSError:
            continue
        if folder not in seen:
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
    on_folder(project)
    suffixes = agent.suffixes
    for entry in _entries(project, on_unlisted):
        if entry.name.endswith(suffixes):
            yield from _file(entry)
        elif agent.session_folders and _is_folder(entry):
            yield from session_folder_files(agent, entry.path, on_folder, on_unlisted)


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
    on_folder(session_folder)
    for folder in (f"{session_folder}/{name}" for name in agent.session_folders):
        try:
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
    for entry in _entries(folder, on_unlisted):
        if entry.name.endswith(agent.suffixes):
            if agent.classify(entry.path) is not None:
                yield from _file(entry)
        elif _is_folder(entry):
            yield from _files_below(agent, entry.path, on_folder, on_unlisted)


def _file(entry: os.DirEntry[str]) -> Iterator[FoundFile]:
    try:
        if entry.is_file(follow_symlinks=False):
            yield entry.path, entry.stat(follow_symlinks=False)
    except OSError:
        return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _entries(folder: str, on_unlisted: OnUnlisted) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        on_unlisted(folder, error)
        return []
