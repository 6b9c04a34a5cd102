"""What git knows of a folder: the user's e-mail and the origin's name, asked so that nothing in the folder can run.

Folders come from session logs, so a repository may be anybody's. git is run without hooks and file system monitor,
which are programs a repository can name; without any transport, because the remote of a partial clone, from which git
fetches what it misses, can name one too; without locks, so that it never stands in the user's way; without terminal and
prompt; for at most two seconds; and for no other commands than those below.
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
"""What git knows of a file: it stands in a work tree and is not tracked, or is; it stands outside any; git gave no
answer."""

_COMMANDS = frozenset({"config", "ls-files", "remote", "rev-parse"})
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_TIMEOUT_S = 2.0
_ASKED = r"^(user\.email|remote\.origin\.url|url\..*\.insteadof)$"

# Variables that say where the user's configuration is. All others of git's are left out: those a hook is run with
# point at another repository, and those that trace write files.
_KEPT_VARIABLES = frozenset(
    {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES"}
)

_MAX_LENGTH = 200
# [user@]host:path, where the host is more than a drive letter.
_SCP = re.compile(r"(?:[^@/:]+@)?(?:\[[^\]/]+\]|[^:/@\[\]]{2,}):(?!:)(?P<path>.+)")
_REMOTE_SCHEMES = frozenset({"ssh", "git+ssh", "ssh+git", "https", "http", "git"})
_SEGMENT = re.compile(r"[\w.~+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """The facts of one folder.

    Attributes:
        user_email: git's user.email as it holds there, or None.
        origin: `owner/name` of the remote called origin, groups included, or None.
    """

    user_email: str | None
    origin: str | None


class Repositories:
    """Facts by folder, remembered for the *capacity* folders asked for last. May be used from several threads."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._known: OrderedDict[str, Repository] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, cwd: str) -> Repository:
        """Return the facts of the folder *cwd*, asking git the first time. Waits for git, some seconds at worst."""
        with self._lock:
            if cwd in self._known:
                self._known.move_to_end(cwd)
                return self._known[cwd]
        try:
            facts = _facts(cwd)
        except subprocess.TimeoutExpired:
            # A busy machine is no fact of the folder: not remembered.
            return Repository(user_email=None, origin=None)
        with self._lock:
            self._known[cwd] = facts
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return facts


def tracking(folder: str, name: str) -> Tracking:
    """Return what git knows of the file *name* in a folder below *folder*, such as `.claude/settings.json`.

    A name that differs in case only counts as the same: there are file systems on which it is.
    """
    below, _, last = name.rpartition("/")
    try:
        inside = _git(folder, "rev-parse", "--is-inside-work-tree")
        if inside != "true":
            return "outside"
        # The folder in between may have a repository of its own.
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
    """Return the path of a remote's *url* as `owner/name`: no scheme, host, credentials, query or `.git`.

    Groups are kept (`group/sub/name`). A local path, a helper's address, or a path of fewer than two names gives None.
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


def _facts(cwd: str) -> Repository:
    """Ask git, once: each question is a process of its own.

    Raises:
        subprocess.TimeoutExpired: git did not answer in time.
    """
    said: dict[str, list[str]] = {}
    for entry in (_ask(cwd, "config", "-z", "--get-regexp", _ASKED) or b"").split(b"\0"):
        try:
            key, _, value = entry.decode().partition("\n")
        except UnicodeDecodeError:
            continue
        said.setdefault(key, []).append(value.strip())
    # The last of several addresses holds, and the first of several places.
    email = said.pop("user.email", [""])[-1]
    url: str | None = said.pop("remote.origin.url", [""])[0]
    if url and any(key.startswith("url.") for key in said):
        # Another beginning may stand for the one that is written.
        url = _git(cwd, "remote", "get-url", "origin")
    return Repository(
        user_email=email if email and len(email) <= _MAX_LENGTH and email.isprintable() else None,
        origin=origin_name(url) if url else None,
    )


def _git(cwd: str, command: str, *arguments: str) -> str | None:
    """Return what `git command` prints in the folder *cwd*, without blanks around it; None where it fails or is mute.

    Raises:
        subprocess.TimeoutExpired: git did not answer in time; it has been killed.
    """
    answer = _ask(cwd, command, *arguments)
    try:
        return None if answer is None else answer.decode().strip() or None
    except UnicodeDecodeError:
        return None


def _ask(cwd: str, command: str, *arguments: str) -> bytes | None:
    """Return all that `git command` prints in the folder *cwd*; None where it fails.

    Raises:
        subprocess.TimeoutExpired: git did not answer in time; it has been killed.
    """
    assert command in _COMMANDS
    program = shutil.which("git")
    # A relative entry in PATH would look for git in whatever folder it is run in.
    if program is None or not program.startswith("/") or not cwd.startswith("/"):
        return None
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT_VARIABLES
    }
    environ |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        # A list of transports overrules what a repository allows; on it is the name of none.
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
    }
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed program and command; the folder is an argument of its own
            # -C rather than the child's cwd: a folder that hangs must hang git, which the timeout ends, not us.
            [program, *_SAFE, "-C", cwd, command, *arguments],
            cwd="/",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            start_new_session=True,
            check=False,
        )
    except (OSError, ValueError):
        # ValueError: a path with a NUL or a lone surrogate, which no folder has.
        return None
    return answer.stdout if answer.returncode == 0 else None
