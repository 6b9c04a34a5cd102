"""Asks git about a folder (the user's e-mail, the name of the origin) in a way that runs nothing from that folder.

Folders come from session logs, so anybody may have written the repository in one. git runs:

- without hooks and file system monitor, because a repository can name programs for these;
- without any transport: git fetches missing objects of a partial clone from its remote, which can name a program, too;
- without locks, so that it never gets in the user's way;
- without a terminal or prompts, for at most two seconds, and only with the commands below.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Repositories", "Repository", "Tracking", "origin_name", "tracking"]

Tracking = Literal["untracked", "tracked", "outside", "unknown"]
"""What git knows about a file: it is untracked or tracked in a work tree, it is outside any work tree, or git gave no
answer."""

_COMMANDS = frozenset({"config", "ls-files", "remote", "rev-parse"})
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_TIMEOUT = 2.0
"""How long git may take to answer, in seconds."""
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
            facts = _ask_facts(cwd, self._timeout)
        except subprocess.TimeoutExpired:
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
    try:
        inside = _git(folder, "rev-parse", "--is-inside-work-tree")
        if inside != "true":
            return "outside"
        # The folder in between may be a repository of its own.
        for place, path in ((folder, name), (f"{folder}/{below}", last)):
            listed = _ask(place, "ls-files", "--", f":(icase){path}")
            if listed is None:
                return "unknown"
            if listed.strip():
                return "tracked"
    except subprocess.TimeoutExpired:
        return "unknown"
    return "untracked"


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
    for entry in (_ask(cwd, "config", "-z", "--get-regexp", _KEYS, timeout=timeout) or b"").split(b"\0"):
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
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT_VARIABLES
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
