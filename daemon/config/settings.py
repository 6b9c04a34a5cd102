"""The settings: each declared once in a table, all read at once, all problems reported together.

Precedence, first one wins: flag, environment, config.toml, the `env` block of Claude Code's user settings, default.
An empty or blank string, and an empty list, count as unset wherever they stand. What holds for the sessions of one
project, by the `[[project]]` tables of config.toml and the project's own files, is worked out in project_settings.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.config.parsers import Enabled
from daemon.config.table import APP_NAME, SETTINGS, Setting
from daemon.system.messages import one_line
from daemon.system.secret import Secret
from llma_core import events
from llma_core.privacy import ContentLevel

__all__ = ["ConfigError", "Enabled", "Entry", "ProjectTable", "Secret", "Settings"]


class ConfigError(Exception):
    """The configuration cannot be used. For the user: shown without a traceback, exit code 78.

    Attributes:
        problems: everything that is wrong, one line each: what, from where, what to do. Never a secret value.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(one_line(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One setting as it holds now.

    Attributes:
        setting: its declaration.
        value: the field of Settings.
        source: where the value came from: a flag, "environment", the path of a file, or "default".
    """

    setting: Setting
    value: object
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectTable:
    """One `[[project]]` table of config.toml: settings that hold for the sessions begun in some folders.

    Attributes:
        path: patterns of those folders, as `include` has them.
        values: what it gives, by field name.
        label: names the table to people.
    """

    path: tuple[str, ...]
    values: Mapping[str, Any]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a user can set, checked. Built by load().

    Attributes:
        api_key: project API key, or None.
        enabled: the user's word that sessions may be sent; "projects" (in config.toml only): those whose own project
            enables itself.
        host: ingestion host as `scheme://name[:port]`, without a slash at its end.
        allow_custom_host: whether *host* may be one that is not PostHog's.
        privacy_mode: whether *content* is overruled by "metadata".
        content: the content level asked for; see content_level.
        redact_secrets: whether secrets are scrubbed from what is sent.
        distinct_id: the person all events belong to; None: git's user e-mail of the session's repository.
        trace_grouping: what one trace is, a session or one prompt ("message").
        input: what a generation's input holds.
        max_attribute_length: characters kept of one string of tool content.
        custom_properties: JSON values added to each event.
        include: patterns of folders to follow; empty: all.
        exclude: patterns of folders never to send from.
        purpose: `POSTHOG_AI_PURPOSE`, or None.
        state_dir: absolute path of the daemon's own files.
        session_timeout: seconds of quiet after which a session without a live process has ended.
        claude_config_dirs: absolute paths of Claude Code's configuration folders; at least one.
        opt_out: whether the user opted out of capturing altogether.
        plugin_status_file: whether the status file of PostHog's plugin is kept.
        projects: the `[[project]]` tables, in their order.
        config_file: the config.toml that was, or would have been, read.
        warnings: one line each on what was left out although all could be read.
        sources: where each value came from, by field name.
    """

    api_key: Secret | None
    enabled: Enabled
    host: str
    allow_custom_host: bool
    privacy_mode: bool
    content: ContentLevel
    redact_secrets: bool
    distinct_id: str | None
    trace_grouping: events.Grouping
    input: events.InputMode
    max_attribute_length: int
    custom_properties: Mapping[str, Any]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    purpose: str | None
    state_dir: Path
    session_timeout: float
    claude_config_dirs: tuple[Path, ...]
    opt_out: bool
    plugin_status_file: bool
    projects: tuple[ProjectTable, ...] = ()
    config_file: Path
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str]

    @property
    def content_level(self) -> ContentLevel:
        """The content level that holds: "metadata" in privacy mode, else what *content* says."""
        return "metadata" if self.privacy_mode else self.content

    def source(self, name: str) -> str:
        """Return where the value of the field *name* came from. Raises KeyError for a name that is no setting."""
        return self.sources[name]

    def entries(self) -> Iterator[Entry]:
        """Give every setting with its value and source, in the order of the table."""
        for setting in SETTINGS:
            yield Entry(setting=setting, value=getattr(self, setting.name), source=self.sources[setting.name])

    def pairs(self) -> Iterator[tuple[str, Secret]]:
        """Give every host and key that the user's own configuration sends to, the user-wide ones first."""
        for values in ({}, *(table.values for table in self.projects)):
            key = values.get("api_key", self.api_key)
            if key is not None:
                yield values.get("host", self.host), key

    def why_disabled(self) -> str | None:
        """Return in one line what to set before anything is sent, or None when some session may be."""
        if self.opt_out:
            return f"OPT_OUT_CAPTURE is set ({self.source('opt_out')}), so nothing is sent; unset it to send"
        if self.enabled == "projects" or any(
            table.values.get("enabled", self.enabled) and table.values.get("api_key", self.api_key)
            for table in self.projects
        ):
            return None
        missing = []
        if not self.enabled:
            missing.append("POSTHOG_LLMA_CC_ENABLED=true")
        if self.api_key is None:
            missing.append("POSTHOG_API_KEY to a project key (phc_…)")
        if not missing:
            return None
        places = (
            f"the environment, {self.config_file} or the env block of {self.claude_config_dirs[0] / 'settings.json'}"
        )
        return f"sending is not set up: `{APP_NAME} login` does it, or set {' and '.join(missing)} in {places}"

    def require_enabled(self) -> None:
        """Make sure that some session may be sent.

        Raises:
            ConfigError: none may; the one problem says what to set.
        """
        if (reason := self.why_disabled()) is not None:
            raise ConfigError([reason])
