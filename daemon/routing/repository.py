"""Asks git about a folder (the user's e-mail, the name of the origin) in a way that runs nothing from that folder.

Folders come from session logs, so anybody may have written the repository in one. git runs:

- without hooks and file system monitor, because a repository can name programs for these;
- without any transport: git fetches missing objects of a partial clone from its remote, which can name a program, too;
- without locks, so that it never gets in the user's way;
- without a terminal or prompts, for at most two seconds, and only with the commands below.

Not every repository that git finds is the user's. A clone can contain a bare repository as ordinary files, and an
archive unpacked in it can contain a `.git`. What such a repository says must not pass for the user's word. So only a
work tree counts whose repository is its own `.git`, belongs to the user, and lies in no other repository's work tree
(`_is_users`). Linked work trees and submodules count if their repository knows them. Of the configuration, the user's
own files count, and those in the repository of such a work tree. git has to be 2.26 or newer.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from daemon.system import disk

__all__ = ["Repositories", "Repository", "Tracking", "origin_name", "tracking"]

Tracking = Literal["untracked", "tracked", "outside", "unknown"]
"""What git knows about a file: it is untracked or tracked in a work tree, it is outside any work tree that is surely
the user's own, or git gave no answer."""

_COMMANDS = frozenset({"config", "ls-files", "remote", "rev-parse"})
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.bareRepository=explicit")
_TIMEOUT = 2.0
"""How long git may take to answer, in seconds."""
_OWN_SCOPES = frozenset({b"system", b"global"})
_LONGEST_LINK = 4096
_KEYS = r"^(user\.email|remote\.origin\.url|url\..*\.insteadof)$"

# Variables that locate the user's configuration. All other variables of git are dropped: those that git sets for hooks
# point to another repository, and those for tracing write files.
_KEPT_VARIABLES = frozenset(
    {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES"}
)

_MAX_LENGTH = 200
# [user@]host:path, where the host is longer than a drive letter.
_SCP = re.compile(r"(?:[^@/:]+@)?(?:\[[^\]/]+\]|[^:/@\[\]]{2,}):(?!:)(?P<path>.+)")
_REMOTE_SCHEMES = frozenset({"ssh", "git+ssh", "ssh+git", "https", "http", "git"})
_SEGMENT = re.compile(r"[\w.~+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What git says about one folder.

    Attributes:
        user_email: git's user.email in that folder, or None.
        origin: `owner/name` of the remote called origin, groups included, or None.
    """

    user_email: str | None
    origin: str | None


class Repositories:
    """What git says about folders, cached for those used most recently. Safe to use from threads.

    Args:
        capacity: largest number of folders in the cache.
        timeout: how long git may take to answer, in seconds.
    """

    def __init__(self, capacity: int = 4096, *, timeout: float = _TIMEOUT) -> None:
        self._capacity = capacity
        self._timeout = timeout
        self._known: OrderedDict[str, Repository] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, cwd: str) -> Repository:
        """Return what git says about the folder *cwd*. The first call waits for git, a few seconds at worst."""
        with self._lock:
            if cwd in self._known:
                self._known.move_to_end(cwd)
                return self._known[cwd]
        try:
            # Old sessions name folders that are gone. A process of git would only say that it cannot go there.
            is_there = disk.call(cwd, partial(os.path.isdir, cwd))
            facts = _ask_facts(cwd, self._timeout) if is_there else Repository(user_email=None, origin=None)
        except (subprocess.TimeoutExpired, disk.Unanswered):
            # The machine may be busy. That says nothing about the folder, so it is not cached.
            return Repository(user_email=None, origin=None)
        with self._lock:
            self._known[cwd] = facts
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return facts


def tracking(folder: str, name: str) -> Tracking:
    """Return what git knows about the file *name*, in a folder below *folder*, such as `.claude/settings.json`.

    Names that differ only in case count as the same, because on some file systems they are.
    """
    below, _, last = name.rpartition("/")
    # The folder in between may be a repository of its own.
    places = ((folder, name), (f"{folder}/{below}", last))
    try:
        if _work_tree(folder) is None:
            return "outside"
        for place, path in places:
            listed = _ask(place, "ls-files", "--", f":(icase){path}")
            if listed is None:
                return "unknown"
            if listed.strip():
                return "tracked"
        trees = [_work_tree(place) for place, _ in places]
    except subprocess.TimeoutExpired:
        return "unknown"
    return "untracked" if all(tree is not None and _is_users(tree) for tree in trees) else "outside"


def origin_name(url: str) -> str | None:
    """Return the path of a remote's *url* as `owner/name`, without scheme, host, credentials, query or `.git`.

    Groups are kept (`group/sub/name`). None for a local path, the address of a remote helper, or a path with fewer than
    two names.
    """
    url = url.strip()
    if "://" in url:
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        if parts.scheme.lower() not in _REMOTE_SCHEMES or not parts.netloc:
            return None
        path = parts.path
    elif match := _SCP.fullmatch(url):
        path = match["path"]
    else:
        return None
    segments = path.strip("/").removesuffix(".git").rstrip("/").split("/")
    name = "/".join(segments)
    whole = all(_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments)
    return name if whole and len(segments) > 1 and len(name) <= _MAX_LENGTH else None


def _ask_facts(cwd: str, timeout: float) -> Repository:
    """Ask git with as few processes as possible: usually one.

    Raises:
        subprocess.TimeoutExpired: git did not answer in time.
    """
    values: dict[str, list[str]] = {}
    trusted: _WorkTree | Literal[False] | None = None
    for scope, place, entry in _config(cwd, timeout):
        if scope not in _OWN_SCOPES:
            if trusted is None:
                tree = _work_tree(cwd, timeout)
                trusted = tree if tree is not None and _is_users(tree) else False
            # A repository's configuration may include a file of its work tree, which anybody may have committed.
            if not trusted or not trusted.has(place):
                continue
        try:
            key, _, value = entry.decode().partition("\n")
        except UnicodeDecodeError:
            continue
        values.setdefault(key, []).append(value.strip())
    # git uses the last of several e-mail addresses, and the first of several URLs.
    email = values.pop("user.email", [""])[-1]
    url: str | None = values.pop("remote.origin.url", [""])[0]
    if url and any(key.startswith("url.") for key in values):
        # An `insteadOf` setting may replace the beginning of the URL.
        url = _git(cwd, "remote", "get-url", "origin", timeout=timeout)
    return Repository(
        user_email=email if email and len(email) <= _MAX_LENGTH and email.isprintable() else None,
        origin=origin_name(url) if url else None,
    )


def _config(cwd: str, timeout: float) -> Iterator[tuple[bytes, str, bytes]]:
    r"""Yield scope, file, and `key\nvalue` of each setting that is needed.

    Raises:
        subprocess.TimeoutExpired: git did not answer in time.
    """
    answer = _ask(cwd, "config", "-z", "--show-scope", "--show-origin", "--get-regexp", _KEYS, timeout=timeout) or b""
    fields = answer.split(b"\0")
    for scope, origin, entry in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        kind, _, path = os.fsdecode(origin).partition(":")
        yield scope, path if kind == "file" else "", entry


# ---------------------------------------------------------------------- whose repository it is


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkTree:
    """A work tree as git finds it. All paths are real paths.

    Attributes:
        top: its top level.
        git_dir: its repository.
        common_dir: the same, except for a linked work tree: the repository that it shares.
    """

    top: Path
    git_dir: Path
    common_dir: Path

    def has(self, path: str) -> bool:
        """Whether a file of the configuration, named relative to the top level, is in the repository itself."""
        return _real(self.top / path).is_relative_to(self.common_dir)


def _work_tree(cwd: str, timeout: float = _TIMEOUT) -> _WorkTree | None:
    """Return the work tree that git finds for the folder *cwd*; None if it finds none.

    Raises:
        subprocess.TimeoutExpired: git did not answer in time.
    """
    answer = _ask(cwd, "rev-parse", "--is-inside-work-tree", "--show-toplevel", "--absolute-git-dir", timeout=timeout)
    lines = os.fsdecode(answer or b"").removesuffix("\n").split("\n")
    if len(lines) != 3 or lines[0] != "true":  # noqa: PLR2004 - one line for each question
        return None
    # git has just been there, so the folder does not hang.
    git_dir = _real(Path(lines[2]))
    return _WorkTree(top=_real(Path(lines[1])), git_dir=git_dir, common_dir=_common(git_dir))


def _is_users(tree: _WorkTree) -> bool:
    """Whether a work tree is sure to be the user's own; see the opening comment."""
    entry = tree.top / ".git"
    if _repository_at(tree.top) != tree.git_dir or not all(map(_is_own, (entry, tree.git_dir, tree.common_dir))):
        # core.worktree or a link leads elsewhere, or it belongs to somebody else.
        return False
    if tree.git_dir == entry:
        return _outer(tree.top, tree.common_dir) is None
    if tree.git_dir != tree.common_dir:
        # A linked work tree: its repository has a record that leads back here.
        back = _first_line(tree.git_dir / "gitdir")
        is_known = tree.git_dir.is_relative_to(tree.common_dir / "worktrees") and _real(Path(back)) == entry
        places = (tree.top, tree.common_dir.parent)
        return is_known and all(_outer(place, tree.common_dir) is None for place in places)
    # A submodule: its repository is in that of the work tree around it.
    outer = _outer(tree.top, tree.common_dir)
    repository = _repository_at(outer) if outer is not None else None
    if outer is None or repository is None:
        return False
    around = _WorkTree(top=outer, git_dir=repository, common_dir=_common(repository))
    is_inside = any(tree.git_dir.is_relative_to(each / "modules") for each in (repository, around.common_dir))
    return is_inside and _is_users(around)


def _outer(folder: Path, common_dir: Path) -> Path | None:
    """Return the next folder above *folder* that belongs to another repository than *common_dir*."""
    for above in _below_home(folder.parent):
        if os.path.lexists(above / ".git"):
            repository = _repository_at(above)
            if repository is None or _common(repository) != common_dir:
                return above
    return None


def _is_brought(path: str, cwd: str) -> bool:
    """Whether a file that a variable names is in the work tree of *cwd*, from which a session may have the variable."""
    return any(
        Path(cwd).is_relative_to(above) and os.path.lexists(above / ".git")
        for above in _below_home(_real(Path(path)).parent)
    )


def _below_home(folder: Path) -> Iterator[Path]:
    """Yield *folder* and those above it, up to the home folder, which may be a repository for the user's settings."""
    try:
        home = _real(Path.home())
    except RuntimeError:  # pragma: no cover - a user without a home folder
        home = Path("/")
    for each in (folder, *folder.parents):
        if home.is_relative_to(each):
            return
        yield each


def _repository_at(top: Path) -> Path | None:
    """Return the real path of the repository that the `.git` of the folder *top* is or leads to; None if it is none."""
    entry = top / ".git"
    if entry.is_symlink():
        return None
    if entry.is_dir():
        return entry
    words, _, path = _first_line(entry).partition(" ")
    return _real(top / path) if words == "gitdir:" and path else None


def _common(git_dir: Path) -> Path:
    path = _first_line(git_dir / "commondir")
    return _real(git_dir / path) if path else git_dir


def _first_line(path: Path) -> str:
    """Return the first line of a small regular file; "" if there is none."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ""
        with path.open("rb") as file:
            return os.fsdecode(file.read(_LONGEST_LINK).partition(b"\n")[0].rstrip(b"\r")).replace("\0", "")
    except OSError:
        return ""


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _git(cwd: str, command: str, *arguments: str, timeout: float = _TIMEOUT) -> str | None:
    """Return the stripped output of `git command` in the folder *cwd*; None if it fails or prints nothing.

    Raises:
        subprocess.TimeoutExpired: git did not answer in time; it has been killed.
    """
    answer = _ask(cwd, command, *arguments, timeout=timeout)
    try:
        return None if answer is None else answer.decode().strip() or None
    except UnicodeDecodeError:
        return None


def _ask(cwd: str, command: str, *arguments: str, timeout: float = _TIMEOUT) -> bytes | None:
    """Return the output of `git command` in the folder *cwd*; None if it fails.

    Raises:
        subprocess.TimeoutExpired: git did not answer in time; it has been killed.
    """
    assert command in _COMMANDS
    program = shutil.which("git")
    # A relative entry in PATH would find a program called git in the current folder.
    if program is None or not program.startswith("/") or not cwd.startswith("/"):
        return None
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or (name in _KEPT_VARIABLES and not _is_brought(value, cwd))
    }
    environ |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        # This list of transports overrides what the repository allows, and "none" is not a transport.
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
    }
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed program and command; the folder is an argument of its own
            # -C instead of the child's cwd: if the folder hangs, that blocks git, which the timeout ends, and not us.
            [program, *_SAFE, "-C", cwd, command, *arguments],
            cwd="/",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            start_new_session=True,
            check=False,
        )
    except (OSError, ValueError):
        # ValueError: the path contains a NUL or a lone surrogate. No folder does.
        return None
    return answer.stdout if answer.returncode == 0 else None
