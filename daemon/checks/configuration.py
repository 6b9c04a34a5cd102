"""Checks of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daemon.checks import Finding, failure, fine, warning
from daemon.config.patterns import Folders
from daemon.config.settings import Settings
from daemon.config.table import APP_NAME

__all__ = ["check_keys", "check_patterns", "check_sending", "report_problems"]


def report_problems(problems: Sequence[str]) -> Iterator[Finding]:
    """Report each problem that keeps the settings from being read."""
    for problem in problems:
        what, _, advice = problem.rpartition("; ")
        yield failure("config", what or advice, advice if what else f"`{APP_NAME} config` shows where it comes from")


def check_sending(settings: Settings, *, only_local: bool) -> Iterator[Finding]:
    """Check that the settings allow sending, and report their warnings.

    Args:
        settings: the settings in force.
        only_local: whether the user keeps sessions on this machine on purpose.
    """
    reason = settings.why_disabled()
    if reason is None:
        yield fine("config", f"sending to {settings.host}, content level {settings.content_level}")
    elif only_local:
        yield fine("config", f"sessions stay on this machine (`run --local`); `{APP_NAME} login` would send them")
    else:
        what, colon, advice = reason.partition(": ")
        if not colon:
            what, _, advice = reason.rpartition("; ")
        yield failure("config", what, advice)
    for words in settings.warnings:
        yield warning("config", words, f"`{APP_NAME} config` shows the settings in effect")


def check_keys(settings: Settings) -> Iterator[Finding]:
    """Check that each key looks like a project key: the user-wide one and those of `[[project]]` tables."""
    given = [(settings.api_key, settings.source("api_key"))] if settings.api_key is not None else []
    given += [(table.values["api_key"], table.label) for table in settings.projects if "api_key" in table.values]
    # Without any key, sending is not set up, which `check_sending` reports.
    if not given and settings.why_disabled() is None:
        yield fine("key", "no key of your own: projects have their own")
    for key, source in given:
        if key.reveal().startswith("phc_"):
            yield fine("key", f"{key.masked()} ({source})")
        else:
            yield warning(
                "key",
                f"{key.masked()} ({source}) does not start with phc_, unlike project keys",
                "compare it with the key in the settings of your project in PostHog",
            )


def check_patterns(settings: Settings, folders: Sequence[str]) -> Iterator[Finding]:
    """Report patterns that match none of the *folders* in the logs, because they may be misspelled."""
    patterns = [("include pattern", each, settings.source("include")) for each in settings.include]
    patterns += [("exclude pattern", each, settings.source("exclude")) for each in settings.exclude]
    patterns += [("path", each, table.label) for table in settings.projects for each in table.path]
    if not patterns:
        yield fine("patterns", "none: every folder is followed")
        return
    if not folders:
        yield fine("patterns", f"{len(patterns)}, and no logs yet to compare them with")
        return
    idle = [each for each in patterns if not _matches(each[1], folders)]
    for what, pattern, source in idle:
        yield warning(
            "patterns",
            f"{what} {pattern!r} matches none of the {len(folders)} folders in the logs",
            f"correct it in {source}; `~` is your home folder, `*` and `**` work as in .gitignore",
        )
    if not idle:
        followed = Folders(settings.include, settings.exclude)
        number = sum(followed.allow(folder) for folder in folders)
        yield fine("patterns", f"{number} of the {len(folders)} folders in the logs are followed")


def _matches(pattern: str, folders: Sequence[str]) -> bool:
    named = Folders(include=[pattern])
    return any(named.allow(folder) for folder in folders)
