"""The folders and files of a client's `projects` folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["LOG_SUFFIXES", "project_files", "project_folders", "session_files"]

FoundFile = tuple[str, os.stat_result]
LOG_SUFFIXES = (".jsonl", ".meta.json")
"""Names that may be a log or a meta file."""


def _nobody(_folder: str) -> None:
    """Take note of nothing."""


def _unsaid(_folder: str, _error: OSError) -> None:
    """Say nothing of it."""


Missed = Callable[[str, OSError], None]
"""Told each folder that is there and cannot be listed, with the reason: what stands in it is not known."""


def project_folders(root: Path, missed: Missed = _unsaid) -> Iterator[str]:
    """Yield the folders of the projects in a `projects` folder; one that is a symbolic link once, by its real path."""
    seen: set[str] = set()
    for project in _listed(str(root), missed):
        try:
            if not project.is_dir():
                continue
            folder = str(Path(project.path).resolve()) if project.is_symlink() else project.path
        except OSError:
            continue
        if folder not in seen:
            seen.add(folder)
            yield folder


def project_files(project: str, note: Callable[[str], None] = _nobody, missed: Missed = _unsaid) -> Iterator[FoundFile]:
    """Yield every log and meta file of one project, with its status.

    Links below the project's folder are not followed. What cannot be listed is left out: the next sweep looks again.

    Args:
        project: the project's folder.
        note: told each folder in which a log may come to stand, before it is listed.
        missed: told each folder that cannot be listed.
    """
    note(project)
    for entry in _listed(project, missed):
        if entry.name.endswith(LOG_SUFFIXES):
            yield from _file(entry)
        elif _is_folder(entry):
            yield from session_files(entry.path, note, missed)


def session_files(session: str, note: Callable[[str], None] = _nobody, missed: Missed = _unsaid) -> Iterator[FoundFile]:
    """Yield every log and meta file in a session's own folder: those of its subagents.

    Args:
        session: the folder named like the session; what else stands in it is what its tools wrote.
        note: as for `project_files`.
        missed: as for `project_files`.
    """
    note(session)
    agents = f"{session}/subagents"
    try:
        if not stat.S_ISDIR(os.lstat(agents).st_mode):
            return
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        missed(session, error)
        return
    note(agents)
    for entry in _listed(agents, missed):
        if entry.name.endswith(LOG_SUFFIXES):
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
