"""The folders and files below a root."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from daemon.following.log_roots import LogRoot
from llma_core.agent import Agent

__all__ = ["FoundFile", "project_files", "project_folders", "project_logs", "root_logs", "session_files"]

FoundFile = tuple[str, os.stat_result]


def _nobody(_folder: str) -> None:
    """Take note of nothing."""


def _unsaid(_folder: str, _error: OSError) -> None:
    """Say nothing of it."""


Missed = Callable[[str, OSError], None]
"""Told each folder that is there and cannot be listed, with the reason: what stands in it is not known."""


def project_folders(root: LogRoot, missed: Missed = _unsaid) -> Iterator[str]:
    """Yield the folders of the projects in a root; one that is a symbolic link once, by its real path.

    A root whose agent does not keep its logs by project is itself the only one.
    """
    if not root.agent.by_project:
        yield str(root.path)
        return
    seen: set[str] = set()
    for project in _listed(str(root.path), missed):
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
    agent: Agent, project: str, note: Callable[[str], None] = _nobody, missed: Missed = _unsaid
) -> Iterator[FoundFile]:
    """Yield every log and meta file of one project, with its status.

    Links below the project's folder are not followed. What cannot be listed is left out: the next sweep looks again.

    Args:
        agent: whose logs to look for.
        project: the project's folder.
        note: told each folder in which a log may come to stand, before it is listed.
        missed: told each folder that cannot be listed.
    """
    note(project)
    suffixes = agent.suffixes
    for entry in _listed(project, missed):
        if entry.name.endswith(suffixes):
            yield from _file(entry)
        elif agent.session_folders and _is_folder(entry):
            yield from session_files(agent, entry.path, note, missed)


def project_logs(agent: Agent, project: str) -> Iterator[FoundFile]:
    """Yield every log of one project, with its status."""
    return (found for found in project_files(agent, project) if found[0].endswith(agent.log_suffix))


def root_logs(root: LogRoot) -> Iterator[FoundFile]:
    """Yield every log below a root, with its status."""
    return (found for project in project_folders(root) for found in project_logs(root.agent, project))


def session_files(
    agent: Agent, session: str, note: Callable[[str], None] = _nobody, missed: Missed = _unsaid
) -> Iterator[FoundFile]:
    """Yield every log and meta file in a session's own folder: those of its subagents.

    Args:
        agent: whose logs to look for.
        session: the folder named like the session; what else stands in it is what its tools wrote.
        note: as for `project_files`.
        missed: as for `project_files`.
    """
    note(session)
    suffixes = agent.suffixes
    for folder in (f"{session}/{name}" for name in agent.session_folders):
        try:
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                continue
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            missed(session, error)
            continue
        note(folder)
        for entry in _listed(folder, missed):
            if entry.name.endswith(suffixes):
                yield from _file(entry)


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


def _listed(folder: str, missed: Missed) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        missed(folder, error)
        return []
