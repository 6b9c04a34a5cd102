"""Checks of Claude Code: whether it is installed, writes logs, and keeps them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from daemon.checks import Finding, failure, fine, warning
from daemon.config.claude_settings import cleanup_days, read_env
from daemon.following.log_roots import roots_below
from daemon.following.log_tree import project_folders, project_logs, root_logs
from daemon.following.opening import first_cwd
from daemon.system.command import CommandError, run
from daemon.system.small_file import UnreadableFileError

__all__ = ["check_client", "check_logs", "check_persistence", "logged_folders"]

_DAY = 86_400.0
_FEW_DAYS = 7
_TRUE = frozenset({"1", "true", "yes", "on"})
_NO_HISTORY = "CLAUDE_CODE_SKIP_PROMPT_HISTORY"


def check_client(environ: Mapping[str, str], home: Path) -> Finding:
    """Check whether Claude Code is installed, and which version."""
    places = (home / ".local" / "bin" / "claude", home / ".claude" / "local" / "claude")
    found = shutil.which("claude", path=environ.get("PATH")) or next(
        (str(each) for each in places if each.exists()), None
    )
    if found is None:
        return warning(
            "Claude Code",
            "no program claude on the PATH",
            "nothing to do if your sessions come from an editor, an app or the SDK: the daemon follows their logs too",
        )
    try:
        ran = run(found, "--version", environ=environ)
    except CommandError as error:
        return warning("Claude Code", str(error), f"run `{found} --version` to see why")
    version = (ran.stdout.split() or ["?"])[0]
    if ran.status != 0 or not version[:1].isdigit():
        return warning(
            "Claude Code",
            f"{found} does not print its version ({ran.complaint})",
            f"run `{found} --version` to see why",
        )
    return fine("Claude Code", f"{version} ({found})")


def check_logs(config_dirs: Sequence[Path], now: float) -> Iterator[Finding]:
    """Check that each config folder has logs, and how old the newest is.

    Args:
        config_dirs: Claude Code's configuration folders.
        now: seconds since the epoch.
    """
    for root in (root for folder in config_dirs for root in roots_below(folder)):
        times = [status.st_mtime for _, status in root_logs(root)]
        if times:
            days = max(0.0, now - max(times)) / _DAY
            age = "today" if days < 1 else f"{days:.0f} days ago"
            yield fine("logs", f"{len(times):,} in {root.path}, the newest from {age}")
        else:
            yield warning(
                "logs",
                f"none in {root.path}",
                "start a Claude Code session; if it keeps its logs elsewhere, set CLAUDE_CONFIG_DIR",
            )


def check_persistence(config_dirs: Sequence[Path], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check that Claude Code is not configured to write no logs, or to remove them soon."""
    findings = []
    places = [(f"the environment's {_NO_HISTORY}", environ.get(_NO_HISTORY, ""))]
    for folder in config_dirs:
        path = folder / "settings.json"
        places.append((f"{_NO_HISTORY} in {path}", _env(folder).get(_NO_HISTORY, "")))
        days = cleanup_days(folder)
        if days < _FEW_DAYS:
            words = f"cleanupPeriodDays in {path} is {days}"
            findings.append(
                warning(
                    "session persistence",
                    f"{words}: it removes older logs",
                    "raise it, for backfills to have more time",
                )
                if days
                else failure(
                    "session persistence",
                    f"{words}: some versions of Claude Code then write no logs and remove existing ones",
                    "remove it",
                )
            )
    findings += [
        failure("session persistence", f"{place} stops Claude Code from writing logs", "unset it")
        for place, value in places
        if value.strip().lower() in _TRUE
    ]
    yield from findings or [fine("session persistence", "on, except for runs with --no-session-persistence")]


def logged_folders(config_dirs: Sequence[Path]) -> list[str]:
    """Return the folders that the newest log of each project started in."""
    found: dict[str, None] = {}
    for root in (root for folder in config_dirs for root in roots_below(folder)):
        for project in project_folders(root):
            logs = [(status.st_mtime, path) for path, status in project_logs(root.agent, project)]
            if logs and (cwd := first_cwd(root.agent, max(logs)[1])) is not None:
                found[cwd] = None
    return list(found)


def _env(folder: Path) -> Mapping[str, str]:
    try:
        return read_env(folder)
    except UnreadableFileError:
        # Loading the settings reports this.
        return {}
